use selvedge_model::policy::Mode;

use super::*;

#[test]
fn a_denial_names_the_policy_that_isolates_and_who_is_not_admitted() {
    let world = world([
        ("x/allow-b", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": by("pod", "b")}]}]})),
        ("x/deny-all", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
    ]);
    let said =
        |source: &str, destination: &str, protocol| world.from(source, destination, protocol).to_string();
    assert_eq!(
        said("10.244.1.11", "10.244.1.1", Protocol::Port(Transport::Tcp, 8080)),
        "denied at x/a, ingress: selected by x/deny-all; no rule of 2 policies admits y/a on TCP/8080"
    );
    assert_eq!(
        said("10.244.1.2", "10.244.2.3", UDP80),
        "denied at x/b, egress: selected by x/deny-all; no rule of 1 policy admits c on UDP/80"
    );
    assert_eq!(
        said("192.0.2.9", "10.244.1.1", Protocol::ICMP),
        "denied at x/a, ingress: selected by x/deny-all; no rule of 2 policies admits 192.0.2.9 on ICMP"
    );
    let node = Source::Host("node-2".parse().unwrap(), address("172.30.0.2"));
    assert_eq!(
        world.judge(node, "10.244.1.1", SCTP80).to_string(),
        "denied at x/a, ingress: selected by x/deny-all; no rule of 2 policies admits node node-2 (172.30.0.2) on \
         SCTP/80"
    );
}

#[test]
fn a_flow_that_passes_names_what_admits_it_at_both_ends() {
    let rules = json!([{"ports": [{"port": 81}]}, {"from": [{"namespaceSelector": {}}]}]);
    let world = world([("x/in", json!({"podSelector": {}, "ingress": rules}))]);
    let said = |source: &str, destination: &str| world.from(source, destination, TCP80).to_string();
    assert_eq!(
        said("10.244.1.11", "10.244.1.1"),
        "allowed; egress: no policy selects it; ingress: admitted by x/in spec.ingress[1]"
    );
    assert_eq!(
        said("10.244.1.1", "172.30.0.1"),
        "allowed; egress: a pod and its own node always reach each other; ingress: no pod that policies are about"
    );
}

/// A refused policy without a last good form isolates the pods that it selects, and opens nothing.
#[test]
fn a_refused_policy_closes_what_it_selects_and_is_named() {
    let rule = json!({"from": [{"podSelector": {}}], "ports": [{"port": 0}]});
    let key = PolicyKey { namespace: "x".to_owned(), name: "bad".to_owned() };
    let refused = read(key, &json!({"podSelector": by("pod", "a"), "ingress": [rule]})).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "NetworkPolicy x/bad: spec.ingress[0].ports[0].port: 0 is no port: 1 to 65535"
    );
    let mut world = world([("x/open", json!({"podSelector": by("pod", "b"), "ingress": [{}]}))]);
    world.policies.push(*refused.closed);
    world.expect(TCP80, |_, to| to != "x/a");
    assert_eq!(
        world.from("10.244.1.2", "10.244.1.1", TCP80).to_string(),
        "denied at x/a, ingress: selected by x/bad; no rule of 1 policy admits b on TCP/80 (refused, so closed: x/bad)"
    );
}

#[test]
fn a_shadow_denies_nothing_and_says_what_it_would_where_no_policy_isolates() {
    let shadow = |key, spec| Policy { mode: Mode::Shadow, ..policy(key, spec) };
    let mut world = world([("x/in-force", json!({"podSelector": by("pod", "b"), "ingress": [{}]}))]);
    let from_b = json!([{"from": [{"podSelector": by("pod", "b")}]}]);
    world.policies.push(shadow("x/trial", json!({"podSelector": {}, "ingress": from_b})));
    world.expect(TCP80, |_, _| true);
    let cluster = world.cluster();
    let would = |source: &str, destination: &str, direction| {
        let (source, destination) = (Source::Address(address(source)), address(destination));
        let flow = Flow { source, destination, protocol: TCP80 };
        Ends::of(&cluster, &flow).would_deny(direction).map(|reason| reason.to_string())
    };
    let (xa, xb, ya) = ("10.244.1.1", "10.244.1.2", "10.244.1.11");
    let why = "selected by x/trial; no rule of 1 policy admits y/a on TCP/80";
    assert_eq!(would(ya, xa, Direction::Ingress).as_deref(), Some(why));
    assert_eq!(would(xb, xa, Direction::Ingress), None, "its rule admits");
    assert_eq!(would(ya, xb, Direction::Ingress), None, "what is in force admits, the shadow can only add");
    assert_eq!(would(xa, ya, Direction::Egress), None, "it is about the other direction");
    assert_eq!(would(xa, xa, Direction::Ingress), None, "a pod reaches itself");
}
