//! What may go out, and both ways together.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    [selectors(), blocks(), both_ways()].into_iter().flatten().collect()
}

fn selectors() -> Vec<Case> {
    let to = |peers: Value| ("x/to", egress(called("a"), json!([{"to": peers}])));
    vec![
        one(
            "egress of one pod is denied by a podSelector, its ingress is not",
            ("x/deny", egress(called("a"), json!([]))),
            |t| t.from != "x/a",
        ),
        one("egress of all pods of a namespace is denied", ("x/deny", egress(all(), json!([]))), |t| {
            t.from_ns() != "x"
        }),
        one("egress is allowed to pods of the own namespace", to(json!([pods(called("b"))])), |t| {
            t.from != "x/a" || t.to == "x/b"
        }),
        one("egress is allowed to another namespace", to(json!([namespaces(by("ns", "z"))])), |t| {
            t.from != "x/a" || t.to_ns() == "z"
        }),
        one(
            "egress is allowed to one pod of another namespace",
            to(json!([both(by("ns", "y"), called("a"))])),
            |t| t.from != "x/a" || t.to == "y/a",
        ),
        one(
            "egress is allowed to everybody by a rule that says nothing",
            ("x/all", egress(called("a"), json!([{}]))),
            |_| true,
        ),
        case(
            "where one policy denies all egress and another allows it, it is allowed",
            [step(
                world([("x/deny", egress(all(), json!([]))), ("x/all", egress(all(), json!([{}])))]),
                |_| true,
            )],
        ),
    ]
}

/// z/b is 10.244.1.22 and fd00:244:1::22; the first node has the pods a and b.
fn blocks() -> Vec<Case> {
    let block = |cidr: &str, except: &[&str]| json!({"ipBlock": {"cidr": cidr, "except": except}});
    let first =
        [block("10.244.1.0/24", &["10.244.1.22/32"]), block("fd00:244:1::/64", &["fd00:244:1::22/128"])];
    let z_b = [block("10.244.1.22/32", &[]), block("fd00:244:1::22/128", &[])];
    let to = |peers: &[Value]| egress(called("a"), json!([{"to": peers}]));
    let but_one = |t: &Trip| t.from != "x/a" || (name(&t.to) != "c" && t.to != "z/b");
    let v4 = block("10.244.1.0/24", &[]);
    vec![
        one("egress is allowed to a block", ("x/to", to(&z_b)), |t| t.from != "x/a" || t.to == "z/b"),
        one("an exception of a block is not allowed", ("x/to", to(&first)), but_one),
        case(
            "what one block leaves out, another allows",
            [
                step(world([("x/to", to(&first))]), but_one),
                step(world([("x/to", to(&[&first[..], &z_b].concat()))]), |t| {
                    t.from != "x/a" || name(&t.to) != "c"
                }),
                step(world([("x/to", to(&first)), ("x/too", to(&z_b))]), |t| {
                    t.from != "x/a" || name(&t.to) != "c"
                }),
            ],
        ),
        one("a block of one family says nothing of the other", ("x/v4", to(&[v4])), |t| {
            t.from != "x/a" || (!t.v6 && name(&t.to) != "c")
        }),
        one(
            "all addresses are everybody, but for an exception",
            ("x/all", to(&[block("0.0.0.0/0", &["10.244.1.0/24"]), block("::/0", &["fd00:244:1::/64"])])),
            |t| t.from != "x/a" || name(&t.to) == "c",
        ),
    ]
}

fn both_ways() -> Vec<Case> {
    let b_c = json!({"podSelector": called("a"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [pods(called("b"))]}], "egress": [{"to": [pods(called("c"))]}]});
    let from_z = || ingress(called("a"), json!([{"from": [namespaces(by("ns", "z"))]}]));
    let to_y = || egress(all(), json!([{"to": [namespaces(by("ns", "y"))]}]));
    vec![
        one("one policy rules both ways", ("x/both", b_c), |t| {
            (t.to != "x/a" || t.from == "x/b") && (t.from != "x/a" || t.to == "x/c")
        }),
        case(
            "what the server's side allows the client's side may deny",
            [step(world([("x/from-z", from_z()), ("z/to-y", to_y())]), |t| {
                (t.from_ns() != "z" || t.to_ns() == "y") && (t.to != "x/a" || t.from_ns() == "z")
            })],
        ),
        case(
            "ingress and egress of one pod are ruled independently",
            [
                step(world([("x/in", from_z())]), |t| t.to != "x/a" || t.from_ns() == "z"),
                step(world([("x/in", from_z()), ("x/out", to_y())]), |t| {
                    (t.to != "x/a" || t.from_ns() == "z") && (t.from_ns() != "x" || t.to_ns() == "y")
                }),
                step(world([("x/out", to_y())]), |t| t.from_ns() != "x" || t.to_ns() == "y"),
            ],
        ),
        case(
            "two namespaces that admit each other keep the third out",
            [step(
                world([
                    ("x/y", ingress(all(), json!([{"from": [namespaces(by("ns", "y"))]}]))),
                    ("y/x", ingress(all(), json!([{"from": [namespaces(by("ns", "x"))]}]))),
                ]),
                |t| t.to_ns() == "z" || [("x", "y"), ("y", "x")].contains(&(t.from_ns(), t.to_ns())),
            )],
        ),
    ]
}
