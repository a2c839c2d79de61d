use selvedge_model::{MacAddr, Mtu};

use super::super::tests::{decided, fresh, local, nodes, steps, transports};
use super::*;
use crate::state::{ObservedLink, ObservedNetwork};

const UDP: Choice = Choice::Of(Transport::Udp);

/// A namespace in which the forwarder has made its device.
fn with_device() -> ObservedNetwork {
    let mut network = fresh();
    let link = ObservedLink::new(LinkKind::Tun, MacAddr([0; 6]), Mtu::ETHERNET, "");
    network.links.insert(device(), ObservedLink { mac: None, ..link });
    network
}

#[test]
fn peers_are_reached_by_the_forwarders_device_once_it_is_there() {
    let peers = decided(&nodes(), &local(UDP), &fresh());
    assert_eq!(transports(&peers), ["node-b udp 1472", "node-c udp 1472"]);
    assert!(
        !steps(&peers, &fresh()).iter().any(|step| step.contains("selvedge-udp")),
        "nobody else makes it"
    );
    let network = with_device();
    let peers = decided(&nodes(), &local(UDP), &network);
    assert_eq!(
        steps(&peers, &network),
        [
            "sysctl -w net/ipv4/conf/selvedge-udp/rp_filter=2",
            "ip link set selvedge-udp alias \"selvedge selvedge\"",
            "ip link set selvedge-udp mtu 1472",
            "ip addr add 10.244.0.0/32 dev selvedge-udp",
            "ip addr add fd00:10:244::/128 nodad dev selvedge-udp",
            "ip link set selvedge-udp up",
            "ip route add 10.244.1.0/24 dev selvedge-udp proto 83 src 10.244.0.0",
            "ip route add 10.244.2.0/24 dev selvedge-udp proto 83 src 10.244.0.0",
            "ip route add fd00:10:244:1::/64 dev selvedge-udp proto 83 src fd00:10:244::",
            "ip route add fd00:10:244:2::/64 dev selvedge-udp proto 83 src fd00:10:244::",
        ]
    );
}

#[test]
fn the_forwarder_knows_every_node_whatever_we_send_it_by() {
    let mut nodes = nodes();
    nodes[2].transport = Some(UDP);
    let peers = decided(&nodes, &local(Choice::Auto), &with_device());
    assert_eq!(transports(&peers), ["node-b direct 1500", "node-c udp 1472"]);
    let told = peers.forwarding.unwrap();
    assert_eq!((told.port, told.local.to_string()), (8383, "172.30.0.10".to_owned()));
    let nets = |peer: &ForwardingPeer| {
        let nets: Vec<String> = peer.nets.iter().map(ToString::to_string).collect();
        format!("{} {}", peer.endpoint, nets.join(" "))
    };
    assert_eq!(
        told.peers.iter().map(nets).collect::<Vec<_>>(),
        ["172.30.0.11 10.244.1.0/24 fd00:10:244:1::/64", "172.30.1.12 10.244.2.0/24 fd00:10:244:2::/64"]
    );
}

#[test]
fn nobody_who_wishes_for_it_needs_no_forwarder() {
    let vxlan = local(Choice::Of(Transport::Vxlan));
    let mut without = vxlan.clone();
    without.udp.there = false;
    for (local, network) in [(&vxlan, fresh()), (&local(Choice::Auto), fresh()), (&without, with_device())] {
        let peers = decided(&nodes(), local, &network);
        assert_eq!(peers.forwarding, None);
        assert!(!peers.network.links.contains_key(&device()));
    }
}

#[test]
fn where_it_was_needed_once_it_stays_for_whoever_still_sends_by_it() {
    for choice in [Choice::Auto, Choice::Of(Transport::Vxlan), Choice::Of(Transport::Wireguard)] {
        let peers = decided(&nodes(), &local(choice), &with_device());
        assert_eq!(peers.forwarding.map(|told| told.peers.len()), Some(2), "{choice:?}");
        assert!(peers.network.links.contains_key(&device()), "{choice:?}");
    }
}

#[test]
fn a_net_that_two_nodes_claim_is_the_first_ones() {
    let mut nodes = nodes();
    nodes[2].pod_cidrs = nodes[1].pod_cidrs.clone();
    let told = decided(&nodes, &local(UDP), &with_device()).forwarding.unwrap();
    assert_eq!(told.peers.len(), 1, "{told:?}");
    assert_eq!(told.peers[0].endpoint.to_string(), "172.30.0.11");
}

#[test]
fn without_a_forwarder_or_with_another_device_of_its_name_there_is_a_problem() {
    let problem = |local: &crate::node::LocalNode, network: &ObservedNetwork| {
        let peers = decided(&nodes(), local, network);
        assert_eq!((peers.forwarding, peers.peers.len()), (None, 0));
        peers.problems.first().map(ToString::to_string).unwrap()
    };
    let mut without = local(UDP);
    without.udp.there = false;
    assert!(problem(&without, &fresh()).contains("nothing forwards over UDP"));
    let mut network = with_device();
    network.links.entry(device()).and_modify(|link| link.alias = "mine".to_owned());
    assert!(problem(&local(UDP), &network).contains("selvedge-udp was made by somebody else"));
}
