use super::*;

/// Each case's truth table, whole.
#[test]
fn every_case_is_judged_as_it_is_written() {
    for case in cases().iter().chain(&combinations()) {
        for (number, step) in case.steps.iter().enumerate() {
            let cluster = step.world.cluster();
            for (trip, flow) in step.world.trips(&SERVED) {
                let verdict = judge(&cluster, &flow);
                let allowed = step.allows(&trip);
                assert_eq!(
                    verdict.is_allowed(),
                    allowed,
                    "{}, state {number}: {trip:?}: {verdict}",
                    case.name
                );
            }
        }
    }
}

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
fn an_end_port_makes_a_range_with_both_ends() {
    let spec = json!({"podSelector": by("pod", "a"), "ingress": [{"ports": [{"port": 81, "endPort": 90}]}]});
    let range = world([("x/range", spec)]);
    for (port, expected) in [(80, false), (81, true), (85, true), (90, true), (91, false)] {
        range.expect(Protocol::Port(Transport::Tcp, port), |_, to| expected || to != "x/a");
    }
}
