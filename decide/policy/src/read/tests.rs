use serde_json::json;

use super::*;

fn key() -> PolicyKey {
    PolicyKey { namespace: "shop".to_owned(), name: "deny".to_owned() }
}

fn good(spec: Value) -> Policy {
    read(key(), &spec).unwrap_or_else(|why| panic!("{why}"))
}

fn refused(spec: Value) -> Refused {
    read(key(), &spec).unwrap_err()
}

/// The directions that a policy isolates its pods in.
fn directions_of(policy: &Policy) -> Vec<Direction> {
    Direction::ALL.into_iter().filter(|direction| policy.rules(*direction).is_some()).collect()
}

#[test]
fn policy_types_are_ingress_and_where_there_is_a_rule_egress_unless_they_are_given() {
    use Direction::{Egress, Ingress};
    let rule = json!([{}]);
    for (spec, expected) in [
        (json!(null), vec![Ingress]),
        (json!({}), vec![Ingress]),
        (json!({"podSelector": {}}), vec![Ingress]),
        (json!({"podSelector": {}, "policyTypes": []}), vec![Ingress]),
        (json!({"podSelector": {}, "egress": []}), vec![Ingress]),
        (json!({"podSelector": {}, "egress": rule}), vec![Ingress, Egress]),
        (json!({"podSelector": {}, "ingress": rule, "egress": rule}), vec![Ingress, Egress]),
        (json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": rule}), vec![Egress]),
        (json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": rule}), vec![Ingress]),
        (json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}), vec![Ingress, Egress]),
    ] {
        assert_eq!(directions_of(&good(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn missing_and_empty_lists_mean_the_same_inside_a_rule_and_not_outside() {
    for from in [json!({}), json!({"from": []}), json!({"from": null, "ports": []})] {
        let policy = good(json!({"ingress": [from]}));
        assert_eq!(policy.ingress, Some(vec![Rule { peers: Peers::Anyone, ports: Ports::Any }]));
    }
    for spec in [json!({}), json!({"ingress": []}), json!({"ingress": null})] {
        assert_eq!(good(spec).ingress, Some(Vec::new()), "isolates, and admits nothing");
    }
}

#[test]
fn peers_are_pods_of_the_namespace_of_other_namespaces_or_addresses() {
    let policy = good(json!({"egress": [{"to": [
        {"podSelector": {}},
        {"namespaceSelector": {}},
        {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {"matchLabels": {"app": "web"}}},
        {"ipBlock": {"cidr": "10.0.0.1/8", "except": ["10.1.0.0/16"]}}]}]}));
    let all = Selector::everything;
    let one = |key: &str, value| Selector::from_iter([Requirement::In(key.to_owned(), Values::one(value))]);
    let block = IpBlock::new("10.0.0.0/8".parse().unwrap(), ["10.1.0.0/16".parse().unwrap()]).unwrap();
    let expected = vec![
        Peer::Pods(PodPeer { namespaces: Namespaces::Own, pods: all() }),
        Peer::Pods(PodPeer { namespaces: Namespaces::Labelled(all()), pods: all() }),
        Peer::Pods(PodPeer { namespaces: Namespaces::Labelled(one("team", "a")), pods: one("app", "web") }),
        Peer::Block(block),
    ];
    assert_eq!(policy.egress.unwrap()[0].peers, Peers::Of(expected));
}

#[test]
fn ports_are_numbers_ranges_names_or_all_of_a_protocol() {
    let policy = good(json!({"ingress": [{"ports": [
        {"port": 80}, {"protocol": "UDP"}, {"protocol": "SCTP", "port": 1, "endPort": 65535}, {"port": "http"}]}]}));
    let number = |number| NonZeroU16::new(number).unwrap();
    let port = |transport, which| Port { transport, which };
    let expected = vec![
        port(Transport::Tcp, Which::Numbers(PortRange::one(number(80)))),
        port(Transport::Udp, Which::All),
        port(Transport::Sctp, Which::Numbers(PortRange::new(number(1), number(65535)).unwrap())),
        port(Transport::Tcp, Which::Named(PortName::new("http").unwrap())),
    ];
    assert_eq!(policy.ingress.unwrap()[0].ports, Ports::Of(expected));
}

#[test]
fn selectors_with_the_same_requirements_are_equal_however_they_are_written() {
    let selects = |selector: Value| good(json!({"podSelector": selector})).selects;
    let expressions = json!([{"key": "a", "operator": "In", "values": ["1"]}, {"key": "b", "operator": "Exists"},
        {"key": "c", "operator": "NotIn", "values": ["y", "x", "x"]}, {"key": "k8s.io/d", "operator": "DoesNotExist"}]);
    let one = selects(json!({"matchLabels": {"a": "1"}, "matchExpressions": expressions}));
    assert_eq!(one, selects(json!({"matchExpressions": expressions})));
    assert_eq!(one.to_string(), "{a=1,c notin (x,y),b,!k8s.io/d}");
}

/// Each spec of `faults.txt` is refused; the line after it says why.
#[test]
fn what_is_wrong_is_named_by_kind_name_and_field() {
    let cases: Vec<_> = include_str!("faults.txt").split("\n\n").collect();
    for case in &cases {
        let (spec, expected) = case.trim_end().split_once("\n=> ").unwrap();
        let why = refused(serde_json::from_str(spec).unwrap()).to_string();
        assert_eq!(why, format!("NetworkPolicy shop/deny: {expected}"), "{spec}");
    }
    assert_eq!(cases.len(), 28);
}

#[test]
fn a_refused_policy_closes_the_pods_it_selects_in_its_directions_and_more_only_where_that_cannot_be_read() {
    use Direction::{Egress, Ingress};
    let (web, bad) = (json!({"matchLabels": {"app": "web"}}), json!([{"ports": [{"port": 0}]}]));
    for (spec, selects, directions) in [
        (json!({"podSelector": web, "ingress": bad}), "{app=web}", vec![Ingress]),
        (json!({"podSelector": web, "egress": bad}), "{app=web}", vec![Ingress, Egress]),
        (json!({"podSelector": web, "egress": "none"}), "{app=web}", vec![Ingress, Egress]),
        (json!({"podSelector": web, "policyTypes": ["Egress"], "ingress": bad}), "{app=web}", vec![Egress]),
        (json!({"podSelector": web, "policyTypes": ["Engress"]}), "{app=web}", vec![Ingress, Egress]),
        (json!({"podSelector": {"matchLabel": {}}}), "{}", vec![Ingress]),
        (json!({"podSelector": "web", "policyTypes": ["Egress"]}), "{}", vec![Egress]),
        (json!("nothing"), "{}", vec![Ingress, Egress]),
    ] {
        let refused = refused(spec.clone());
        assert_eq!(refused.closed.selects.to_string(), selects, "{spec}");
        assert_eq!(directions_of(&refused.closed), directions, "{spec}");
        let rules = Direction::ALL.into_iter().filter_map(|direction| refused.closed.rules(direction));
        assert!(rules.flatten().next().is_none(), "{spec}");
        assert_eq!(refused.closed.refused, Some(format!("{}: {}", refused.path, refused.what)));
    }
}

#[test]
fn a_mode_is_read_and_one_that_is_not_known_closes_the_policy() {
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]});
    for (mode, expected) in [
        (None, Mode::Enforced),
        (Some(json!(null)), Mode::Enforced),
        (Some(json!("enforced")), Mode::Enforced),
        (Some(json!("shadow")), Mode::Shadow),
    ] {
        let policy = in_mode(read(key(), &spec), mode.as_ref()).unwrap();
        assert_eq!(policy, Policy { mode: expected, ..good(spec.clone()) });
    }
    for mode in [json!("Shadow"), json!(""), json!(true)] {
        let refused = in_mode(read(key(), &spec), Some(&mode)).unwrap_err();
        let path = "metadata.annotations[\"selvedge.dev/mode\"]";
        let what = format!("{mode} is no mode: enforced or shadow");
        let expected = format!("NetworkPolicy shop/deny: {path}: {what}");
        assert_eq!(refused.to_string(), expected);
        let closed = Policy {
            ingress: Some(Vec::new()),
            refused: refused.closed.refused.clone(),
            ..good(spec.clone())
        };
        assert_eq!(*refused.closed, closed, "selects the same pods, admits nothing, and is in force");
        assert!(closed.refused.is_some());
    }
}

#[test]
fn what_is_wrong_with_a_shadow_does_not_bring_it_into_force_and_an_unknown_mode_does() {
    let spec = json!({"ingress": [{"ports": [{"port": 0}]}]});
    for (mode, expected) in [("shadow", Mode::Shadow), ("shade", Mode::Enforced)] {
        let refused = in_mode(read(key(), &spec), Some(&json!(mode))).unwrap_err();
        assert_eq!((&*refused.path, refused.closed.mode), ("spec.ingress[0].ports[0].port", expected));
    }
}
