//! What happens to policies, labels, pods and namespaces, one after another, under policies of several kinds.

use super::combined::{Single, Way};
use super::*;
use crate::testing::world::pod;

/// Each kind of peer that goes by labels, both ways, with and without ports.
pub(super) fn sequences() -> Vec<Case> {
    let kinds = [3, 4, 5, 8].into_iter().flat_map(|peers| [0, 6].map(|ports| (peers, ports)));
    let kinds = kinds.flat_map(|(peers, ports)| [Way::In, Way::Out].map(|way| (peers, ports, way)));
    kinds.map(|(peers, ports, way)| sequence(Single { target: 2, peers, ports, way })).collect()
}

fn sequence(policy: Single) -> Case {
    let under = || world([("x/one", policy.spec())]);
    let other = Single { target: 0, peers: 2, ports: 1, ..policy };
    let without = |mut world: World, is_gone: fn(&str) -> bool| {
        world.pods.retain(|pod| !is_gone(&pod.key.to_string()));
        world
    };
    let elsewhere = |mut world: World| {
        world.pods.push(pod("y", "b", (2, 40)));
        world
    };
    let y_gone = || {
        let mut world = without(under(), |pod| pod.starts_with("y/"));
        world.namespaces.remove("y");
        world
    };
    let as_c = || under().labelled("x/b", &[("pod", "c")]);
    case(
        format!("{}, while labels, pods and namespaces change", policy.name()),
        [
            step(world([]), |_| true),
            step(under(), policy.truth()),
            step(as_c(), seen(policy, |pod| if pod == "x/b" { "x/c".to_owned() } else { pod.to_owned() })),
            step(as_c().namespace("z", &[("ns", "y")]), {
                seen(policy, |pod| if pod == "x/b" { "x/c".to_owned() } else { pod.replace("z/", "y/") })
            }),
            step(under().namespace("z", &[("ns", "y")]), seen(policy, |pod| pod.replace("z/", "y/"))),
            step(without(under(), |pod| pod == "y/b"), policy.truth()),
            step(elsewhere(without(under(), |pod| pod == "y/b")), policy.truth()),
            step(y_gone(), policy.truth()),
            step(under(), policy.truth()),
            step(world([("x/one", other.spec())]), other.truth()),
            step(world([]), |_| true),
        ],
    )
}

/// What a policy says where its selectors see pods as others than they are.
fn seen(policy: Single, sees: fn(&str) -> String) -> impl Fn(&Trip) -> bool + 'static {
    let truth = policy.truth();
    move |trip| truth(&Trip { from: sees(&trip.from), to: sees(&trip.to), ..trip.clone() })
}
