//! Ports and protocols.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    [numbers(), precedence(), protocols(), names(), ranges()].into_iter().flatten().collect()
}

/// Admits to a of x what is to those ports.
fn to_ports(ports: Value) -> Value {
    ingress(called("a"), json!([{"ports": ports}]))
}

fn numbers() -> Vec<Case> {
    let from_y = || json!([namespaces(by("ns", "y"))]);
    let y = |port: u16| ingress(called("a"), json!([{"from": from_y(), "ports": [{"port": port}]}]));
    vec![
        one("a port that names no protocol is TCP's", ("x/81", to_ports(json!([{"port": 81}]))), |t| {
            t.to != "x/a" || t.tcp(81)
        }),
        one(
            "any of several ports is enough",
            ("x/both", to_ports(json!([{"port": 80}, {"port": 81}]))),
            |t| t.to != "x/a" || t.tcp(80) || t.tcp(81),
        ),
        one("a rule needs both its peer and its port", ("x/y81", y(81)), |t| {
            t.to != "x/a" || (t.from_ns() == "y" && t.tcp(81))
        }),
        case(
            "policies that select the same pod add up",
            [
                step(world([("x/80", y(80))]), |t| t.to != "x/a" || (t.from_ns() == "y" && t.tcp(80))),
                step(world([("x/80", y(80)), ("x/81", to_ports(json!([{"port": 81}])))]), |t| {
                    t.to != "x/a" || (t.from_ns() == "y" && t.tcp(80)) || t.tcp(81)
                }),
            ],
        ),
    ]
}

fn precedence() -> Vec<Case> {
    vec![
        case(
            "a policy that allows all takes precedence over one that allows one port",
            [
                step(world([("x/80", to_ports(json!([{"port": 80}])))]), |t| t.to != "x/a" || t.tcp(80)),
                step(
                    world([
                        ("x/80", to_ports(json!([{"port": 80}]))),
                        ("x/all", ingress(all(), json!([{}]))),
                    ]),
                    |_| true,
                ),
            ],
        ),
        case(
            "an egress policy that allows all takes precedence over one that allows one port",
            [
                step(world([("x/80", egress(called("a"), json!([{"ports": [{"port": 80}]}])))]), |t| {
                    t.from != "x/a" || t.tcp(80)
                }),
                step(
                    world([
                        ("x/80", egress(called("a"), json!([{"ports": [{"port": 80}]}]))),
                        ("x/all", egress(all(), json!([{}]))),
                    ]),
                    |_| true,
                ),
            ],
        ),
    ]
}

fn protocols() -> Vec<Case> {
    let from_y_b = |port: Value| {
        ingress(called("a"), json!([{"from": [both(by("ns", "y"), called("b"))], "ports": [port]}]))
    };
    vec![
        one(
            "a port of UDP is not TCP's or SCTP's",
            ("x/udp", to_ports(json!([{"protocol": "UDP", "port": 80}]))),
            |t| t.to != "x/a" || t.udp(80),
        ),
        one(
            "a port of SCTP is not TCP's or UDP's",
            ("x/sctp", to_ports(json!([{"protocol": "SCTP", "port": 81}]))),
            |t| t.to != "x/a" || t.sctp(81),
        ),
        one(
            "a protocol without a port is all of its ports",
            ("x/udp", to_ports(json!([{"protocol": "UDP"}]))),
            |t| t.to != "x/a" || t.udp(80) || t.udp(81),
        ),
        one(
            "all of SCTP is allowed by its protocol",
            ("x/sctp", to_ports(json!([{"protocol": "SCTP"}]))),
            |t| t.to != "x/a" || t.sctp(80) || t.sctp(81),
        ),
        one(
            "all of TCP is allowed by its protocol",
            ("x/tcp", to_ports(json!([{"protocol": "TCP"}]))),
            |t| t.to != "x/a" || t.tcp(80) || t.tcp(81),
        ),
        one(
            "a pod of another namespace is admitted over UDP",
            ("x/y", from_y_b(json!({"protocol": "UDP", "port": 81}))),
            |t| t.to != "x/a" || (t.from == "y/b" && t.udp(81)),
        ),
        one(
            "a pod of another namespace is admitted over SCTP",
            ("x/y", from_y_b(json!({"protocol": "SCTP", "port": 80}))),
            |t| t.to != "x/a" || (t.from == "y/b" && t.sctp(80)),
        ),
        one(
            "ICMP passes where a rule says nothing of ports",
            ("x/own", ingress(all(), json!([{"from": [pods(all())]}, {"ports": [{"port": 80}]}]))),
            |t| t.to_ns() != "x" || t.from_ns() == "x" || t.tcp(80),
        ),
    ]
}

fn names() -> Vec<Case> {
    let named = |name: &str| json!([{"port": name}]);
    let from_y = json!([{"from": [namespaces(by("ns", "y"))], "ports": named("serve-81")}]);
    let in80 = ("x/named", ingress(all(), json!([{"ports": named("serve-80")}])));
    let out80 = ("x/named", egress(all(), json!([{"ports": named("serve-80")}])));
    let moved = |policy| {
        let mut world = world([policy]);
        world.pod("x/a").ports[0].number = std::num::NonZeroU16::new(81).expect("no zero");
        world.pod("x/b").ports.clear();
        world
    };
    // What x/a calls so is 81, and x/b calls nothing so.
    let is_it = |t: &Trip| if t.to == "x/a" { t.tcp(81) } else { t.to != "x/b" && t.tcp(80) };
    vec![
        one("ingress is allowed to a port by its name", in80.clone(), |t| t.to_ns() != "x" || t.tcp(80)),
        one(
            "ingress from one namespace is allowed to a port by its name",
            ("x/y", ingress(called("a"), from_y)),
            |t| t.to != "x/a" || (t.from_ns() == "y" && t.tcp(81)),
        ),
        one("egress is allowed to a port by its name", out80.clone(), |t| t.from_ns() != "x" || t.tcp(80)),
        one(
            "a name is of its protocol",
            ("x/udp", to_ports(json!([{"protocol": "UDP", "port": "udp-80"}, {"port": "sctp-80"}]))),
            |t| t.to != "x/a" || t.udp(80),
        ),
        case(
            "a name means what the pod that traffic goes to calls so",
            [
                step(moved(in80), move |t| t.to_ns() != "x" || is_it(t)),
                step(moved(out80), move |t| t.from_ns() != "x" || is_it(t)),
            ],
        ),
    ]
}

fn ranges() -> Vec<Case> {
    let range = |first: u16, last: u16| json!([{"port": first, "endPort": last}]);
    let out = |ports: Value| ("x/out", egress(called("a"), json!([{"ports": ports}])));
    vec![
        one("endPort makes a range of both its ends", ("x/in", to_ports(range(80, 81))), |t| {
            t.to != "x/a" || t.tcp(80) || t.tcp(81)
        }),
        one("a range begins with its port", ("x/in", to_ports(range(81, 90))), |t| {
            t.to != "x/a" || t.tcp(81)
        }),
        one("a range ends with its endPort", ("x/in", to_ports(range(1, 80))), |t| {
            t.to != "x/a" || t.tcp(80)
        }),
        one("egress is allowed to a range", out(range(81, 82)), |t| t.from != "x/a" || t.tcp(81)),
        one(
            "a range is of its protocol",
            ("x/udp", to_ports(json!([{"protocol": "UDP", "port": 79, "endPort": 80}]))),
            |t| t.to != "x/a" || t.udp(80),
        ),
    ]
}
