//! What may come in.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    [whole_namespaces(), own_namespace(), other_namespaces(), several_peers()].into_iter().flatten().collect()
}

fn whole_namespaces() -> Vec<Case> {
    let deny = || json!({"podSelector": {}});
    vec![
        case("without policies everybody reaches everybody", [step(world([]), |_| true)]),
        one("the default to deny ingress closes one namespace and no other", ("x/deny", deny()), |t| {
            t.to_ns() != "x"
        }),
        one(
            "the default to deny both ways closes a namespace both ways",
            ("x/deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
            |t| t.from_ns() != "x" && t.to_ns() != "x",
        ),
        one("a policy that allows all closes nothing", ("x/all", ingress(all(), json!([{}]))), |_| true),
        case(
            "where one policy denies all and another allows all, all is allowed",
            [step(world([("x/deny", deny()), ("x/all", ingress(all(), json!([{}])))]), |_| true)],
        ),
        one(
            "a policy selects pods by an expression",
            ("x/c", ingress(expression("pod", "NotIn", &["a", "b"]), json!([]))),
            |t| t.to != "x/c",
        ),
        one(
            "a policy that selects no pod isolates none",
            ("x/none", ingress(called("nobody"), json!([]))),
            |_| true,
        ),
    ]
}

fn own_namespace() -> Vec<Case> {
    let from = |peers: Value| ingress(called("a"), json!([{"from": peers}]));
    vec![
        one(
            "pods of the own namespace are admitted by an empty podSelector",
            ("x/own", from(json!([pods(all())]))),
            |t| t.to != "x/a" || t.from_ns() == "x",
        ),
        one(
            "a namespace closed to the others stays open to itself",
            ("x/own", ingress(all(), json!([{"from": [pods(all())]}]))),
            |t| t.to_ns() != "x" || t.from_ns() == "x",
        ),
        one(
            "a podSelector admits pods of the own namespace and none of others",
            ("x/b", from(json!([pods(called("b"))]))),
            |t| t.to != "x/a" || t.from == "x/b",
        ),
        one(
            "a podSelector can have expressions",
            ("x/b", from(json!([pods(expression("pod", "In", &["b"]))]))),
            |t| t.to != "x/a" || t.from == "x/b",
        ),
        one(
            "any of several podSelectors is enough",
            ("x/bc", from(json!([pods(called("b")), pods(called("c"))]))),
            |t| t.to != "x/a" || ["x/b", "x/c"].contains(&t.from.as_str()),
        ),
    ]
}

fn other_namespaces() -> Vec<Case> {
    let from = |selector: Value| ("x/from", ingress(all(), json!([{"from": [namespaces(selector)]}])));
    let name = "kubernetes.io/metadata.name";
    vec![
        one("an empty namespaceSelector admits pods of all namespaces", from(all()), |_| true),
        one(
            "a namespaceSelector admits pods of another namespace, and not those of the own",
            from(by("ns", "y")),
            |t| t.to_ns() != "x" || t.from_ns() == "y",
        ),
        one("a namespaceSelector can have expressions", from(expression("ns", "In", &["x", "z"])), |t| {
            t.to_ns() != "x" || t.from_ns() != "y"
        }),
        one("a namespace is selected by its name, a label that each has", from(by(name, "z")), |t| {
            t.to_ns() != "x" || t.from_ns() == "z"
        }),
        one(
            "a namespace is selected by an expression about its name",
            from(expression(name, "NotIn", &["y"])),
            |t| t.to_ns() != "x" || t.from_ns() != "y",
        ),
        one(
            "a namespace that lacks a label is selected by that",
            from(expression("team", "DoesNotExist", &[])),
            |_| true,
        ),
        one(
            "no namespace is selected by a label that none has",
            from(expression("team", "Exists", &[])),
            |t| t.to_ns() != "x",
        ),
    ]
}

fn several_peers() -> Vec<Case> {
    let from = |peers: Value| ("x/from", ingress(called("a"), json!([{"from": peers}])));
    let y_b = || both(by("ns", "y"), called("b"));
    vec![
        one(
            "of two peers, a podSelector and a namespaceSelector, one is enough",
            from(json!([namespaces(by("ns", "y")), pods(called("b"))])),
            |t| t.to != "x/a" || t.from_ns() == "y" || t.from == "x/b",
        ),
        one("of one peer with two selectors, both must hold", from(json!([y_b()])), |t| {
            t.to != "x/a" || t.from == "y/b"
        }),
        one(
            "both selectors of a peer can have expressions",
            from(json!([both(expression("ns", "NotIn", &["x"]), expression("pod", "In", &["b", "c"]))])),
            |t| t.to != "x/a" || (t.from_ns() != "x" && name(&t.from) != "a"),
        ),
        one(
            "pods of one name are admitted whatever their namespace",
            from(json!([both(all(), called("b"))])),
            |t| t.to != "x/a" || name(&t.from) == "b",
        ),
        one(
            "of two peers with two selectors each, one is enough",
            from(json!([y_b(), both(by("ns", "z"), called("c"))])),
            |t| t.to != "x/a" || ["y/b", "z/c"].contains(&t.from.as_str()),
        ),
        one(
            "of two rules one is enough",
            ("x/rules", ingress(called("a"), json!([{"from": [y_b()]}, {"from": [pods(called("c"))]}]))),
            |t| t.to != "x/a" || ["y/b", "x/c"].contains(&t.from.as_str()),
        ),
        one(
            "an ipBlock admits pods by their addresses",
            from(json!([{"ipBlock": {"cidr": "10.244.2.0/24"}}, {"ipBlock": {"cidr": "fd00:244:2::/64"}}])),
            |t| t.to != "x/a" || name(&t.from) == "c",
        ),
    ]
}
