//! The pure model of the kernel ([`ObservedNetwork::apply`]) held against the kernel itself.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::select;
use selvedge_datapath::state::{LinkKind, ObservedNetwork, Port};

use selvedge_datapath::shaping::TokenBucket;

use super::overlay::{create, entry, neighbour, vxlan};
use super::shaping::ifb;
use super::*;

const DEVICES: [&str; 5] = ["slba", "slva", "slvb", "slvx", "cni0"];

fn device() -> impl Strategy<Value = IfName> {
    select(&DEVICES[..]).prop_map(name)
}

fn any_address() -> impl Strategy<Value = Address> {
    // One of each IPv4 subnet: with a subnet's first address the kernel takes its others away too.
    let addresses = vec![
        address("10.244.1.1/24"),
        Address { noprefixroute: true, ..address("10.244.2.1/24") },
        link_address("169.254.1.1/32"),
        address("fd00::1/64"),
        Address { noprefixroute: true, ..address("fd00::2/64") },
    ];
    select(addresses)
}

fn any_route() -> impl Strategy<Value = Route> {
    let destinations = select(vec!["10.9.0.0/24", "10.9.0.7/32", "fd00:9::/64", "fd00:9::7/128"]);
    (destinations, device(), select(vec![None, Some(1300)]))
        .prop_map(|(destination, device, mtu)| Route { mtu, ..route(destination, None, device.as_str()) })
}

fn any_change() -> impl Strategy<Value = LinkChange> {
    prop_oneof![
        4 => Just(LinkChange::Up),
        1 => select(vec![mac(7), mac(8)]).prop_map(LinkChange::Mac),
        1 => select(vec!["", "selvedge net"]).prop_map(|alias| LinkChange::Alias(alias.to_owned())),
        1 => select(vec![Some(name("cni0")), None]).prop_map(LinkChange::Master),
        1 => any::<[bool; 2]>().prop_map(|[isolated, hairpin]| LinkChange::Port(Port { isolated, hairpin })),
        1 => select(vec![0, 7]).prop_map(LinkChange::Group),
    ]
}

fn any_bucket() -> impl Strategy<Value = TokenBucket> {
    let rates = select(vec![1, 125, 1_250_000, 12_500_000_000]);
    (rates, 1518..=u32::MAX).prop_map(|(rate, burst)| TokenBucket { rate, burst, limit: 81_920 })
}

fn of_overlay() -> impl Strategy<Value = NetStep> {
    let remotes = select(vec!["172.30.0.2", "172.30.0.3"]);
    let next_hops = select(vec!["10.244.1.0", "10.244.2.0", "fe80::1"]);
    let entry = (6..8u8, remotes).prop_map(|(last, remote)| entry("slvx", last, remote));
    let neighbour = (next_hops, 6..8u8).prop_map(|(address, last)| neighbour("slvx", address, last));
    let local = select(vec!["172.30.0.1", "172.30.0.9"]);
    prop_oneof![
        3 => entry.clone().prop_map(NetStep::SetFdb),
        1 => entry.prop_map(NetStep::DeleteFdb),
        3 => neighbour.clone().prop_map(NetStep::SetNeighbour),
        1 => neighbour.prop_map(NetStep::DeleteNeighbour),
        1 => any::<bool>().prop_map(|on| NetStep::SetTxChecksums { device: name("slvx"), on }),
        1 => local.prop_map(|local| set("slvx", LinkChange::Vxlan(vxlan(local)))),
    ]
}

fn step() -> impl Strategy<Value = NetStep> {
    prop_oneof![
        (device(), any_change()).prop_map(|(name, change)| NetStep::SetLink { name, change }),
        (device(), any_address()).prop_map(|(device, address)| NetStep::AddAddress { device, address }),
        (device(), any_address()).prop_map(|(device, address)| NetStep::DeleteAddress { device, address }),
        any_route().prop_map(NetStep::AddRoute),
        any_route().prop_map(NetStep::ReplaceRoute),
        any_route().prop_map(NetStep::DeleteRoute),
        (device(), any_bucket()).prop_map(|(device, bucket)| NetStep::SetBucket { device, bucket }),
        (device(), select(vec!["slba", "slbb"]))
            .prop_map(|(device, to)| NetStep::Redirect { device, to: name(to) }),
        Just(NetStep::DeleteLink { name: name("slbb") }),
        Just(ifb("slbb")),
        of_overlay(),
    ]
}

/// What both tell: without what the kernel adds of its own accord.
fn comparable(network: &ObservedNetwork) -> ObservedNetwork {
    let mut network = network.clone();
    network.links.retain(|_, link| link.kind != LinkKind::Loopback);
    for link in network.links.values_mut() {
        link.index = 0;
        link.running = false;
        let own = |address: &Address| matches!(address.net, IpNet::V6(_)) && address.scope == Scope::Link;
        link.addresses.retain(|address| !own(address));
    }
    network.routes.retain(|route| route.protocol.0 == ROUTE_PROTOCOL);
    network
}

/// True for the steps that a plan may make of what it sees: it deletes what is there, and leaves a link that it wants
/// a route or a neighbour through at least one IPv4 address (with the last one, the kernel drops the link's IPv4 routes
/// and neighbours).
fn may_be_planned(step: &NetStep, seen: &ObservedNetwork) -> bool {
    match step {
        NetStep::DeleteRoute(route) => seen.routes.contains(route),
        // Of a tunnel that isn't marked as ours nothing more is looked at.
        NetStep::SetLink { name, change: LinkChange::Alias(alias) } => {
            !alias.is_empty() || seen.links[name].kind != LinkKind::Vxlan
        }
        NetStep::DeleteFdb(entry) => seen.fdb.contains(entry),
        NetStep::DeleteNeighbour(neighbour) => seen.neighbours.contains(neighbour),
        NetStep::DeleteAddress { device, address } => {
            let addresses = &seen.links[device].addresses;
            let four = |net: &IpNet| matches!(net, IpNet::V4(_));
            let last =
                four(&address.net) && addresses.iter().filter(|address| four(&address.net)).count() == 1;
            let routed = seen.routes.iter().any(|route| route.device == *device && four(&route.destination));
            let known = seen.neighbours.iter().any(|have| have.device == *device && have.address.is_ipv4());
            addresses.contains(address) && !(last && (routed || known))
        }
        _ => true,
    }
}

fn standing() -> Vec<NetStep> {
    let bridge = NetStep::CreateBridge {
        name: name("cni0"),
        mac: mac(9),
        // Its ports': see what the kernel makes of a bridge's MTU in `request::create_bridge`.
        mtu: Mtu::new(1450).unwrap(),
        alias: "selvedge net".to_owned(),
    };
    vec![
        ifb("slba"),
        create("slvx", vxlan("172.30.0.1")),
        bridge,
        NetStep::CreateVeth(pair("slva", "eth0")),
        NetStep::CreateVeth(pair("slvb", "eth1")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_model_and_the_kernel_agree_after_every_step(steps in prop::collection::vec(step(), 1..30)) {
        let Some(mut wire) = Wire::new() else { return Ok(()) };
        let (mut model, mut sysctls) = (ObservedNetwork::default(), BTreeMap::new());
        let pod = wire.pod_namespace.try_clone().unwrap();
        for step in standing().iter().chain(&steps) {
            if !may_be_planned(step, &model) {
                continue;
            }
            // What the kernel refuses (a route through a link that is down) changes nothing, and no plan asks for it.
            if wire.host.apply_until_failure(std::slice::from_ref(step), Some(pod.as_fd())).is_ok() {
                model.apply(step, &mut sysctls);
            }
            let mut kernel = wire.host.observe().unwrap();
            wire.host.observe_overlays(&mut kernel).unwrap();
            for (name, link) in &mut kernel.links {
                link.shaping = wire.host.observe_shaping(name).unwrap();
            }
            let kernel = comparable(&kernel);
            prop_assert_eq!(&kernel, &comparable(&model), "after {}", step);
        }
    }
}
