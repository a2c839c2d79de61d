use std::net::IpAddr;

use selvedge_model::Namespace;
use selvedge_policy::Mode;
use selvedge_ruleset::TcpFlags;
use serde_json::{Value, json, to_value};

use super::*;
use crate::explain::tests::{Site, address};

fn site(log: Log, mode: Mode) -> Site {
    Site::of(Namespace { log, ..Namespace::default() }, mode)
}

/// What is told of a TCP packet from port 40000 to 8080.
fn told(site: &Site, tale: Tale, (source, destination): (&str, &str)) -> Option<Value> {
    let ends: [IpAddr; 2] = [source, destination].map(address);
    let headers = Headers {
        source: ends[0],
        destination: ends[1],
        proto: L4Proto::TCP,
        ports: Some((40_000, 8080)),
        icmp: None,
        tcp: Some(TcpFlags::SYN),
    };
    let prefix = tale.prefix().to_owned();
    let logged = Logged { prefix, iif: None, oif: None, mark: 0, headers: Some(headers) };
    let known = Known { node: &site.node, cluster: &site.cluster, local: &site.local };
    Told::of(&logged, known).map(|told| to_value(told).unwrap())
}

const CLIENT: &str = "10.244.0.2";
const WEB: &str = "10.244.1.2";
/// Of a pod here that nobody has shown.
const NEW: &str = "10.244.1.3";
const OUTSIDE: &str = "192.0.2.9";
const INGRESS: Tale = Tale::Denied(Direction::Ingress);

#[test]
fn a_denied_packet_is_told_with_both_pods_and_the_reason_of_an_explanation() {
    let told = told(&site(Log::Denied, Mode::Enforced), INGRESS, (CLIENT, WEB)).unwrap();
    let expected = json!({
        "verdict": "denied", "direction": "ingress", "node": "node-b", "protocol": "TCP", "port": 8080,
        "reason": "selected by shop/deny-all; no rule of 1 policy admits client on TCP/8080",
        "source": {"namespace": "shop", "pod": "client", "labels": {"app": "client"}, "node": "node-a",
            "address": CLIENT, "port": 40_000},
        "destination": {"namespace": "shop", "pod": "web", "labels": {"app": "web"}, "node": "node-b",
            "address": WEB, "port": 8080},
    });
    assert_eq!(told, expected);
}

#[test]
fn a_namespace_has_told_what_it_asks_for() {
    let allowed = Tale::Allowed(Direction::Ingress);
    for (log, expected) in [(Log::Off, [false; 3]), (Log::Denied, [true, false, true]), (Log::All, [true; 3])]
    {
        let site = site(log, Mode::Enforced);
        let is_told = |tale, ends| told(&site, tale, ends).is_some();
        let told = [(INGRESS, (CLIENT, WEB)), (allowed, (CLIENT, WEB)), (Tale::Unseen, (NEW, OUTSIDE))];
        assert_eq!(told.map(|(tale, ends)| is_told(tale, ends)), expected, "{log:?}");
        // Whose it is isn't known.
        assert!(is_told(Tale::Foreign, (OUTSIDE, WEB)) || log == Log::Off);
    }
    let site = site(Log::All, Mode::Enforced);
    let known = Known { node: &site.node, cluster: &site.cluster, local: &site.local };
    let other = Logged { prefix: "IN= ".to_owned(), iif: None, oif: None, mark: 0, headers: None };
    assert_eq!(Told::of(&other, known), None);
}

#[test]
fn what_is_told_has_its_direction_and_its_reason_whatever_it_is() {
    let (enforced, shadow) = (site(Log::All, Mode::Enforced), site(Log::All, Mode::Shadow));
    let denies = "selected by shop/deny-all; no rule of 1 policy admits client on TCP/8080";
    let unseen = "no source has shown this pod yet: it is isolated until one does";
    let stray = "it opens no connection and belongs to none";
    for (site, tale, ends, expected) in [
        (&shadow, Tale::WouldDeny(Direction::Ingress), (CLIENT, WEB), ["would deny", "ingress", denies]),
        (
            &enforced,
            Tale::Allowed(Direction::Egress),
            (WEB, CLIENT),
            ["allowed", "egress", "no policy selects it"],
        ),
        (&enforced, Tale::Unseen, (NEW, OUTSIDE), ["denied", "egress", unseen]),
        (&enforced, Tale::Unseen, (OUTSIDE, NEW), ["denied", "ingress", unseen]),
        (&enforced, Tale::Stray, (WEB, CLIENT), ["denied", "egress", stray]),
        (&enforced, Tale::Stray, (CLIENT, WEB), ["denied", "ingress", stray]),
        (
            &enforced,
            Tale::Foreign,
            (OUTSIDE, CLIENT),
            ["denied", "egress", "no pod here is known to have this source"],
        ),
    ] {
        let told = told(site, tale, ends).unwrap();
        assert_eq!(
            [&told["verdict"], &told["direction"], &told["reason"]].map(|v| v.as_str().unwrap()),
            expected
        );
    }
    // Forth and back: the port of the flow is that which its opener sent to.
    for (ends, port) in [((CLIENT, WEB), 8080), ((WEB, CLIENT), 40_000)] {
        let told = told(&enforced, Tale::Revoked, ends).unwrap();
        let why = denies.replace("8080", &port.to_string());
        assert_eq!(told["reason"], format!("its flow was allowed before; {why}"), "{ends:?}");
    }
}

/// The packet met the rules of before a change, and its reason is asked for after it.
#[test]
fn what_is_no_longer_denied_is_told_with_what_holds_now() {
    let told = told(&site(Log::Denied, Mode::Shadow), INGRESS, (CLIENT, WEB)).unwrap();
    assert_eq!(told["reason"], "by what was in force before a change; now: no policy selects it");
}
