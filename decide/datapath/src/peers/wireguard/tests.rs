use selvedge_model::{MacAddr, Mtu, PublicKey};

use super::*;
use crate::node::LocalNode;
use crate::peers::tests::{decided, decided_by, done, found, fresh, local, nodes, transports};
use crate::reach::{Measured, Target};
use crate::state::{ObservedLink, ObservedNetwork};

/// A node with WireGuard's device, and two peers of which node-b has published a key.
fn encrypting(strict: bool) -> (Vec<Node>, LocalNode, ObservedNetwork) {
    let (mut nodes, mut local, mut network) = (nodes(), local(Choice::Of(Transport::Wireguard)), fresh());
    (local.wireguard.key, local.wireguard.strict) = (OwnKey::There(PublicKey([1; 32])), strict);
    local.vxlan.there = true;
    nodes[1].wireguard = Some(PublicKey([2; 32]));
    let alias = mark::device_alias(&local.network);
    let device = ObservedLink::new(LinkKind::Wireguard, MacAddr([0; 6]), Mtu::ETHERNET, &alias);
    network.links.insert("selvedge-wg".parse().unwrap(), device);
    (nodes, local, network)
}

#[test]
fn a_peer_is_reached_by_wireguard_once_that_got_through_and_never_in_the_clear_again() {
    let (nodes, local, network) = encrypting(false);
    let peers = decided(&nodes, &local, &network);
    assert_eq!(transports(&peers), ["node-b direct 1500", "node-c vxlan 1450"]);
    assert_eq!(peers.peers.first().unwrap().instead_of, Some(Transport::Wireguard));
    let by_device = |target: &&Target| target.device.as_ref().is_some_and(|d| d.as_str() == "selvedge-wg");
    let measured: Vec<_> = peers.targets.iter().filter(by_device).map(|t| t.node.as_str()).collect();
    assert_eq!(measured, ["node-b"], "node-c has no key yet");

    let findings = found(&[(Transport::Wireguard, Measured::Through { mtu: 1440 })]);
    let peers = decided_by(&nodes, &local, &network, &findings);
    assert_eq!(transports(&peers), ["node-b wireguard 1440", "node-c vxlan 1450"]);
    let after = done(&peers, &network);
    let silent = found(&[(Transport::Wireguard, Measured::Silent), (Transport::Direct, Measured::Silent)]);
    let peers = decided_by(&nodes, &local, &after, &silent);
    assert_eq!(transports(&peers)[0], "node-b wireguard 1440", "whoever blocks it gains nothing");
}

#[test]
fn where_pods_have_ipv6_alone_wireguard_is_measured_too_before_it_is_taken() {
    let (mut nodes, local, network) = encrypting(false);
    nodes.iter_mut().for_each(|node| node.pod_cidrs.retain(|net| net.addr().is_ipv6()));
    let peers = decided(&nodes[..2], &local, &network);
    assert_eq!(transports(&peers), ["node-b direct 1500"]);
    let target = peers.targets.iter().find(|target| target.transport == Transport::Wireguard).unwrap();
    let Some(Encrypting::Device(told)) = peers.encryption else { panic!("{:?}", peers.encryption) };
    assert!(told.peers[0].nets.contains(&IpNet::from(target.to)), "it can be asked: {told:?}");
    let findings = found(&[(Transport::Wireguard, Measured::Through { mtu: 1440 })]);
    let peers = decided_by(&nodes[..2], &local, &network, &findings);
    assert_eq!(transports(&peers), ["node-b wireguard 1440"]);
}

#[test]
fn every_node_with_a_key_is_a_peer_whatever_it_is_sent_by() {
    let (mut nodes, local, network) = encrypting(false);
    let told = |nodes: &[Node]| match decided(nodes, &local, &network).encryption {
        Some(Encrypting::Device(told)) => told,
        other => panic!("{other:?}"),
    };
    let first = told(&nodes);
    assert_eq!((first.key, first.port, first.peers.len()), (PublicKey([1; 32]), 51820, 1));
    assert_eq!(first.peers[0].endpoint.to_string(), "172.30.0.11");
    assert_eq!(first.peers[0].nets, nodes[1].pod_cidrs);
    nodes[2].wireguard = Some(PublicKey([1; 32]));
    assert_eq!(told(&nodes), first, "our own key is nobody else's");
    let same = |nodes: &[Node], other: &str| {
        let same = Problem::SameKey { node: "node-c".parse().unwrap(), other: other.parse().unwrap() };
        assert_eq!(decided(nodes, &local, &network).problems, [same]);
    };
    same(&nodes, "node-a");
    nodes[2].wireguard = nodes[1].wireguard;
    assert_eq!(told(&nodes), first, "nor is another's");
    same(&nodes, "node-b");
    nodes[2].wireguard = Some(PublicKey([0; 32]));
    let of_b = nodes[1].pod_cidrs[0];
    nodes[2].pod_cidrs.push(of_b);
    let both = told(&nodes);
    assert_eq!(both.peers.iter().map(|peer| peer.key.0[0]).collect::<Vec<_>>(), [0, 2]);
    assert!(!both.peers[0].nets.contains(&of_b), "a net is one peer's");
}

#[test]
fn a_strict_node_sends_nothing_in_the_clear() {
    let (mut nodes, local, network) = encrypting(true);
    let peers = decided(&nodes, &local, &network);
    assert_eq!(transports(&peers), ["node-b wireguard 1440", "node-c wireguard 1440"]);
    assert!(peers.network.routes.iter().all(|route| route.device.as_str() == "selvedge-wg"));
    assert_eq!(peers.encrypted.len(), 4, "{:?}", peers.encrypted);
    assert_eq!(peers.problems, [Problem::NoKey { node: "node-c".parse().unwrap() }]);
    nodes[0].transport = Some(Choice::Of(Transport::Direct));
    assert_eq!(transports(&decided(&nodes, &local, &network)), transports(&peers));
    let mut without = local.clone();
    without.wireguard.there = false;
    let none = decided(&nodes, &without, &network);
    assert!(none.network.routes.is_empty() && none.peers.is_empty());
    assert!(none.problems.contains(&Problem::NoWireguard));
}

#[test]
fn a_node_that_changes_to_another_transport_hears_those_who_have_not() {
    let (nodes, mut local, network) = encrypting(false);
    local.transport = Choice::Of(Transport::Vxlan);
    let peers = decided(&nodes, &local, &network);
    assert_eq!(transports(&peers), ["node-b vxlan 1450", "node-c vxlan 1450"]);
    assert!(matches!(peers.encryption, Some(Encrypting::Device(_))));
    assert!(
        decided(&nodes, &local, &fresh()).encryption.is_none(),
        "without a device there is nobody to hear"
    );
}

#[test]
fn a_key_that_is_broken_is_told_of_and_left_where_it_is() {
    let (nodes, mut local, network) = encrypting(false);
    local.wireguard.key = OwnKey::Broken("wireguard.key holds no key".to_owned());
    let peers = decided(&nodes, &local, &network);
    assert!(matches!(peers.problems[..], [Problem::BrokenKey { .. }]), "{:?}", peers.problems);
    assert_eq!(peers.encryption, Some(Encrypting::AsItIs), "what works is not ended");
    local.wireguard.key = OwnKey::Missing;
    assert_eq!(decided(&nodes, &local, &network).encryption, Some(Encrypting::Key));
}
