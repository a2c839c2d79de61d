//! The node's own tables.

use std::collections::BTreeMap;

use ipnet::IpNet;
use selvedge_datapath::firewall::{AGENT, GUARD, PLUGIN, PodNetwork, agent, guard, guarded, standalone};
use selvedge_datapath::published::{PUBLISHED, PortOwner, PublishedPort, PublishedPorts};
use selvedge_model::{AttachmentKey, HostIp, IfName, PortMapping, Transport};
use selvedge_ruleset::shape::check;
use selvedge_ruleset::show::Listing;
use selvedge_ruleset::{Object, Scope, Table, TableId, diff};

use super::{in_namespace, installed, make, run, towards};
use crate::NftSocket;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn every(owned: bool, bridge: Option<&IfName>) -> BTreeMap<TableId, Table> {
    let subnets = nets(&["10.244.1.0/24", "fd00:10:244:1::/64"]);
    let direct = nets(&["10.244.0.0/16", "172.30.0.11/32", "fd00:10:244::/48"]);
    let network = PodNetwork { subnets: &subnets, direct: &direct, masquerade: true, bridge };
    let port: IfName = "slvabcdefghijkl".parse().unwrap();
    let pod = nets(&["10.244.1.7/24", "fd00:10:244:1::7/64"]);
    BTreeMap::from([
        (AGENT, agent(network, owned)),
        (PLUGIN, standalone(&"my.net_1".parse().unwrap(), network)),
        (GUARD, guard([(&port, pod.as_slice())])),
    ])
}

#[test]
fn the_kernel_takes_every_table_of_ours_and_lists_it_as_it_is() {
    let bridge: IfName = "cni0".parse().unwrap();
    for bridge in [None, Some(&bridge)] {
        in_namespace(|| {
            let mut socket = NftSocket::open().unwrap();
            let owned = socket.features().unwrap().owned_tables;
            let desired = every(owned, bridge);
            for (id, table) in &desired {
                assert_eq!(check(id, table), Ok(()), "{id}");
            }
            let listed = make(&mut socket, &desired);
            assert!(towards(&desired, &listed).is_empty());
            assert_eq!(guarded(&listed[&GUARD]).len(), 2);
        });
    }
}

/// Ports of every kind, for a pod with an address of each family.
fn published() -> PublishedPorts {
    let host: IfName = "slvabcdefghijkl".parse().unwrap();
    let key = AttachmentKey { container: "web-0".parse().unwrap(), ifname: "eth0".parse().unwrap() };
    let owner = PortOwner::new(&host, &"mynet".parse().unwrap(), &key);
    let pod = ["10.244.1.7".parse().unwrap(), "fd00:10:244:1::7".parse().unwrap()];
    let places = [HostIp::Any, HostIp::Is([10, 0, 0, 1].into()), HostIp::Is("fd00:30::11".parse().unwrap())];
    let mut ports = PublishedPorts { loopback: [host, "cni0".parse().unwrap()].into(), ..Default::default() };
    for (port, host_ip) in (8080..).zip(places) {
        let [host_port, container_port] = [port, 80].map(|port: u16| port.try_into().unwrap());
        for transport in Transport::ALL {
            let mapping = PortMapping { transport, host_ip, host_port, container_port };
            ports.ports.extend(PublishedPort::of(&mapping, &pod, &owner));
        }
    }
    ports
}

#[test]
fn the_kernel_takes_published_ports_and_lists_them_as_they_are() {
    if !installed("nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        assert!(!socket.has_chain(&PLUGIN, &PUBLISHED).unwrap());
        let ports = published();
        let done = socket.update(&[PLUGIN], |listed| ports.transaction(listed)).unwrap();
        assert!(!done.is_empty() && socket.has_chain(&PLUGIN, &PUBLISHED).unwrap());
        let listed = socket.list(&[PLUGIN]).unwrap();
        assert_eq!(PublishedPorts::listed(&listed), ports);
        assert!(ports.transaction(&listed).is_empty());
        let ours = Listing(&PLUGIN, &listed[&PLUGIN].known()).to_string();
        let theirs = run(&format!("nft -s list table {PLUGIN}"), "");
        let sorted = |text: &str| {
            let trim =
                |line: &str| line.replace("elements = { ", "").trim_matches([' ', '\t', ',', '}']).to_owned();
            let mut lines: Vec<String> = text.lines().map(trim).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&ours), sorted(&theirs));
        let none = PublishedPorts::default();
        socket.update(&[PLUGIN], |listed| none.transaction(listed)).unwrap();
        assert!(socket.list(&[PLUGIN]).unwrap().is_empty());
    });
}

#[test]
fn who_cares_for_rules_alone_leaves_sets_as_they_are() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let ports = published();
        socket.update(&[PLUGIN], |listed| ports.transaction(listed)).unwrap();
        let none = BTreeMap::new();
        let sets_are_foreign =
            |object: Object<'_>| matches!(object, Object::Chain(name) if *name != PUBLISHED);
        let mut seen = 0;
        let done = socket.update_rules(&[PLUGIN], |listed| {
            seen = listed[&PLUGIN].sets.len();
            let transaction = diff(&none, listed, Scope::Part(&sets_are_foreign));
            assert!(listed[&PLUGIN].sets.values().all(|set| set.known().is_none()));
            transaction
        });
        assert_eq!((seen, done.unwrap().commands().len()), (7, 8));
        assert_eq!(PublishedPorts::listed(&socket.list(&[PLUGIN]).unwrap()), ports);
    });
}
