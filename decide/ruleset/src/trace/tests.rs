use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::logging::LogPrefix;
use crate::matching::{ct_established, iifname_prefix, in_set, l4proto, oifname, saddr, tcp_dport};
use crate::rule::{accept, counter, drop, goto, jump, limit, log, return_, update_limited, vmap};
use crate::table::{Base, priority};
use crate::{matching::IfPrefix, rule};

const FORWARD: ChainName = ChainName::literal("forward");
const PODS: ChainName = ChainName::literal("pods");
const ONE: ChainName = ChainName::literal("one");
const MAP: SetName = SetName::literal("map");
const PORTS: SetName = SetName::literal("ports");
const SLV: IfPrefix = IfPrefix::literal("slv");

fn packet(source: &str, destination: &str, port: u16) -> Packet {
    Packet {
        iif: Some("slv1".parse().unwrap()),
        oif: Some("eth0".parse().unwrap()),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        proto: L4Proto::TCP,
        ports: Some((40_000, port)),
        icmp: None,
        tcp: Some(TcpFlags::SYN),
        state: CtStates::NEW,
    }
}

/// What is established passes; 10.0.0.1 is free, 10.0.0.2 may send to 80 to 89 over TCP, the others may nothing.
fn table() -> Table {
    let address = |last| Ipv4Addr::new(10, 0, 0, last);
    let verdicts = [(address(1), Verdict::Return), (address(2), Verdict::Goto(ONE))];
    Table::new()
        .set(MAP, Set::verdicts(verdicts))
        .set(PORTS, Set::of([(L4Proto::TCP, 80..=89)]))
        .chain(
            FORWARD,
            Chain::base(
                Base::filter(Hook::Forward, priority::FILTER),
                [rule![ct_established(), accept()], rule![iifname_prefix(&SLV), jump(&PODS)]],
            ),
        )
        .chain(PODS, Chain::regular([rule![vmap([Field::IpSaddr], &MAP)], rule![counter(), drop()]]))
        .chain(
            ONE,
            Chain::regular([
                rule![in_set([Field::L4Proto, Field::ThDport], &PORTS), return_()],
                rule![counter(), drop()],
            ]),
        )
}

fn verdict(packet: &Packet) -> Policy {
    trace(&table(), Hook::Forward, packet).unwrap().verdict
}

#[test]
fn maps_lead_on_and_chains_lead_back() {
    for (source, port, expected) in [
        ("10.0.0.1", 443, Policy::Accept),
        ("10.0.0.2", 79, Policy::Drop),
        ("10.0.0.2", 80, Policy::Accept),
        ("10.0.0.2", 89, Policy::Accept),
        ("10.0.0.2", 90, Policy::Drop),
        ("10.0.0.3", 80, Policy::Drop),
        ("fd00::1", 80, Policy::Drop),
    ] {
        let to = if source.contains(':') { "fd00::9" } else { "10.0.0.9" };
        assert_eq!(verdict(&packet(source, to, port)), expected, "{source} {port}");
    }
    let path = trace(&table(), Hook::Forward, &packet("10.0.0.2", "10.0.0.9", 80)).unwrap().rules;
    assert_eq!(path, [(FORWARD, 1), (PODS, 0), (ONE, 0)]);
}

#[test]
fn what_is_not_looked_at_passes() {
    let udp = Packet { proto: L4Proto::UDP, ..packet("10.0.0.2", "10.0.0.9", 80) };
    assert_eq!(verdict(&udp), Policy::Drop);
    let icmp = Packet { proto: L4Proto::ICMP, ports: None, ..udp };
    assert_eq!(verdict(&icmp), Policy::Drop);
    let established = Packet { state: CtStates::ESTABLISHED, ..icmp.clone() };
    assert_eq!(verdict(&established), Policy::Accept);
    let other = Packet { iif: Some("eth0".parse().unwrap()), ..icmp };
    assert_eq!(verdict(&other), Policy::Accept);
    assert_eq!(trace(&table(), Hook::Output, &other).unwrap().verdict, Policy::Accept);
}

#[test]
fn a_negated_match_needs_what_it_looks_at_and_chains_come_by_priority() {
    let net: IpNet = "10.0.0.0/24".parse().unwrap();
    let base = |priority| Base::filter(Hook::Forward, priority);
    let table = Table::new()
        .chain(FORWARD, Chain::base(base(0), [rule![tcp_dport(80), accept()], rule![!saddr(net), drop()]]))
        .chain(
            ONE,
            Chain::base(
                base(10).policy(Policy::Drop),
                [rule![!oifname(&"lo".parse().unwrap()), goto(&PODS)]],
            ),
        )
        .chain(PODS, Chain::regular([rule![l4proto(L4Proto::TCP), accept()]]));
    let verdict = |packet: &Packet| trace(&table, Hook::Forward, packet).unwrap();
    assert_eq!(verdict(&packet("10.0.1.1", "10.0.0.9", 81)).rules, [(FORWARD, 1)]);
    assert_eq!(verdict(&packet("fd00::1", "fd00::2", 81)).rules, [(ONE, 0), (PODS, 0)]);
    let udp = Packet { proto: L4Proto::UDP, ..packet("10.0.0.1", "10.0.0.9", 80) };
    assert_eq!(verdict(&udp).verdict, Policy::Drop, "back at the base chain, its policy holds");
    let no_way_out = Packet { oif: None, ..packet("10.0.0.1", "10.0.0.9", 80) };
    assert_eq!(verdict(&no_way_out).rules, [(FORWARD, 0), (ONE, 0), (PODS, 0)]);
}

#[test]
fn what_cannot_be_followed_is_said() {
    let spoofed = rule![crate::matching::fib_saddr_missing(), drop()];
    let base = Base::filter(Hook::Forward, priority::FILTER);
    let trace_of = |rule: Rule| {
        let table = Table::new().chain(FORWARD, Chain::base(base, [rule]));
        trace(&table, Hook::Forward, &packet("10.0.0.1", "10.0.0.9", 80)).unwrap_err()
    };
    assert_eq!(trace_of(spoofed.clone()), Untraceable::Unknown(spoofed));
    assert_eq!(trace_of(rule![jump(&PODS)]), Untraceable::NoChain(PODS));
    assert_eq!(trace_of(rule![vmap([Field::IpSaddr], &MAP)]), Untraceable::NoSet(MAP));
    let looping = Table::new().chain(FORWARD, Chain::base(base, [rule![goto(&PODS)]]));
    let looping = looping.chain(PODS, Chain::regular([rule![jump(&PODS)]]));
    let why = trace(&looping, Hook::Forward, &packet("10.0.0.1", "10.0.0.9", 80));
    assert_eq!(why, Err(Untraceable::TooDeep(PODS)));
}

#[test]
fn a_segments_flags_are_looked_at_where_there_are_any() {
    let opening = TcpFlags::SYN.or(TcpFlags::ACK);
    let base = Base::filter(Hook::Forward, priority::FILTER);
    let strays = rule![!crate::matching::tcp_flags(TcpFlags::SYN, opening), drop()];
    assert_eq!(strays.to_string(), "tcp flags != syn / syn,ack drop");
    let table = Table::new().chain(FORWARD, Chain::base(base, [strays]));
    let verdict = |packet: &Packet| trace(&table, Hook::Forward, packet).unwrap().verdict;
    let first = packet("10.0.0.1", "10.0.0.9", 80);
    assert_eq!(verdict(&first), Policy::Accept);
    assert_eq!(verdict(&Packet { tcp: Some(opening), ..first.clone() }), Policy::Drop);
    assert_eq!(verdict(&Packet { tcp: Some(TcpFlags::ACK), ..first.clone() }), Policy::Drop);
    assert_eq!(verdict(&Packet { proto: L4Proto::UDP, tcp: None, ..first }), Policy::Accept);
}

#[test]
fn what_is_told_changes_nothing_and_no_packet_alone_comes_too_fast() {
    let one = NonZeroU32::MIN;
    let (second, over) = (Limit::per_second(one, one), Limit { over: true, ..Limit::per_second(one, one) });
    let told = || log(LogPrefix::new("denied").unwrap(), 1);
    let recent = SetName::literal("recent");
    let each = |limit| update_limited([Field::IpSaddr], &recent, (Duration::from_secs(60), limit));
    let rules = [
        rule![limit(second), told()],
        rule![each(second), told()],
        rule![limit(over), drop()],
        rule![each(over), drop()],
        rule![accept()],
    ];
    let base = Base::filter(Hook::Forward, priority::FILTER).policy(Policy::Drop);
    let table = Table::new()
        .set(recent.clone(), Set::dynamic::<Ipv4Addr>(one))
        .chain(FORWARD, Chain::base(base, rules));
    let traced = trace(&table, Hook::Forward, &packet("10.0.0.1", "10.0.0.9", 80)).unwrap();
    assert_eq!(
        traced,
        Traced { verdict: Policy::Accept, rules: vec![(FORWARD, 0), (FORWARD, 1), (FORWARD, 4)] }
    );
}
