use proptest::prelude::*;
use selvedge_model::transport::{Choice, Transport};
use selvedge_model::{Mtu, PublicKey};

use super::super::tests::{cluster, fresh, local, nodes};
use super::super::{decide, decide_after, wireguard_device};
use super::*;
use crate::reach::{Findings, Measured};
use crate::state::RouteProtocol;

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
        8 => (1..8u8, 0..3u8, 1..9u8, wish, any::<bool>())
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

/// Of segment 2 the address is within a pod CIDR.
fn node(number: u8, segment: u8, net: u8) -> Node {
    let address = match segment {
        2 => format!("10.244.{number}.9"),
        segment => format!("172.30.{segment}.{}", 20 + number),
    };
    let pod_cidrs = [format!("10.244.{net}.0/24"), format!("fd00:10:244:{net}::/64")];
    let addresses = [address, format!("fd00:30:{segment}::{number}")];
    Node::new(
        name(number),
        pod_cidrs.map(|net| net.parse().unwrap()).to_vec(),
        addresses.map(|ip| ip.parse().unwrap()).to_vec(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_made_anew_in_part_is_what_would_be_made_anew_as_a_whole(
        changes in prop::collection::vec(change(), 1..60),
        transport in prop::sample::select(vec![Choice::Auto, Choice::Of(Transport::Vxlan), Choice::Of(Transport::Wireguard)]),
    ) {
        let own = nodes()[0].clone();
        let local = local(transport);
        let mut all = BTreeMap::from([(own.name.clone(), own.clone())]);
        let (mut network, mut findings, mut known) = (fresh(), Findings::default(), Known::default());
        for change in changes {
            match change {
                Change::Come { number, segment, net, wish, key } => {
                    let wireguard = key.then_some(PublicKey([number; 32]));
                    let node = Node { transport: wish, wireguard, ..node(number, segment, net) };
                    all.insert(name(number), node);
                }
                Change::Go(number) => drop(all.remove(&name(number))),
                Change::Measured(number, through) => {
                    let ways = [Transport::Vxlan, Transport::Udp].into_iter().zip(through);
                    let mtu = 1300 + u32::from(number);
                    let round: Vec<_> = ways
                        .map(|(way, through)| (way, if through { Measured::Through { mtu } } else { Measured::Silent }))
                        .collect();
                    findings.enter(&name(number), &round);
                }
                Change::Forget(most) => {
                    let kept: Vec<NodeName> = (1..most).map(name).collect();
                    findings.keep(&kept.iter().collect());
                }
                Change::Link(up) => network.links.values_mut().for_each(|link| link.up = up),
                Change::Routed(net, there) => {
                    let destination = format!("10.244.{net}.0/24").parse().unwrap();
                    let device = wireguard_device();
                    let (via, source, mtu, onlink, protocol) = (None, None, None, false, RouteProtocol(83));
                    let route = Route { destination, via, device, source, mtu, onlink, protocol };
                    if there { network.routes.insert(route) } else { network.routes.remove(&route) };
                }
            }
            let cluster = cluster(&all.values().cloned().collect::<Vec<_>>());
            let here = Here {
                node: &own,
                local: &local,
                network: &network,
                addresses: &own.addresses,
                uplink: Mtu::ETHERNET,
                findings: &findings,
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
    let (scene_account, _) = known.0.as_ref().unwrap();
    assert_eq!(differing(cluster(&all).nodes(), &scene_account.nodes), [&all[100]]);
    let after = decide_after(&mut known, &cluster(&all), here);
    let new: Vec<&Route> = after.network.routes.difference(&before.network.routes).collect();
    assert_eq!(new.iter().map(|route| route.destination).collect::<Vec<_>>(), all[100].pod_cidrs);
    let again = decide_after(&mut known, &cluster(&all), here);
    assert!(again.network.routes.shares(&after.network.routes), "nothing was made anew");
}
