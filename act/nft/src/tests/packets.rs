//! Packets that rules tell of.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use selvedge_ruleset::matching::{IfPrefix, l4proto, oifname_prefix, tcp_dport, udp_dport};
use selvedge_ruleset::rule::{counter, drop, limit, log, mark_or, update_limited};
use selvedge_ruleset::value::L4Proto;
use selvedge_ruleset::{
    Base, Chain, ChainName, Family, Field, Headers, Hook, Limit, LogPrefix, Logged, Rule, Set, SetName,
    Table, TableId, TcpFlags, priority, rule,
};

use super::{in_namespace, installed, make, run};
use crate::{Departures, Heard, NftSocket, PacketLog};

const ID: TableId = TableId::literal(Family::Inet, "sample");
const SEEN: SetName = SetName::literal("seen");
const GROUP: u16 = 83;
/// Where packets go that nothing limits.
const LAST: u16 = 99;

fn prefix(text: &str) -> LogPrefix {
    LogPrefix::new(text).unwrap()
}

/// Has the kernel tell of packets that are sent, in a namespace whose loopback is up.
fn told_by(rules: impl IntoIterator<Item = Rule>) -> NftSocket {
    run("ip link set lo up", "");
    let chain = Chain::base(Base::filter(Hook::Output, priority::FILTER), rules);
    let set = Set::dynamic::<Ipv4Addr>(NonZeroU32::new(100).unwrap());
    let table = Table::new().set(SEEN, set).chain(ChainName::literal("output"), chain);
    let mut socket = NftSocket::open().unwrap();
    make(&mut socket, &BTreeMap::from([(ID, table)]));
    socket
}

/// What is heard next, which is waited for.
fn next(packets: &mut PacketLog) -> Heard {
    loop {
        if let Some(heard) = packets.next_heard().unwrap() {
            return heard;
        }
        assert!(wait(packets, Duration::from_secs(30)), "nothing was told");
    }
}

/// Waits until something is heard, or for so long; true if something is.
fn wait(packets: &PacketLog, within: Duration) -> bool {
    let within = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(packets, PollFlags::IN)], Some(&within)).unwrap() > 0
}

fn packet(heard: Heard) -> Logged {
    match heard {
        Heard::Packet(logged) => logged,
        Heard::Lost => panic!("packets were lost"),
    }
}

/// Sends so many packets of no content from an address, to the same address.
fn send(from: Ipv4Addr, port: u16, count: usize) {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    for _ in 0..count {
        // Nobody listens, which a later send tells.
        socket.send_to(&[], (from, port)).ok();
    }
}

fn loopback(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

#[test]
fn a_packet_is_told_with_what_its_headers_say() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        let lo = IfPrefix::literal("lo");
        let udp = rule![udp_dport(9), mark_or(0x4000), log(prefix("denied by shop/web: "), GROUP)];
        let tcp = rule![oifname_prefix(&lo), tcp_dport(80), log(prefix(""), GROUP), drop()];
        let mut socket = told_by([udp, tcp]);
        assert!(socket.features().unwrap().packet_log);
        let mut packets = PacketLog::open(GROUP).unwrap();
        assert_eq!(packets.next_heard().unwrap(), None);
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sender.send_to(&[7; 1000], (Ipv4Addr::LOCALHOST, 9)).unwrap();
        let lo = NonZeroU32::new(1);
        let from = sender.local_addr().unwrap().port();
        let at = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let headers = Headers {
            source: at,
            destination: at,
            proto: L4Proto::UDP,
            ports: Some((from, 9)),
            icmp: None,
            tcp: None,
        };
        let prefix = "denied by shop/web: ".to_owned();
        let expected = Logged { prefix, iif: None, oif: lo, mark: 0x4000, headers: Some(headers) };
        assert_eq!(packet(next(&mut packets)), expected);
        let to = SocketAddr::from((Ipv6Addr::LOCALHOST, 80));
        assert!(TcpStream::connect_timeout(&to, Duration::from_millis(1)).is_err());
        let logged = packet(next(&mut packets));
        let headers = logged.headers.unwrap();
        assert_eq!((logged.prefix, logged.oif, logged.mark), (String::new(), lo, 0));
        assert_eq!((headers.source, headers.destination), (to.ip(), to.ip()));
        assert_eq!((headers.ports.unwrap().1, headers.tcp), (80, Some(TcpFlags::SYN)));
    });
}

#[test]
fn limits_let_as_many_pass_as_they_say_each_sender_its_own() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        let (one, three) = (NonZeroU32::MIN, NonZeroU32::new(3).unwrap());
        // What comes again within the test is far less than one.
        let few = Limit { rate: one, per: selvedge_ruleset::Per::Week, burst: three, over: false };
        let each = update_limited([Field::IpSaddr], &SEEN, (Duration::from_secs(3600), few));
        let _socket = told_by([
            rule![udp_dport(7), limit(few), log(prefix("all"), GROUP)],
            rule![udp_dport(8), each, log(prefix("each"), GROUP)],
            rule![udp_dport(LAST), log(prefix("last"), GROUP)],
        ]);
        let mut packets = PacketLog::open(GROUP).unwrap();
        for last in 1..=2 {
            send(loopback(last), 7, 20);
            send(loopback(last), 8, 20);
        }
        send(loopback(1), LAST, 1);
        let mut told = BTreeMap::<_, usize>::new();
        loop {
            let logged = packet(next(&mut packets));
            if logged.prefix == "last" {
                break;
            }
            *told.entry((logged.prefix, logged.headers.unwrap().source.to_string())).or_default() += 1;
        }
        let expected = [("all", "127.0.0.1"), ("each", "127.0.0.1"), ("each", "127.0.0.2")];
        let expected = expected.map(|(prefix, from)| ((prefix.to_owned(), from.to_owned()), 3));
        assert_eq!(told, BTreeMap::from(expected));
    });
}

#[test]
fn counters_are_read_with_their_rules_and_only_grow() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        let counts = rule![udp_dport(9), counter(), drop()].comment("discarded");
        let mut socket = told_by([rule![udp_dport(7), drop()], counts.clone()]);
        let mut departures = Departures::open().unwrap();
        let mut read = || {
            let counted = socket.counted(&ID).unwrap();
            let [one] = &counted[..] else { panic!("{counted:?}") };
            assert_eq!((&one.rule, one.chain.as_str()), (&counts, "output"));
            one.packets
        };
        assert_eq!(read(), 0);
        send(loopback(1), 9, 3);
        assert_eq!(read(), 3);
        send(loopback(1), 7, 2);
        send(loopback(1), 9, 1);
        assert_eq!(read(), 4);
        // It says how much it was when it goes.
        send(loopback(1), 9, 2);
        make(&mut socket, &BTreeMap::from([(ID, Table::new())]));
        let gone = departures.gone(&ID).unwrap();
        assert_eq!(gone.iter().map(|one| (&one.rule, one.packets)).collect::<Vec<_>>(), [(&counts, 6)]);
        assert_eq!(departures.gone(&ID).unwrap(), []);
        let none = TableId::literal(Family::Inet, "nobodys");
        assert_eq!(socket.counted(&none).unwrap(), []);
    });
}

#[test]
fn packets_that_nobody_read_in_time_are_told_as_lost_and_what_comes_after_is_heard() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        let _socket = told_by([rule![l4proto(L4Proto::UDP), log(prefix("x"), GROUP)]]);
        let mut packets = PacketLog::open(GROUP).unwrap();
        packets.limit_buffer();
        send(loopback(1), 9, 2000);
        while next(&mut packets) != Heard::Lost {}
        // There is room again only once all was read that waits, some of which is yet to come.
        let is_last = |heard: &Heard| match heard {
            Heard::Packet(logged) => logged.headers.unwrap().ports.unwrap().1 == LAST,
            Heard::Lost => false,
        };
        let heard_again = (0..300).any(|_| {
            while packets.next_heard().unwrap().is_some() {}
            send(loopback(1), LAST, 1);
            wait(&packets, Duration::from_millis(100))
                && packets.next_heard().unwrap().is_some_and(|one| is_last(&one))
        });
        assert!(heard_again);
    });
}

#[test]
fn a_group_has_one_listener_and_is_free_when_that_is_gone() {
    in_namespace(|| {
        let first = PacketLog::open(GROUP).unwrap();
        let why = selvedge_model::chain(&PacketLog::open(GROUP).unwrap_err());
        assert!(why.starts_with("cannot listen to group 83 of the netfilter log"), "{why}");
        let _other = PacketLog::open(GROUP + 1).unwrap();
        std::mem::drop(first);
        PacketLog::open(GROUP).unwrap();
    });
}
