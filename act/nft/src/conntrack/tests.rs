//! Against the real kernel, with connections over the loopback device.

mod flows;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use selvedge_ruleset::matching::{CtStates, ct_state};
use selvedge_ruleset::{
    Base, Chain, ChainName, Family, Hook, IpVersion, Table, TableId, Verdict, priority, rule,
};

use super::Conntrack;
use crate::NftSocket;
use crate::tests::{in_namespace, installed, make, run};

/// Has connections tracked, and opens one between each two of these addresses.
fn track(addresses: &[IpAddr]) {
    run("ip link set lo up", "");
    let rule = rule![ct_state(CtStates::NEW), Verdict::Accept];
    let base = Base::filter(Hook::Output, priority::FILTER);
    let table = Table::new().chain(ChainName::literal("output"), Chain::base(base, [rule]));
    let id = TableId::literal(Family::Inet, "tracking");
    make(&mut NftSocket::open().unwrap(), &BTreeMap::from([(id, table)]));
    for &address in addresses.iter().filter(|address| !address.is_loopback()) {
        run(&format!("ip addr add {address} dev lo{}", if address.is_ipv6() { " nodad" } else { "" }), "");
    }
    // The kernel makes an IPv6 address usable some time after it was added, by its local route.
    let local =
        || run("ip -6 route show table local", "").lines().filter(|line| line.contains("fd00::")).count();
    while local() < addresses.iter().filter(|address| address.is_ipv6()).count() {
        std::thread::yield_now();
    }
    for &from in addresses {
        for &to in addresses.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            let socket = UdpSocket::bind(SocketAddr::new(from, 0)).unwrap();
            socket.send_to(b"x", SocketAddr::new(to, 9)).unwrap();
        }
    }
}

/// The entries, one a line.
fn entries(conntrack: &mut Conntrack, address: IpAddr) -> usize {
    let found = conntrack.dump(address).unwrap();
    found.iter().filter(|entry| super::has_address(entry.attributes(), address)).count()
}

fn sample() -> Vec<IpAddr> {
    let v4 = (1..=3).map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
    let v6 = (1..=3).map(|last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)));
    v4.chain(v6).collect()
}

/// For each family: an address with five entries, and another.
fn of_each_family(test: impl Fn(&mut Conntrack, IpAddr, IpAddr) + Sync) {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        let addresses = sample();
        track(&addresses);
        let mut conntrack = Conntrack::open().unwrap();
        for (one, other) in [(addresses[0], addresses[1]), (addresses[3], addresses[4])] {
            assert_eq!(entries(&mut conntrack, one), 5);
            test(&mut conntrack, one, other);
        }
    });
}

fn only_its_own_entries_go(flush: fn(&mut Conntrack, IpAddr)) {
    of_each_family(|conntrack, gone, stays| {
        flush(conntrack, gone);
        assert_eq!(entries(conntrack, gone), 0);
        assert_eq!(entries(conntrack, stays), 3);
    });
}

#[test]
fn every_entry_of_an_address_goes_and_no_other() {
    only_its_own_entries_go(|conntrack, address| conntrack.flush_address(address).unwrap());
}

#[test]
fn a_flush_stays_in_its_namespace() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        track(&sample());
        in_namespace(|| {
            track(&sample());
            let mut conntrack = Conntrack::open().unwrap();
            sample().into_iter().for_each(|address| conntrack.flush_address(address).unwrap());
        });
        let mut conntrack = Conntrack::open().unwrap();
        for address in sample() {
            assert_eq!(entries(&mut conntrack, address), 5);
        }
    });
}

#[test]
fn entries_can_be_deleted_one_by_one() {
    only_its_own_entries_go(|conntrack, address| conntrack.delete_one_by_one(address).unwrap());
}

#[test]
fn entries_towards_a_udp_port_go_and_no_others() {
    of_each_family(|conntrack, gone, stays| {
        let version = if gone.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
        conntrack.flush_udp_port(version, 10, |_| true).unwrap();
        conntrack.flush_udp_port(version, 9, |_| false).unwrap();
        assert_eq!(entries(conntrack, gone), 5);
        conntrack.flush_udp_port(version, 9, |at| at == gone).unwrap();
        // What it sent itself stays.
        assert_eq!((entries(conntrack, gone), entries(conntrack, stays)), (2, 4));
    });
}

#[test]
fn the_kernel_lists_what_is_asked_for_and_little_else() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        track(&sample());
        let mut conntrack = Conntrack::open().unwrap();
        let mut listed =
            |port| conntrack.dump_udp_port(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).unwrap().len();
        assert_eq!((listed(9), listed(10)), (9, 0));
    });
}

#[test]
fn nothing_to_delete_is_success() {
    in_namespace(|| {
        Conntrack::open().unwrap().flush_address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))).unwrap();
    });
}
