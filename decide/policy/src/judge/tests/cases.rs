use super::*;

fn deny_ingress() -> Value {
    json!({"podSelector": {}, "ingress": []})
}

#[test]
fn without_policies_everybody_reaches_everybody() {
    for protocol in [TCP80, UDP80, SCTP80, Protocol::ICMP] {
        world([]).expect(protocol, |_, _| true);
    }
}

#[test]
fn a_policy_without_rules_denies_all_ingress_of_its_namespace_and_nothing_else() {
    for protocol in [TCP80, UDP81, SCTP80, Protocol::ICMP] {
        world([("x/deny", deny_ingress())]).expect(protocol, |_, to| ns(to) != "x");
    }
}

#[test]
fn a_policy_of_both_types_without_rules_denies_both_ways() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    world([("x/deny", spec)]).expect(TCP80, |from, to| ns(from) != "x" && ns(to) != "x");
}

#[test]
fn egress_alone_leaves_ingress_open() {
    let spec = json!({"podSelector": by("pod", "a"), "policyTypes": ["Egress"]});
    world([("x/deny", spec)]).expect(TCP80, |from, _| from != "x/a");
    let all = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    world([("x/deny", all)]).expect(TCP80, |from, _| ns(from) != "x");
}

#[test]
fn a_pod_selector_admits_pods_of_the_policys_own_namespace_only() {
    let spec =
        json!({"podSelector": by("pod", "a"), "ingress": [{"from": [{"podSelector": by("pod", "b")}]}]});
    world([("x/from-b", spec)]).expect(TCP80, |from, to| to != "x/a" || from == "x/b");
    let any = json!({"podSelector": by("pod", "a"), "ingress": [{"from": [{"podSelector": {}}]}]});
    world([("x/from-x", any)]).expect(TCP80, |from, to| to != "x/a" || ns(from) == "x");
}

#[test]
fn a_namespace_selector_admits_all_pods_of_the_namespaces_it_selects() {
    let from = |selector: Value| json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": selector}]}]});
    world([("x/from-y", from(by("ns", "y")))]).expect(TCP80, |from, to| ns(to) != "x" || ns(from) == "y");
    world([("x/all", from(json!({})))]).expect(TCP80, |_, _| true);
    world([("x/named", from(by("kubernetes.io/metadata.name", "z")))])
        .expect(TCP80, |from, to| ns(to) != "x" || ns(from) == "z");
    let not_y = json!({"matchExpressions":
        [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["y"]}]});
    world([("x/not-y", from(not_y))]).expect(TCP80, |from, to| ns(to) != "x" || ns(from) != "y");
    let several = json!({"matchExpressions": [{"key": "ns", "operator": "In", "values": ["x", "z"]}]});
    world([("x/in", from(several))]).expect(TCP80, |from, to| ns(to) != "x" || ns(from) != "y");
}

#[test]
fn pod_selectors_can_have_expressions() {
    let selector = json!({"matchExpressions": [{"key": "pod", "operator": "In", "values": ["b"]}]});
    let spec = json!({"podSelector": by("pod", "a"), "ingress": [{"from": [{"podSelector": selector}]}]});
    world([("x/from-b", spec)]).expect(TCP80, |from, to| to != "x/a" || from == "x/b");
    let selector = json!({"matchExpressions": [{"key": "pod", "operator": "NotIn", "values": ["a", "b"]}]});
    world([("x/deny-c", json!({"podSelector": selector}))]).expect(TCP80, |_, to| to != "x/c");
}

/// One entry with two selectors, and two entries with one each.
#[test]
fn both_selectors_of_an_entry_must_hold_and_one_of_several_entries_is_enough() {
    let spec = |from: Value| json!({"podSelector": by("pod", "a"), "ingress": [{"from": from}]});
    let both = json!([{"namespaceSelector": by("ns", "y"), "podSelector": by("pod", "b")}]);
    world([("x/and", spec(both))]).expect(TCP80, |from, to| to != "x/a" || from == "y/b");
    let either = json!([{"namespaceSelector": by("ns", "y")}, {"podSelector": by("pod", "b")}]);
    world([("x/or", spec(either))]).expect(TCP80, |from, to| to != "x/a" || ns(from) == "y" || from == "x/b");
    let anywhere = json!([{"namespaceSelector": {}, "podSelector": by("pod", "b")}]);
    world([("x/b", spec(anywhere))]).expect(TCP80, |from, to| to != "x/a" || name(from) == "b");
}

#[test]
fn ports_are_of_their_protocol_and_a_rule_needs_both_peer_and_port() {
    let spec = |rule: Value| json!({"podSelector": by("pod", "a"), "ingress": [rule]});
    let port = world([("x/81", spec(json!({"ports": [{"port": 81}]})))]);
    port.expect(TCP81, |_, _| true);
    for protocol in [TCP80, UDP81, Protocol::Port(Transport::Sctp, 81), Protocol::ICMP] {
        port.expect(protocol, |_, to| to != "x/a");
    }
    let rule = json!({"from": [{"namespaceSelector": by("ns", "y")}], "ports": [{"port": 81}]});
    let from_y = world([("x/y81", spec(rule))]);
    from_y.expect(TCP81, |from, to| to != "x/a" || ns(from) == "y");
    from_y.expect(TCP80, |_, to| to != "x/a");
    let udp = world([("x/udp", spec(json!({"ports": [{"protocol": "UDP"}]})))]);
    udp.expect(UDP80, |_, _| true);
    udp.expect(UDP81, |_, _| true);
    udp.expect(TCP80, |_, to| to != "x/a");
    let sctp = world([("x/sctp", spec(json!({"ports": [{"protocol": "SCTP", "port": 80}]})))]);
    sctp.expect(SCTP80, |_, _| true);
    sctp.expect(TCP80, |_, to| to != "x/a");
}

#[test]
fn an_end_port_makes_a_range_with_both_ends() {
    let spec = json!({"podSelector": by("pod", "a"), "ingress": [{"ports": [{"port": 81, "endPort": 90}]}]});
    let range = world([("x/range", spec)]);
    for (port, expected) in [(80, false), (81, true), (85, true), (90, true), (91, false)] {
        range.expect(Protocol::Port(Transport::Tcp, port), |_, to| expected || to != "x/a");
    }
}

#[test]
fn policies_add_up_and_none_takes_anything_away() {
    let port = |port| json!({"podSelector": by("pod", "a"), "ingress": [{"ports": [{"port": port}]}]});
    let one = world([("x/80", port(80))]);
    one.expect(TCP81, |_, to| to != "x/a");
    let two = world([("x/80", port(80)), ("x/81", port(81))]);
    two.expect(TCP80, |_, _| true);
    two.expect(TCP81, |_, _| true);
    let open = json!({"podSelector": {}, "ingress": [{}]});
    world([("x/80", port(80)), ("x/all", open.clone())]).expect(TCP81, |_, _| true);
    world([("x/deny", deny_ingress()), ("x/all", open)]).expect(UDP80, |_, _| true);
}

#[test]
fn ingress_and_egress_must_both_agree() {
    let from_z =
        json!({"podSelector": by("pod", "a"), "ingress": [{"from": [{"namespaceSelector": by("ns", "z")}]}]});
    let to_y = json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"namespaceSelector": by("ns", "y")}]}]});
    world([("x/from-z", from_z), ("z/to-y", to_y)]).expect(TCP80, |from, to| {
        let leaves = ns(from) != "z" || ns(to) == "y";
        leaves && (to != "x/a" || ns(from) == "z")
    });
    let both = json!({"podSelector": by("pod", "a"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": by("pod", "b")}]}],
        "egress": [{"to": [{"podSelector": by("pod", "c")}]}]});
    world([("x/both", both)])
        .expect(TCP80, |from, to| (to != "x/a" || from == "x/b") && (from != "x/a" || to == "x/c"));
}

#[test]
fn a_named_port_is_what_the_pod_that_traffic_goes_to_calls_so() {
    let ports = json!([{"port": "serve-80"}]);
    let ingress = world([("x/named", json!({"podSelector": {}, "ingress": [{"ports": ports}]}))]);
    ingress.expect(TCP80, |_, _| true);
    ingress.expect(TCP81, |_, to| ns(to) != "x");
    ingress.expect(UDP80, |_, to| ns(to) != "x");
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": ports}]});
    let egress = world([("x/named", spec)]);
    egress.expect(TCP80, |_, _| true);
    egress.expect(TCP81, |from, _| ns(from) != "x");
    for mut world in [ingress, egress] {
        world.pod("x/a").ports[0].number = NonZeroU16::new(81).unwrap();
        let is_egress = world.policies[0].ingress.is_none();
        let judged = |from: &str, to: &str| if is_egress { ns(from) == "x" } else { ns(to) == "x" };
        world.expect(TCP80, |from, to| !judged(from, to) || to != "x/a");
        world.expect(TCP81, |from, to| !judged(from, to) || to == "x/a");
        world.pod("x/b").ports.clear();
        world.expect(TCP80, |from, to| !judged(from, to) || !["x/a", "x/b"].contains(&to));
    }
}

/// Nobody outside of the cluster has ports with names, and no node.
#[test]
fn a_named_port_admits_nothing_towards_what_is_no_pod() {
    let rule = json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": "serve-80"}]});
    let world = world([("x/named", json!({"podSelector": {}, "egress": [rule]}))]);
    assert!(world.from("10.244.1.1", "10.244.1.11", TCP80).is_allowed());
    assert!(!world.from("10.244.1.1", "192.0.2.9", TCP80).is_allowed());
    assert!(!world.from("10.244.1.1", "172.30.0.2", TCP80).is_allowed());
}

#[test]
fn a_block_means_addresses_whoever_has_them() {
    const TO: [&str; 1] = ["Egress"];
    let to =
        |block: Value| json!({"podSelector": by("pod", "a"), "egress": [{"to": [block]}], "policyTypes": TO});
    // x's and y's pods on the first node, but for y/b.
    let block = json!({"ipBlock": {"cidr": "10.244.1.0/28", "except": ["10.244.1.12/32"]}});
    let v4 = world([("x/to", to(block.clone()))]);
    for (destination, expected) in [
        ("10.244.1.2", true),
        ("10.244.1.11", true),
        ("10.244.1.12", false),
        ("10.244.2.3", false),
        ("192.0.2.9", false),
    ] {
        assert_eq!(v4.from("10.244.1.1", destination, TCP80).is_allowed(), expected, "{destination}");
    }
    assert!(!v4.from("fd00:244:1::1", "fd00:244:1::2", TCP80).is_allowed(), "the block is IPv4 alone");
    // What one block leaves out another may have.
    let policies = [("x/to", to(block)), ("x/too", to(json!({"ipBlock": {"cidr": "10.244.1.12/32"}})))];
    assert!(world(policies).from("10.244.1.1", "10.244.1.12", TCP80).is_allowed());
    let block = json!({"ipBlock": {"cidr": "fd00:244:2::/64"}});
    let v6 = world([("x/from", json!({"podSelector": by("pod", "a"), "ingress": [{"from": [block]}]}))]);
    assert!(v6.from("fd00:244:2::3", "fd00:244:1::1", TCP80).is_allowed());
    assert!(!v6.from("fd00:244:1::2", "fd00:244:1::1", TCP80).is_allowed());
}

#[test]
fn icmp_passes_where_a_rule_says_nothing_of_ports() {
    let spec =
        json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}, {"ports": [{"port": 80}]}]});
    let world = world([("x/own", spec)]);
    for protocol in [Protocol::ICMP, Protocol::Other(47)] {
        world.expect(protocol, |from, to| ns(to) != "x" || ns(from) == "x");
    }
}

#[test]
fn labels_that_change_change_what_is_admitted() {
    let from = json!([{"namespaceSelector": by("team", "new"), "podSelector": by("role", "client")}]);
    let spec = json!({"podSelector": by("pod", "a"), "ingress": [{"from": from}]});
    let mut world = world([("x/from", spec)]);
    world.expect(TCP80, |_, to| to != "x/a");
    world.pod("y/b").labels = labels(&[("pod", "b"), ("role", "client")]);
    world.expect(TCP80, |_, to| to != "x/a");
    world.namespaces.insert("y".to_owned(), labels(&[("ns", "y"), ("team", "new")]));
    world.expect(TCP80, |from, to| to != "x/a" || from == "y/b");
    world.pod("x/a").labels = labels(&[]);
    world.expect(TCP80, |_, _| true);
}
