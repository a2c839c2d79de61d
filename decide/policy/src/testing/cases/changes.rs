//! Policies, labels and pods that come, change and go.

use super::*;
use crate::testing::world::pod;

pub(super) fn cases() -> Vec<Case> {
    [policies(), labels(), pods_themselves()].into_iter().flatten().collect()
}

fn policies() -> Vec<Case> {
    let deny = || ingress(all(), json!([]));
    let from = |peers: Value| ingress(called("a"), json!([{"from": peers}]));
    let closed = |t: &Trip| t.to_ns() != "x";
    vec![
        case(
            "a policy that is updated is enforced as it is now",
            [
                step(world([("x/p", ingress(all(), json!([{}])))]), |_| true),
                step(world([("x/p", deny())]), closed),
                step(world([("x/p", from(json!([pods(called("b"))])))]), |t| {
                    t.to != "x/a" || t.from == "x/b"
                }),
            ],
        ),
        case(
            "a policy that is deleted is enforced no longer",
            [
                step(world([("x/p", deny()), ("y/p", deny())]), |t| t.to_ns() == "z"),
                step(world([("x/p", deny())]), closed),
                step(world([]), |_| true),
            ],
        ),
        case(
            "policies that come one by one each add what they allow",
            [
                step(world([]), |_| true),
                step(world([("x/deny", deny())]), closed),
                step(world([("x/deny", deny()), ("x/b", from(json!([pods(called("b"))])))]), |t| {
                    t.to_ns() != "x" || (t.to == "x/a" && t.from == "x/b")
                }),
                step(
                    world([
                        ("x/deny", deny()),
                        ("x/b", from(json!([pods(called("b"))]))),
                        ("x/y", from(json!([namespaces(by("ns", "y"))]))),
                    ]),
                    |t| t.to_ns() != "x" || (t.to == "x/a" && (t.from == "x/b" || t.from_ns() == "y")),
                ),
                step(world([("x/deny", deny()), ("x/y", from(json!([namespaces(by("ns", "y"))])))]), |t| {
                    t.to_ns() != "x" || (t.to == "x/a" && t.from_ns() == "y")
                }),
            ],
        ),
    ]
}

fn labels() -> Vec<Case> {
    let from = |peer: Value| world([("x/from", ingress(called("a"), json!([{"from": [peer]}])))]);
    let team = || from(namespaces(by("team", "new")));
    let role = || from(both(all(), by("role", "client")));
    let old_y = [("ns", "y")];
    let new_y = [("ns", "y"), ("team", "new")];
    let client = [("pod", "b"), ("role", "client")];
    vec![
        case(
            "a namespace that gets the label is admitted, and that loses it no longer",
            [
                step(team(), |t| t.to != "x/a"),
                step(team().namespace("y", &new_y), |t| t.to != "x/a" || t.from_ns() == "y"),
                step(team().namespace("y", &old_y), |t| t.to != "x/a"),
            ],
        ),
        case(
            "a pod that gets the label is admitted, and that loses it no longer",
            [
                step(role(), |t| t.to != "x/a"),
                step(role().labelled("y/b", &client), |t| t.to != "x/a" || t.from == "y/b"),
                step(role(), |t| t.to != "x/a"),
            ],
        ),
        case(
            "a pod that gets another label is isolated, and that gets the first again no longer",
            [
                step(world([("x/deny", ingress(by("role", "client"), json!([])))]), |_| true),
                step(
                    world([("x/deny", ingress(by("role", "client"), json!([])))]).labelled("x/b", &client),
                    |t| t.to != "x/b",
                ),
                step(world([("x/deny", ingress(by("role", "client"), json!([])))]), |_| true),
            ],
        ),
        case(
            "labels of pods and namespaces change together",
            [
                step(from(both(by("team", "new"), by("role", "client"))), |t| t.to != "x/a"),
                step(from(both(by("team", "new"), by("role", "client"))).labelled("y/b", &client), |t| {
                    t.to != "x/a"
                }),
                step(
                    from(both(by("team", "new"), by("role", "client")))
                        .labelled("y/b", &client)
                        .namespace("y", &new_y),
                    |t| t.to != "x/a" || t.from == "y/b",
                ),
            ],
        ),
    ]
}

fn pods_themselves() -> Vec<Case> {
    let from_b = || world([("x/from", ingress(called("a"), json!([{"from": [both(all(), called("b"))]}])))]);
    let without = |key: &str| {
        let mut world = from_b();
        world.pods.retain(|pod| pod.key.to_string() != key);
        world
    };
    let with = |one| {
        let mut world = without("y/b");
        world.pods.push(one);
        world
    };
    let truth = |t: &Trip| t.to != "x/a" || name(&t.from) == "b";
    vec![
        case(
            "a pod that is deleted and made again, elsewhere, is admitted where it is",
            [
                step(from_b(), truth),
                step(without("y/b"), truth),
                step(with(pod("y", "b", (2, 40))), truth),
                step(with(pod("y", "b", (1, 12))), truth),
            ],
        ),
        case(
            "another pod that gets the address of one that is gone is not admitted for it",
            [
                step(from_b(), truth),
                step(with(pod("y", "d", (1, 12))), truth),
                step(with(pod("z", "b2", (1, 12))).labelled("z/b2", &[("pod", "b")]), |t| {
                    t.to != "x/a" || name(&t.from) == "b" || t.from == "z/b2"
                }),
            ],
        ),
        case(
            "a pod that is isolated is so again when it comes back",
            [step(from_b(), truth), step(without("x/a"), |_| true), step(from_b(), truth)],
        ),
    ]
}
