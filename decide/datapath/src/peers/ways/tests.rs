use std::sync::Arc;

use proptest::prelude::*;
use selvedge_model::transport::{Choice, Transport};
use selvedge_model::{Listing, Mtu, Pods, Policies, PublicKey};

use super::super::tests::{cluster, fresh, local, nodes};
use super::super::{decide, decide_after, wireguard_device};
use super::*;
use crate::reach::{Findings, Measured};
use crate::state::{ObservedNetwork, RouteProtocol};

#[derive(Debug, Clone)]
enum Change {
    /// A node comes, or is otherwise than before.
    Come {
        number: u8,
        segment: u8,
        net: u8,
        wish: Option<Choice>,
        key: bool,
    },
    Go(u8),
    Measured(u8, [bool; 2]),
    /// Nodes with greater numbers are forgotten.
    Forget(u8),
    Link(bool),
    Routed(u8, bool),
}

fn change() -> impl Strategy<Value = Change> {
    let wish = prop::option::of(prop::sample::select(vec![
        Choice::Auto,
        Choice::Of(Transport::Vxlan),
        Choice::Of(Transport::Udp),
        Choice::Of(Transport::Wireguard),
        Choice::Of(Transport::Native),
    ]));
    prop_oneof![
        8 => (1..8u8, 0..4u8, 0..9u8, wish, any::<bool>())
            .prop_map(|(number, segment, net, wish, key)| Change::Come { number, segment, net, wish, key }),
        3 => (1..8u8).prop_map(Change::Go),
        6 => (1..8u8, any::<[bool; 2]>()).prop_map(|(number, through)| Change::Measured(number, through)),
        1 => (1..8u8).prop_map(Change::Forget),
        1 => any::<bool>().prop_map(Change::Link),
        2 => (1..9u8, any::<bool>()).prop_map(|(net, there)| Change::Routed(net, there)),
    ]
}

fn name(number: u8) -> NodeName {
    format!("peer-{number}").parse().unwrap()
}

/// Of segment 2 the address is within a pod CIDR, of segment 3 it is another node's too; net 0 has all others in it.
fn node(number: u8, segment: u8, net: u8) -> Node {
    let address = match segment {
        2 => format!("10.244.{number}.9"),
        3 => "172.30.0.19".to_owned(),
        segment => format!("172.30.{segment}.{}", 20 + number),
    };
    let length = if net == 0 { 16 } else { 24 };
    let pod_cidrs = [format!("10.244.{net}.0/{length}"), format!("fd00:10:244:{net}::/64")];
    let addresses = [address, format!("fd00:30:{segment}::{number}")];
    Node::new(
        name(number),
        pod_cidrs.map(|net| net.parse().unwrap()).to_vec(),
        addresses.map(|ip| ip.parse().unwrap()).to_vec(),
    )
}

/// What the ways to peers are decided by.
struct World {
    nodes: Nodes,
    network: ObservedNetwork,
    findings: Findings,
}

impl World {
    fn take(&mut self, change: &Change) {
        match *change {
            Change::Come { number, segment, net, wish, key } => {
                let wireguard = key.then_some(PublicKey([number; 32]));
                let node = Node { transport: wish, wireguard, ..node(number, segment, net) };
                self.nodes.insert(name(number), node);
            }
            Change::Go(number) => self.nodes.remove(&name(number)),
            Change::Measured(number, through) => {
                let mtu = 1300 + u32::from(number);
                let measured = |through| if through { Measured::Through { mtu } } else { Measured::Silent };
                let round = [Transport::Vxlan, Transport::Udp].into_iter().zip(through.map(measured));
                self.findings.enter(&name(number), &round.collect::<Vec<_>>());
            }
            Change::Forget(most) => {
                let kept: Vec<NodeName> = (1..most).map(name).collect();
                self.findings.keep(&kept.iter().collect());
            }
            Change::Link(up) => self.network.links.values_mut().for_each(|link| link.up = up),
            Change::Routed(net, there) => {
                let destination = format!("10.244.{net}.0/24").parse().unwrap();
                let device = wireguard_device();
                let (via, source, mtu, onlink, protocol) = (None, None, None, false, RouteProtocol(83));
                let route = Route { destination, via, device, source, mtu, onlink, protocol };
                let routes = &mut self.network.routes;
                if there {
                    routes.insert(route)
                } else {
                    routes.remove(&route)
                };
            }
        }
    }

    /// The cluster, of which the nodes that haven't changed are shared with the one before.
    fn cluster(&self) -> Cluster {
        let (pods, policies) = (Pods::default(), Policies::default());
        Listing::of(self.nodes.clone(), pods, Arc::default(), policies).finish().unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_made_anew_in_part_is_what_would_be_made_anew_as_a_whole(
        changes in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..40),
        transport in prop::sample::select(vec![Choice::Auto, Choice::Of(Transport::Vxlan), Choice::Of(Transport::Wireguard)]),
    ) {
        let own = nodes()[0].clone();
        let local = local(transport);
        let mut known = Known::default();
        let mut world =
            World { nodes: [(own.name.clone(), own.clone())].into(), network: fresh(), findings: Findings::default() };
        for together in changes {
            together.iter().for_each(|change| world.take(change));
            let cluster = world.cluster();
            let here = Here {
                node: &own,
                local: &local,
                network: &world.network,
                addresses: &own.addresses,
                uplink: Mtu::ETHERNET,
                findings: &world.findings,
            };
            prop_assert_eq!(decide_after(&mut known, &cluster, here), decide(&cluster, here));
        }
    }
}

#[test]
fn a_node_that_comes_is_made_alone() {
    let own = nodes()[0].clone();
    let local = local(Choice::Of(Transport::Vxlan));
    let (network, findings, mut known) = (fresh(), Findings::default(), Known::default());
    let here = Here {
        node: &own,
        local: &local,
        network: &network,
        addresses: &own.addresses,
        uplink: Mtu::ETHERNET,
        findings: &findings,
    };
    let mut all: Vec<Node> = [own.clone()].into_iter().chain((1..100).map(|n| node(n, 0, n))).collect();
    let before = decide_after(&mut known, &cluster(&all), here);
    all.push(node(100, 0, 100));
    let all_but_one = &known.last.as_ref().unwrap().0.everyone.nodes;
    assert!(cluster(&all).nodes().difference(all_but_one).eq([(&all[100].name, &all[100])]));
    let after = decide_after(&mut known, &cluster(&all), here);
    let new: Vec<&Route> = after.network.routes.difference(&before.network.routes).collect();
    assert_eq!(new.iter().map(|route| route.destination).collect::<Vec<_>>(), all[100].pod_cidrs);
    let again = decide_after(&mut known, &cluster(&all), here);
    assert!(again.network.routes.shares(&after.network.routes), "nothing was made anew");
}
