use super::*;
use selvedge_model::policy::Mode;

/// Denies x everything, both ways.
fn closed() -> World {
    world([("x/deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))])
}

/// Admits only b of x to a of x.
fn only_b() -> World {
    world([(
        "x/b",
        json!({"podSelector": by("pod", "a"), "ingress": [{"from": [{"podSelector": by("pod", "b")}]}]}),
    )])
}

fn host(node: &str, text: &str) -> Source {
    Source::Host(node.parse().unwrap(), address(text))
}

#[test]
fn a_pod_and_its_own_node_always_reach_each_other() {
    let world = closed();
    for (node, pod) in [("172.30.0.1", "10.244.1.1"), ("fd00:30::1", "fd00:244:1::1")] {
        assert!(world.judge(host("node-1", node), pod, TCP80).is_allowed(), "the kubelet probes {pod}");
        assert!(world.from(pod, node, TCP80).is_allowed());
    }
    assert!(!world.judge(host("node-2", "172.30.0.2"), "10.244.1.1", TCP80).is_allowed());
    assert!(!world.from("10.244.1.1", "172.30.0.2", TCP80).is_allowed());
}

/// A connection to a NodePort that its node masqueraded, for example.
#[test]
fn what_only_bears_a_nodes_address_is_judged_by_it() {
    assert!(!closed().from("172.30.0.1", "10.244.1.1", TCP80).is_allowed());
    let block = json!([{"ipBlock": {"cidr": "172.30.0.0/24"}}]);
    let nodes = world([("x/nodes", json!({"podSelector": {}, "ingress": [{"from": block}]}))]);
    assert!(nodes.from("172.30.0.1", "10.244.1.1", TCP80).is_allowed());
    assert!(nodes.judge(host("node-2", "172.30.0.2"), "10.244.1.1", TCP80).is_allowed());
}

#[test]
fn a_pod_always_reaches_itself() {
    assert!(closed().from("10.244.1.1", "10.244.1.1", TCP80).is_allowed());
    assert!(!closed().from("10.244.1.1", "10.244.1.2", TCP80).is_allowed());
}

#[test]
fn a_pod_in_its_nodes_network_is_no_pod_to_policies() {
    let from_x =
        json!({"podSelector": by("pod", "a"), "ingress": [{"from": [{"namespaceSelector": by("ns", "x")}]}]});
    let mut world = world([("x/deny", json!({"podSelector": {}})), ("y/from", from_x)]);
    world.pod("x/c").host_network = true;
    world.pod("x/c").addresses = vec![address("172.30.0.2")];
    assert!(world.from("10.244.1.11", "172.30.0.2", TCP80).is_allowed(), "it isn't isolated");
    assert!(
        !world.judge(host("node-2", "172.30.0.2"), "10.244.1.11", TCP80).is_allowed(),
        "it isn't selected"
    );
    assert!(!world.from("172.30.0.2", "10.244.1.11", TCP80).is_allowed());
    assert!(world.from("10.244.1.1", "10.244.1.11", TCP80).is_allowed());
}

#[test]
fn an_address_of_a_pod_that_has_ended_is_nobodys_or_its_successors() {
    let mut world = only_b();
    assert!(world.from("10.244.1.2", "10.244.1.1", TCP80).is_allowed());
    world.pod("x/b").finished = true;
    assert!(!world.from("10.244.1.2", "10.244.1.1", TCP80).is_allowed(), "nobody has it");
    world.pod("y/b").addresses = vec![address("10.244.1.2")];
    assert!(!world.from("10.244.1.2", "10.244.1.1", TCP80).is_allowed(), "y/b has it now");
    world.pod("y/b").addresses.clear();
    world.pod("x/c").labels = labels(&[("pod", "b")]);
    world.pod("x/c").addresses = vec![address("10.244.1.2")];
    assert!(world.from("10.244.1.2", "10.244.1.1", TCP80).is_allowed(), "x/c has it now");
    world.pod("x/a").finished = true;
    assert!(world.from("10.244.1.11", "10.244.1.1", TCP80).is_allowed(), "what has ended isn't isolated");
}

#[test]
fn an_address_of_several_pods_passes_only_what_passes_for_each() {
    let mut world = only_b();
    world.pod("y/c").addresses = vec![address("10.244.1.2")];
    let verdict = world.from("10.244.1.2", "10.244.1.1", TCP80);
    assert_eq!(
        verdict.to_string(),
        "denied at x/a, ingress: selected by x/b; no rule of 1 policy admits b or y/c on TCP/80"
    );
    world.pod("y/c").addresses = vec![address("10.244.1.1")];
    assert!(world.from("10.244.1.2", "10.244.1.1", TCP80).is_allowed());
    assert!(!world.from("10.244.1.12", "10.244.1.1", TCP80).is_allowed(), "x/a is isolated, y/c is not");
}

#[test]
fn a_pod_has_the_addresses_of_its_attachment_before_any_api_tells() {
    let mut world = only_b();
    world.pod("x/b").addresses = vec![address("10.244.1.99")];
    let mut cluster = world.cluster();
    let key = world.pod("x/b").key.clone();
    let flow = |source: &str| Flow {
        source: Source::Address(address(source)),
        destination: address("10.244.1.1"),
        protocol: TCP80,
    };
    cluster.attach(&key, &[address("10.244.1.2")]);
    assert!(judge(&cluster, &flow("10.244.1.2")).is_allowed());
    assert!(!judge(&cluster, &flow("10.244.1.99")).is_allowed(), "an address that it had");
    assert!(cluster.addresses().all(|one| one != address("10.244.1.99")));
    cluster.attach(&"x/nobody".parse().unwrap(), &[address("10.244.1.98")]);
    assert!(!judge(&cluster, &flow("10.244.1.98")).is_allowed());
}

#[test]
fn a_pod_without_addresses_is_no_end_of_any_flow() {
    let mut world = closed();
    world.pod("x/a").addresses.clear();
    assert!(world.from("10.244.1.12", "10.244.1.1", TCP80).is_allowed(), "no pod is known to have it");
    world.expect(TCP80, |from, to| ns(from) != "x" && ns(to) != "x");
}

/// What isn't known selects nothing, whichever the operator.
#[test]
fn a_namespace_that_is_not_known_has_no_labels_and_does_not_lack_any() {
    let without = json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]});
    let from = |selector: Value| {
        let rule = json!({"from": [{"namespaceSelector": selector}]});
        json!({"podSelector": by("pod", "a"), "ingress": [rule]})
    };
    let mut world = world([("x/from", from(without))]);
    world.expect(TCP80, |_, _| true);
    world.namespaces.remove("y");
    world.expect(TCP80, |from, to| to != "x/a" || ns(from) != "y");
    world.policies = vec![policy("x/from", from(json!({})))];
    world.expect(TCP80, |_, _| true);
}

#[test]
fn outside_is_admitted_by_blocks_and_by_rules_that_name_nobody() {
    let ingress = |rules: Value| world([("x/in", json!({"podSelector": {}, "ingress": rules}))]);
    let outside = |world: &World| world.from("192.0.2.9", "10.244.1.1", TCP80).is_allowed();
    assert!(outside(&ingress(json!([{}]))));
    assert!(outside(&ingress(json!([{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]))));
    assert!(!outside(&ingress(json!([{"from": [{"namespaceSelector": {}}]}]))), "outside is in no namespace");
    assert!(!outside(&ingress(json!([]))));
}

#[test]
fn a_shadow_isolates_nothing_and_takes_nothing_from_the_policies_beside_it() {
    let mut world = closed();
    world.policies[0].mode = Mode::Shadow;
    world.expect(TCP80, |_, _| true);
    world.policies.push(policy("x/only-81", json!({"ingress": [{"ports": [{"port": 81}]}]})));
    world.expect(TCP80, |_, to| ns(to) != "x");
    world.expect(TCP81, |_, _| true);
}
