//! In namespaces: two nodes with a router between them.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use selvedge_datapath::state::{Address, Route, RouteProtocol, Sysctl};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::transport::Transport;
use selvedge_model::{IfName, MacAddr, Mtu};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;

use super::*;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn up(device: &str) -> NetStep {
    NetStep::SetLink { name: name(device), change: LinkChange::Up }
}

/// Before duplicate address detection is through, a router can't ask for its neighbours.
fn no_dad(device: &str) -> NetStep {
    NetStep::SetSysctl { key: Sysctl::Ipv6Conf(Some(name(device)), "accept_dad"), value: "0" }
}

fn address(device: &str, net: &str) -> NetStep {
    NetStep::AddAddress { device: name(device), address: Address::global(net.parse().unwrap()) }
}

fn default_route(via: &str) -> NetStep {
    let destination = if via.contains(':') { "::/0" } else { "0.0.0.0/0" };
    NetStep::AddRoute(Route {
        destination: destination.parse().unwrap(),
        via: Some(via.parse().unwrap()),
        device: name("eth0"),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(4),
    })
}

fn bridge(device: &str) -> NetStep {
    let mac = MacAddr([2, 0, 0, 0, 9, 9]);
    NetStep::CreateBridge { name: name(device), mac, mtu: Mtu::ETHERNET, alias: String::new() }
}

/// Two nodes, `10.1.0.2` and `10.2.0.2`, with a router between them; what it has towards the second is its MTU.
struct Ground {
    nodes: [Namespace; 2],
    _router: Namespace,
}

impl Ground {
    fn new(beyond: u32) -> Option<Self> {
        let router = Namespace::create().ok()?;
        let nodes = [Namespace::create().unwrap(), Namespace::create().unwrap()];
        let mut there = RouteSocket::open_in(&router).unwrap();
        let mtus = [Mtu::ETHERNET, Mtu::new(beyond).unwrap()];
        for (n, node) in (1..).zip(&nodes) {
            let port = format!("eth{n}");
            let pair = VethPair {
                host: name(&port),
                host_mac: MacAddr([2, 0, 0, 0, 1, n]),
                alias: String::new(),
                master: None,
                pod: name("eth0"),
                pod_mac: MacAddr([2, 0, 0, 0, 2, n]),
                mtu: Mtu::ETHERNET,
            };
            let mtu = LinkChange::Mtu(mtus[usize::from(n) - 1]);
            let steps = [
                NetStep::CreateVeth(pair),
                no_dad(&port),
                NetStep::SetLink { name: name(&port), change: mtu },
                address(&port, &format!("10.{n}.0.1/24")),
                address(&port, &format!("fd00:{n}::1/64")),
                up(&port),
                NetStep::SetSysctl { key: Sysctl::Ipv4Forward, value: "1" },
                NetStep::SetSysctl { key: Sysctl::Ipv6Forward, value: "1" },
            ];
            there.apply_until_failure(&steps, Some(node.as_fd())).unwrap();
            let steps = [
                up("lo"),
                no_dad("eth0"),
                address("eth0", &format!("10.{n}.0.2/24")),
                address("eth0", &format!("fd00:{n}::2/64")),
                up("eth0"),
                default_route(&format!("10.{n}.0.1")),
                default_route(&format!("fd00:{n}::1")),
            ];
            RouteSocket::open_in(node).unwrap().apply_until_failure(&steps, None).unwrap();
        }
        Some(Self { nodes, _router: router })
    }

    /// A prober on a node, which knows the other one.
    fn prober(&self, n: usize) -> Prober {
        let of = |n: usize| [format!("10.{n}.0.2"), format!("fd00:{n}::2")].map(|a| a.parse().unwrap());
        let seats = of(n).map(|address| Seat { address, device: None });
        let mut prober = Prober::default();
        prober.know(of(3 - n).into());
        self.nodes[n - 1].run(|| prober.sit(&seats.into())).unwrap();
        assert!(prober.missing.is_empty(), "{prober:?}");
        prober
    }

    /// What the first node finds while the second one's prober serves, at the latest after some tries: the machine may
    /// be busy with something else.
    fn found(
        &self,
        mut theirs: Prober,
        targets: &[Target],
        as_expected: impl Fn(&[Measured]) -> bool,
    ) -> Vec<Measured> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    theirs.serve(Instant::now() + Duration::from_millis(20));
                }
            });
            let mut prober = self.prober(1);
            let mut tries = (0..20).map(|_| prober.measure(targets));
            let found = tries.find(|found| as_expected(found)).unwrap_or_default();
            done.store(true, Ordering::Relaxed);
            found
        })
    }
}

fn target(to: &str) -> Target {
    let (node, transport) = ("node-b".parse().unwrap(), Transport::Direct);
    let from = if to.contains(':') { "fd00:1::2" } else { "10.1.0.2" };
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    Target { node, transport, from, to, device: None, mtu: Mtu::ETHERNET }
}

#[test]
fn a_whole_path_is_found_whole_and_one_that_nobody_answers_on_is_silent() {
    let Some(ground) = Ground::new(1500) else { return };
    let whole = Measured::Through { mtu: 1500 };
    let expected = [whole, whole, Measured::Silent];
    let targets = ["10.2.0.2", "fd00:2::2", "10.2.0.9"].map(target);
    let found = ground.found(ground.prober(2), &targets, |found| found == expected);
    assert_eq!(found, expected);
}

#[test]
fn a_narrower_path_is_measured() {
    let Some(ground) = Ground::new(1411) else { return };
    let expected = [Measured::Through { mtu: 1411 }; 2];
    let targets = ["10.2.0.2", "fd00:2::2"].map(target);
    let found = ground.found(ground.prober(2), &targets, |found| found == expected);
    assert_eq!(found, expected);
}

#[test]
fn a_peer_that_was_away_for_a_moment_does_not_narrow_its_path() {
    let Some(ground) = Ground::new(1500) else { return };
    let socket = ground.nodes[1].run(|| UdpSocket::bind(("10.2.0.2", PORT))).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut away, mut buffer) = (0, [0; 2000]);
            while !done.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let Some((Kind::Ask, number)) = packet::read(&buffer[..length]) else { continue };
                // Each measurement begins with something short; the peer goes then, and misses what is asked next.
                if length < 600 {
                    away = TRIES;
                } else if away > 0 {
                    away -= 1;
                    continue;
                }
                socket.send_to(&packet::write(Kind::Answer, number, length), from).unwrap();
            }
        });
        let mut prober = ground.prober(1);
        let mut tries = (0..10).map(|_| prober.measure(&[target("10.2.0.2")]));
        let whole = tries.any(|found| found == [Measured::Through { mtu: 1500 }]);
        done.store(true, Ordering::Relaxed);
        assert!(whole);
    });
}

#[test]
fn strangers_are_not_answered() {
    let Some(ground) = Ground::new(1500) else { return };
    let mut theirs = ground.prober(2);
    theirs.know(BTreeSet::new());
    let found = ground.found(theirs, &[target("10.2.0.2")], |_| true);
    assert_eq!(found, [Measured::Silent]);
}

/// A seat on the first node that isn't there yet.
fn seat(device: Option<&str>) -> Seat {
    Seat { address: "10.9.9.9".parse().unwrap(), device: device.map(name) }
}

/// As if nothing had been taken for so long.
fn wait_in_vain(prober: &mut Prober) {
    prober.missing.values_mut().for_each(|(since, _)| *since -= PATIENCE);
}

#[test]
fn a_seat_is_taken_once_it_is_there_and_again_on_a_device_that_was_made_anew() {
    let Some(ground) = Ground::new(1500) else { return };
    let node = &ground.nodes[0];
    let change = |step| RouteSocket::open_in(node).unwrap().apply_until_failure(&[step], None).unwrap();
    let seats = BTreeSet::from([seat(None), seat(Some("br9"))]);
    let mut prober = Prober::default();
    let sit = |prober: &mut Prober| node.run(|| prober.sit(&seats)).unwrap();
    sit(&mut prober);
    assert_eq!((prober.taken.len(), prober.is_settled(), prober.missing().count()), (0, false, 0));
    for _ in 0..2 {
        change(bridge("br9"));
        change(address("br9", "10.9.9.9/32"));
        sit(&mut prober);
        assert_eq!((prober.taken.len(), prober.is_settled()), (2, true));
        change(NetStep::DeleteLink { name: name("br9") });
        sit(&mut prober);
        assert!(!prober.taken.contains_key(&seat(Some("br9"))) && !prober.is_settled());
    }
    node.run(|| prober.sit(&BTreeSet::new())).unwrap();
    assert!(prober.taken.is_empty() && prober.is_settled());
}

#[test]
fn nobody_is_answered_before_every_seat_is_taken_but_for_one_that_does_not_come_and_is_named() {
    let Some(ground) = Ground::new(1500) else { return };
    let short_of_one = || {
        let mut theirs = ground.prober(2);
        let seats = theirs.taken.keys().cloned().chain([seat(None)]).collect();
        ground.nodes[1].run(|| theirs.sit(&seats)).unwrap();
        theirs
    };
    let targets = [target("10.2.0.2")];
    assert_eq!(ground.found(short_of_one(), &targets, |_| true), [Measured::Silent]);
    let mut theirs = short_of_one();
    wait_in_vain(&mut theirs);
    let missing: Vec<String> = theirs.missing().map(|missing| missing.to_string()).collect();
    assert!(missing[0].contains("10.9.9.9, UDP port 9764: Cannot assign"), "{missing:?}");
    let whole = [Measured::Through { mtu: 1500 }];
    assert_eq!(ground.found(theirs, &targets, |found| found == whole), whole);
}
