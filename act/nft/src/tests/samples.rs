//! Tables with at least one of everything.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use selvedge_model::{IfName, MacAddr};
use selvedge_ruleset::matching::*;
use selvedge_ruleset::rule::*;
use selvedge_ruleset::value::AddressType;
use selvedge_ruleset::{
    Base, Chain, ChainName, Comment, EtherType, Family, Field, Hook, Icmp6Type, IcmpType, IpVersion, L4Proto,
    Limit, Log, LogPrefix, Match, PacketType, Per, Policy, Rule, Set, SetName, Table, TableId, TcpFlags,
    Test, priority, rule,
};

pub(crate) const INET: TableId = TableId::literal(Family::Inet, "sample");
pub(crate) const BRIDGE: TableId = TableId::literal(Family::Bridge, "sample");
pub(crate) const IP: TableId = TableId::literal(Family::Ip, "sample");
const PODS: IfPrefix = IfPrefix::literal("slv");

fn set(name: &'static str) -> SetName {
    SetName::literal(name)
}

fn chain(name: &'static str) -> ChainName {
    ChainName::literal(name)
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn mac() -> MacAddr {
    "0a:58:0a:f4:01:07".parse().unwrap()
}

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 0, last)
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

pub(crate) fn all() -> BTreeMap<TableId, Table> {
    BTreeMap::from([(INET, inet()), (BRIDGE, bridge()), (IP, ip())])
}

pub(crate) fn inet() -> Table {
    let forward = Base::filter(Hook::Forward, priority::FILTER).policy(Policy::Drop);
    sets()
        .chain(chain("leaf"), Chain::regular([rule![return_()]]))
        .chain(chain("forward"), Chain::base(forward, inet_rules()))
        .chain(chain("lookups"), Chain::base(Base::filter(Hook::Input, priority::RAW + 5), lookups()))
        .chain(chain("telling"), Chain::regular(telling()))
        .chain(chain("published"), Chain::base(Base::nat(Hook::Prerouting, priority::DSTNAT), dnat()))
        .chain(
            chain("postrouting"),
            Chain::base(
                Base::nat(Hook::Postrouting, priority::SRCNAT),
                [
                    rule![saddr(net("10.244.0.0/16")), !daddr(net("10.244.0.0/16")), masquerade()],
                    rule![Statement::Masquerade { fully_random: false }],
                ],
            ),
        )
}

fn inet_rules() -> Vec<Rule> {
    let mut rules = vec![
        rule![iifname_prefix(&PODS), counter(), accept()].comment("hello"),
        rule![!oifname(&name("slv1")), !oifname_prefix(&PODS), drop()],
        rule![nfproto(IpVersion::V6), drop()],
        rule![l4proto(L4Proto::TCP), saddr(net("10.1.0.0/16")), return_()],
        rule![saddr(net("fd00::/63")), jump(&chain("leaf"))],
        rule![saddr(net("fd00::7/128")), daddr(net("fd00::/64")), accept()],
        rule![saddr(net("10.1.2.3/32")), goto(&chain("leaf"))],
        rule![saddr(net("0.0.0.0/0")), accept()],
        rule![!daddr(net("10.0.0.0/9")), accept()],
        rule![saddr(net("224.0.0.0/4")), daddr(net("10.0.0.0/8")), accept()],
        rule![ct_established(), accept()],
        rule![ct_state(CtStates::INVALID), drop()],
        rule![ct_state(CtStates::NEW), !tcp_flags(TcpFlags::SYN, opening()), drop()],
        rule![tcp_flags(TcpFlags::SYN, opening()), tcp_dport(80), accept()],
        rule![tcp_flags(TcpFlags::SYN.or(TcpFlags::ACK), TcpFlags::SYN.or(TcpFlags::ACK)), accept()],
        rule![!ct_state(CtStates::NEW), ct_status_dnat(), !ct_status_dnat(), drop()],
        rule![fib_saddr_missing(), drop()],
        rule![!fib_saddr_missing(), accept()],
        rule![fib_daddr_type(AddressType::Local), accept()],
        rule![!fib_daddr_type(AddressType::Multicast), accept()],
        rule![pkttype(PacketType::Broadcast), drop()],
        rule![mark(1), drop()],
        rule![mark_masked(0xf0, 0x10), mark_or(0x4000), accept()],
        rule![!mark_masked(0xf0, 0x10), accept()],
        rule![icmpv6_type(Icmp6Type::REDIRECT), drop()],
        rule![!icmpv6_type(Icmp6Type::ROUTER_ADVERT), drop()],
        rule![icmp_type(IcmpType::ECHO_REQUEST), accept()],
        rule![tcp_dport(80), accept()],
        rule![!udp_dport(53), accept()],
        rule![Test::Port(Transport::Any, End::Destination, 80), accept()],
        rule![Test::Port(Transport::Udp, End::Source, 80), accept()],
        rule![l4proto(L4Proto(99)), !l4proto(L4Proto::SCTP), accept()],
        rule![nfproto(IpVersion::V4), iifname(&name("eth0")), accept()],
        rule![counter()],
    ];
    rules.push(rule![Match::from(Test::NfProto(IpVersion::V4)), icmpv6_type(Icmp6Type::ECHO_REPLY), drop()]);
    rules
}

fn opening() -> TcpFlags {
    TcpFlags::FIN.or(TcpFlags::SYN).or(TcpFlags::RST).or(TcpFlags::ACK)
}

fn lookups() -> Vec<Rule> {
    let pairs = [Field::IifName, Field::IpSaddr];
    vec![
        rule![in_set(pairs, &set("pairs")), accept()],
        rule![!in_set(pairs, &set("pairs")), drop()],
        rule![!in_set([Field::IifName, Field::Ip6Saddr], &set("pairs6")), drop()],
        rule![in_set([Field::IpDaddr], &set("nets")), in_set([Field::IpSaddr], &set("timed")), drop()],
        rule![in_set([Field::IpSaddr, Field::L4Proto, Field::ThDport], &set("ranges")), accept()],
        rule![in_set([Field::TcpDport], &set("ports")), accept()],
        rule![vmap(pairs, &set("verdicts"))],
        rule![vmap([Field::IpDaddr], &set("by_net"))],
        rule![in_set(FLOW4, &set("recent")), update(FLOW4, &set("recent"), MINUTE), counter(), drop()],
        rule![in_set(FLOW6, &set("recent6")), update(FLOW6, &set("recent6"), MINUTE), drop()]
            .comment("recent"),
        rule![!l4proto(L4Proto::TCP), update([Field::IpDaddr], &set("seen"), Duration::from_millis(1500))],
        rule![tcp_dport(80), update([Field::IpSaddr, Field::TcpSport], &set("ports4"), MINUTE), accept()],
    ]
}

fn telling() -> Vec<Rule> {
    let (five, ten) = (size(5), size(10));
    let second = Limit::per_second(five, ten);
    let prefix = |text: &str| LogPrefix::new(text).unwrap();
    let short = Log { prefix: prefix("denied in 0123456789abcdef "), group: 83, snaplen: Some(size(100)) };
    let units = [Per::Minute, Per::Hour, Per::Day, Per::Week];
    let mut rules = vec![
        rule![limit(second), Statement::Log(short), counter(), drop()].comment("denied"),
        rule![log(prefix(""), 65535)],
        rule![update_limited([Field::IpSaddr], &set("seen"), (MINUTE, second)), log(prefix("x"), 0), drop()],
        rule![ct_state(CtStates::NEW), limit(Limit { over: true, ..second }), drop()],
    ];
    rules.push(rule![one_in(size(20)), drop()]);
    rules.extend(units.map(|per| rule![limit(Limit { per, burst: five, ..second }), accept()]));
    rules
}

const MINUTE: Duration = Duration::from_secs(60);
const FLOW4: [Field; 5] = [Field::IpSaddr, Field::IpDaddr, Field::L4Proto, Field::ThSport, Field::ThDport];
const FLOW6: [Field; 5] = [Field::Ip6Saddr, Field::Ip6Daddr, Field::L4Proto, Field::ThSport, Field::ThDport];

fn dnat() -> Vec<Rule> {
    vec![
        rule![dnat_map(IpVersion::V4, [Field::IpDaddr, Field::L4Proto, Field::ThDport], &set("published"))],
        rule![dnat_map(IpVersion::V6, [Field::Ip6Daddr, Field::L4Proto, Field::ThDport], &set("published6"))],
        rule![dnat_map(IpVersion::V4, [Field::L4Proto, Field::ThDport], &set("everywhere"))],
    ]
}

fn size(elements: u32) -> NonZeroU32 {
    NonZeroU32::new(elements).unwrap()
}

fn sets() -> Table {
    let nets = ["10.0.0.0/8", "192.168.0.0/24", "192.168.1.1/32", "255.255.255.0/24", "10.1.0.0/16"];
    let nets = nets.map(|text| text.parse::<Ipv4Net>().unwrap());
    let range: Ipv4Net = "10.9.0.0/16".parse().unwrap();
    let goto_leaf = Verdict::Goto(chain("leaf"));
    Table::new()
        .set(set("empty"), Set::of::<Ipv4Addr>([]))
        .set(set("pairs"), Set::of([(name("slv1"), v4(1)), (name("slv2"), v4(1)), (name("slv2"), v4(2))]))
        .set(set("pairs6"), Set::of([(name("slv1"), v6(1)), (name("slv2"), v6(0x100))]))
        .set(set("nets"), Set::of(nets))
        .set(set("nets6"), Set::of(["fd00::/48", "fd00:1::/127"].map(|t| t.parse::<Ipv6Net>().unwrap())))
        .set(set("timed"), Set::of([v4(9)]).with_timeouts([(v4(7), Duration::from_secs(3605))]))
        .set(set("ranges"), Set::of([(range, L4Proto::TCP, 1..=5), (range, L4Proto::UDP, 53..=53)]))
        .set(set("ports"), Set::of([1..=7, 9..=19, 80..=80, 65000..=65535]))
        .set(set("many"), Set::of((0..500u16).map(v6)))
        .set(set("protos"), Set::of([L4Proto::TCP, L4Proto::ICMPV6]))
        .set(set("names"), Set::of([name("slv1"), name("slv2")]))
        .set(
            set("verdicts"),
            Set::verdicts([
                ((name("slv1"), v4(1)), Verdict::Accept),
                ((name("slv2"), v4(1)), goto_leaf.clone()),
                ((name("slv2"), v4(2)), Verdict::Drop),
                ((name("slv3"), v4(2)), Verdict::Return),
            ]),
        )
        .set(set("by_net"), Set::verdicts([(nets[0], goto_leaf), (nets[1], Verdict::Continue)]))
        .set(set("published"), Set::map([((v4(1), L4Proto::TCP, 80u16), (v4(2), 8080u16))]))
        .set(set("published6"), Set::map([((v6(1), L4Proto::TCP, 80u16), (v6(2), 8080u16))]))
        .set(set("everywhere"), everywhere())
        .set(set("recent"), Set::dynamic::<(Ipv4Addr, Ipv4Addr, L4Proto, u16, u16)>(size(131_072)))
        .set(set("recent6"), Set::dynamic::<(Ipv6Addr, Ipv6Addr, L4Proto, u16, u16)>(size(65_535)))
        .set(set("seen"), Set::dynamic::<Ipv4Addr>(size(16)))
        .set(set("ports4"), Set::dynamic::<(Ipv4Addr, u16)>(size(1)))
}

/// One of the elements says whose it is.
fn everywhere() -> Set {
    Set::map([((L4Proto::SCTP, 80u16), (v4(2), 8080u16)), ((L4Proto::UDP, 53u16), (v4(2), 53u16))])
        .comment((L4Proto::SCTP, 80u16), Comment::new("slv1 mynet web-0/eth0"))
}

pub(crate) fn bridge() -> Table {
    let own = |field, name| in_set([Field::IifName, field], &set(name));
    let advert = || icmpv6_type(Icmp6Type::NEIGHBOUR_ADVERT);
    let rules = [
        rule![ether_type(EtherType::ARP), drop()],
        rule![!ether_type(EtherType(0x1234)), drop()],
        rule![ether_saddr(mac()), accept()],
        rule![arp_saddr_ip(v4(1)), accept()],
        rule![arp_saddr_ip("10.0.0.0/9".parse::<Ipv4Net>().unwrap()), accept()],
        rule![arp_saddr_ether(mac()), !arp_saddr_ip(v4(1)), accept()],
        rule![own(Field::ArpSaddrIp, "addresses4"), accept()],
        rule![!own(Field::IpSaddr, "addresses4"), drop()],
        rule![own(Field::EtherSaddr, "macs"), accept()],
        rule![saddr(net("fd00::1/128")), accept()],
        rule![advert(), nd_target(v6(1)), accept()],
        rule![advert(), !own(Field::NdTarget, "addresses6"), drop()],
        rule![tcp_dport(80), saddr(net("10.0.0.1/32")), accept()],
    ];
    let base = Base::filter(Hook::Prerouting, priority::BRIDGE_FILTER);
    Table::new()
        .set(set("addresses4"), Set::of([(name("slv1"), v4(1))]))
        .set(set("addresses6"), Set::of([(name("slv1"), v6(1))]))
        .set(set("macs"), Set::of([(name("slv1"), mac())]))
        .chain(chain("prerouting"), Chain::base(base, rules))
}

fn ip() -> Table {
    let rules = [
        rule![saddr(net("10.0.0.0/8")), tcp_dport(80), accept()],
        rule![icmp_type(IcmpType::ECHO_REPLY), accept()],
        rule![in_set([Field::IpSaddr], &set("addresses")), drop()],
    ];
    Table::new()
        .set(set("addresses"), Set::of([v4(1)]))
        .chain(chain("output"), Chain::base(Base::filter(Hook::Output, priority::MANGLE), rules))
}
