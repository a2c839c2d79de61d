//! VXLAN devices, forwarding entries and permanent neighbours.

use selvedge_datapath::state::{FdbEntry, LinkKind, Neighbour, ObservedNetwork, Vxlan};

use super::*;

pub(super) fn vxlan(local: &str) -> Vxlan {
    Vxlan { vni: 83, port: 4789, local: local.parse().unwrap(), learning: false }
}

pub(super) fn create(device: &str, vxlan: Vxlan) -> NetStep {
    let (mac, mtu) = (mac(5), Mtu::new(1450).unwrap());
    NetStep::CreateVxlan { name: name(device), mac, mtu, alias: "selvedge net".to_owned(), vxlan }
}

pub(super) fn entry(device: &str, last: u8, remote: &str) -> FdbEntry {
    FdbEntry { device: name(device), mac: mac(last), remote: remote.parse().unwrap() }
}

pub(super) fn neighbour(device: &str, address: &str, last: u8) -> Neighbour {
    Neighbour { device: name(device), address: address.parse().unwrap(), mac: mac(last) }
}

fn observed(wire: &mut Wire) -> ObservedNetwork {
    let mut network = wire.host.observe().unwrap();
    wire.host.observe_overlays(&mut network).unwrap();
    network
}

#[test]
fn a_tunnel_is_read_back_as_it_was_made_and_changed() {
    let Some(mut wire) = Wire::new() else { return };
    assert!(wire.host.has_vxlan());
    for (device, local) in [("slvx4", "172.30.0.1"), ("slvx6", "fd00:30::1")] {
        wire.on_host(&[create(device, vxlan(local))]);
        let link = wire.host_link(device);
        assert_eq!((link.kind, link.mac, link.mtu), (LinkKind::Vxlan, Some(mac(5)), 1450));
        assert_eq!((link.alias.as_str(), link.vxlan), ("selvedge net", Some(vxlan(local))));
        wire.on_host(&[NetStep::DeleteLink { name: name(device) }]);
    }
    wire.on_host(&[create("slvx", vxlan("172.30.0.1")), set("slvx", LinkChange::Vxlan(vxlan("172.30.0.9")))]);
    assert_eq!(wire.host_link("slvx").vxlan, Some(vxlan("172.30.0.9")));
    let again = wire.host.apply(&[create("slvx", vxlan("172.30.0.1"))], None);
    assert!(again[0].is_err(), "a device that is there is not changed by being made");
}

#[test]
fn a_kind_of_links_is_asked_for_without_a_link_being_made() {
    let Some(mut wire) = Wire::new() else { return };
    let links = |wire: &mut Wire| wire.host.observe().unwrap().links.len();
    let before = links(&mut wire);
    for (kind, there) in [("bridge", true), ("veth", true), ("vxlan", true), ("selvedge", false)] {
        assert_eq!(wire.host.has_kind(kind), there, "{kind}");
    }
    assert_eq!(links(&mut wire), before);
    let device = name("slwg");
    match wire.host.create_wireguard(&device) {
        Err(refusal) if refusal.errno() == libc::EOPNOTSUPP => assert!(!wire.host.has_wireguard()),
        made => {
            made.unwrap();
            assert!(wire.host.has_wireguard());
            assert_eq!(wire.host_link("slwg").kind, LinkKind::Wireguard);
            assert_eq!(wire.host.create_wireguard(&device).unwrap_err().errno(), libc::EEXIST);
            let index = wire.host_link("slwg").index;
            wire.host.delete_index(index).unwrap();
            wire.host.delete_index(index).unwrap();
            assert_eq!(links(&mut wire), before);
        }
    }
}

#[test]
fn entries_are_replaced_and_taken_away() {
    let Some(mut wire) = Wire::new() else { return };
    let (next_hop, six) = ("10.244.1.0", "fe80::858:aff:fef4:102");
    wire.on_host(&[
        create("slvx", vxlan("172.30.0.1")),
        set("slvx", LinkChange::Up),
        NetStep::SetFdb(entry("slvx", 6, "172.30.0.2")),
        NetStep::SetFdb(entry("slvx", 7, "172.30.0.3")),
        NetStep::SetFdb(entry("slvx", 6, "172.30.0.9")),
        NetStep::SetNeighbour(neighbour("slvx", next_hop, 7)),
        NetStep::SetNeighbour(neighbour("slvx", next_hop, 6)),
        NetStep::SetNeighbour(neighbour("slvx", six, 6)),
    ]);
    let there = observed(&mut wire);
    assert_eq!(there.fdb, [entry("slvx", 6, "172.30.0.9"), entry("slvx", 7, "172.30.0.3")].into());
    assert_eq!(there.neighbours, [neighbour("slvx", next_hop, 6), neighbour("slvx", six, 6)].into());
    let gone = [
        NetStep::DeleteFdb(entry("slvx", 6, "172.30.0.9")),
        NetStep::DeleteFdb(entry("slvx", 7, "172.30.0.3")),
        NetStep::DeleteNeighbour(neighbour("slvx", next_hop, 6)),
        NetStep::DeleteNeighbour(neighbour("slvx", six, 6)),
    ];
    wire.on_host(&gone);
    wire.on_host(&gone);
    let there = observed(&mut wire);
    assert!(there.fdb.is_empty() && there.neighbours.is_empty(), "{there:?}");
}

#[test]
fn a_route_by_a_next_hop_that_no_address_tells_of_is_read_back() {
    let Some(mut wire) = Wire::new() else { return };
    let four = Route { onlink: true, ..route("10.244.1.0/24", Some("10.244.1.0"), "slvx") };
    let six = route("fd00:1::/64", Some("fe80::858:aff:fef4:102"), "slvx");
    wire.on_host(&[
        create("slvx", vxlan("172.30.0.1")),
        // Where there is no address at all, the kernel takes every next hop for a broadcast.
        add("slvx", address("10.244.0.0/32")),
        set("slvx", LinkChange::Up),
        NetStep::AddRoute(four.clone()),
        NetStep::AddRoute(six.clone()),
    ]);
    let routes = observed(&mut wire).routes;
    assert!(routes.contains(&four) && routes.contains(&six), "{routes:?}");
}

#[test]
fn entries_of_tunnels_that_are_not_ours_are_not_looked_at() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[
        create("flannel.1", vxlan("172.30.0.1")),
        set("flannel.1", LinkChange::Alias(String::new())),
        NetStep::SetFdb(entry("flannel.1", 6, "172.30.0.2")),
    ]);
    let there = observed(&mut wire);
    assert!(there.fdb.is_empty() && there.neighbours.is_empty(), "{there:?}");
}

#[test]
fn checksums_are_left_to_others_or_not() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[create("slvx", vxlan("172.30.0.1"))]);
    for on in [false, true, false] {
        wire.on_host(&[NetStep::SetTxChecksums { device: name("slvx"), on }]);
        assert_eq!(observed(&mut wire).links[&name("slvx")].tx_checksums, Some(on));
    }
    let gone = wire.host.apply(&[NetStep::SetTxChecksums { device: name("slvy"), on: false }], None);
    assert!(gone[0].is_err());
}
