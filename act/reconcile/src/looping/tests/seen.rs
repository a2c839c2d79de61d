//! What passes go by of what was seen before.

use selvedge_datapath::announced::Object;

use super::*;

/// A loop on a node whose link has an index, as announcements name it.
fn settled() -> Reconciler<Fake, Decide> {
    let mut fake = Fake::new();
    fake.observed.network.links.values_mut().for_each(|link| link.index = 2);
    let mut reconciler = reconciler(fake);
    reconciler.pass(vec![cluster(&[1, 2], Prune::Marked)]);
    reconciler.pass(vec![kernel("link eth0 changed")]);
    reconciler.kernel.tried.clear();
    reconciler
}

fn announced(node: u8, gone: bool) -> Trigger {
    let Route { destination, via, source, mtu, onlink, protocol, .. } = route(&super::node(node));
    let object = Object::Route { destination, via, source, mtu, onlink, protocol };
    Trigger::Announced(Announced { device: 2, object, gone })
}

#[test]
fn a_node_that_comes_and_goes_is_no_reason_to_read_the_kernel_and_our_own_routes_are_none_for_a_pass() {
    let mut reconciler = settled();
    let before = reconciler.kernel.observations;
    reconciler.pass(vec![cluster(&[1, 2, 3], Prune::Marked)]);
    assert!(reconciler.kernel.has_route("10.244.3.0/24"));
    assert!(reconciler.is_old(&announced(3, false)), "we made it");
    assert!(!reconciler.is_old(&announced(3, true)), "somebody took it away since");
    reconciler.pass(vec![cluster(&[1, 3], Prune::Marked), Trigger::Measured("node-3: silence".to_owned())]);
    assert!(!reconciler.kernel.has_route("10.244.2.0/24"));
    assert!(reconciler.is_old(&announced(2, true)), "we took it away");
    assert!(!reconciler.is_old(&announced(2, false)), "somebody made it since");
    assert_eq!(reconciler.kernel.observations, before);
}

#[test]
fn what_is_announced_and_not_as_it_was_seen_is_looked_at_and_mended() {
    let mut reconciler = settled();
    reconciler.pass(vec![cluster(&[1, 2, 3], Prune::Marked)]);
    reconciler.kernel.tried.clear();
    reconciler.kernel.lose_route("10.244.3.0/24");
    let (sender, triggers) = channel();
    for trigger in [announced(3, false), announced(3, true), announced(3, true)] {
        sender.send(trigger).unwrap();
    }
    drop(sender);
    reconciler.run(&triggers);
    assert!(reconciler.kernel.has_route("10.244.3.0/24"));
    let status = reconciler.status().clone();
    assert_eq!(status.last_pass.unwrap().because, ["kernel: route 10.244.3.0/24 gone"]);
    assert_eq!(status.repaired["route"], 1);
}

#[test]
fn nothing_announced_is_old_where_a_step_failed_or_its_effect_has_to_be_read() {
    let mut reconciler = settled();
    reconciler.kernel.refused = ("ip route add 10.244.4.0/24", 1);
    reconciler.pass(vec![cluster(&[1, 2, 3, 4], Prune::Marked)]);
    assert!(!reconciler.is_old(&announced(3, false)));
    let before = reconciler.kernel.observations;
    reconciler.pass(vec![cluster(&[1, 2, 3, 4], Prune::Marked)]);
    assert_eq!(reconciler.kernel.observations, before + 1, "it is looked at anew");
    reconciler.kernel.observed.sysctls.insert(Sysctl::Ipv4Forward, "0".to_owned());
    reconciler.pass(vec![Trigger::Resync]);
    assert!(!reconciler.is_old(&announced(3, false)), "a sysctl may change more than itself");
}

#[test]
fn a_regular_look_finds_what_nobody_announced() {
    let mut reconciler = settled();
    reconciler.pass(vec![cluster(&[1, 2, 3], Prune::Marked)]);
    reconciler.kernel.lose_route("10.244.3.0/24");
    reconciler.pass(vec![cluster(&[1, 2, 3], Prune::Marked)]);
    assert!(!reconciler.kernel.has_route("10.244.3.0/24"), "what was seen is gone by");
    reconciler.pass(vec![Trigger::Resync]);
    assert!(reconciler.kernel.has_route("10.244.3.0/24"));
    assert_eq!(reconciler.status().repaired["route"], 1);
}

#[test]
fn of_thousands_of_steps_some_are_told_and_the_rest_counted() {
    let steps = |count| {
        let step = |n| StepOutcome {
            step: format!("step {n}"),
            object: "route".to_owned(),
            result: if n == 999 { StepResult::Failed("refused".to_owned()) } else { StepResult::Done },
        };
        (0..count).map(step).collect()
    };
    let mut status = Status::starting("node-a", "1.2.3");
    let pass = |count| Pass { because: Vec::new(), at_ms: 1, took_us: 1, steps: steps(count), others: 0 };
    status.enter(pass(TOLD), false);
    assert_eq!(status.last_pass.as_ref().unwrap().others, 0);
    status.enter(pass(1000), true);
    let told = status.last_pass.unwrap();
    assert_eq!((told.steps.len(), told.others), (TOLD + 1, 1000 - TOLD - 1));
    assert_eq!(told.steps.last().unwrap().result, StepResult::Failed("refused".to_owned()));
    assert_eq!(status.repaired["route"], 999, "all are counted");
}
