use std::collections::BTreeMap;

use selvedge_model::cluster::Kind;
use selvedge_model::{Listing, MacAddr};

use super::end::{link_local, vtep};
use super::overlay::{next_hop, vxlan_device};
use super::*;
use crate::converge::OwnKey;
use crate::node::{Attach, UdpSettings, VxlanSettings, WireguardSettings};
use crate::plan::{Prune, Seen, plan};
use crate::reach::{Measured, Seat};
use crate::state::{Address, LinkKind};

/// Nodes a and b are on one segment, c is beyond a router.
pub(super) fn nodes() -> Vec<Node> {
    let node = |letter: char, number: u8, segment: u8| {
        let pod_cidrs = [format!("10.244.{number}.0/24"), format!("fd00:10:244:{number}::/64")];
        let addresses = [format!("172.30.{segment}.1{number}"), format!("fd00:30:{segment}::1{number}")];
        Node::new(
            format!("node-{letter}").parse().unwrap(),
            pod_cidrs.map(|net| net.parse().unwrap()).to_vec(),
            addresses.map(|ip| ip.parse().unwrap()).to_vec(),
        )
    };
    vec![node('a', 0, 0), node('b', 1, 0), node('c', 2, 1)]
}

pub(super) fn cluster(nodes: &[Node]) -> Cluster {
    let mut listing = Listing::default();
    nodes.iter().for_each(|node| listing.node(node.clone()));
    Listing::KINDS.into_iter().for_each(|kind: Kind| listing.complete(kind));
    listing.finish().unwrap()
}

pub(super) fn local(transport: Choice) -> LocalNode {
    LocalNode {
        name: "node-a".parse().unwrap(),
        network: "selvedge".parse().unwrap(),
        attach: Attach::Routed,
        bridge: "cni0".parse().unwrap(),
        mtu: None,
        transport,
        vxlan: VxlanSettings { vni: 83, port: 4789, there: false, offloads: true },
        udp: UdpSettings { port: 8383, there: true },
        wireguard: WireguardSettings { port: 51820, there: true, key: OwnKey::Missing, strict: false },
    }
}

pub(super) fn fresh() -> ObservedNetwork {
    let mut eth0 = ObservedLink::new(LinkKind::Other, MacAddr([2; 6]), Mtu::ETHERNET, "");
    eth0.up = true;
    let addresses = ["172.30.0.10/24", "fd00:30:0::10/64"];
    eth0.addresses = addresses.map(|net| Address::global(net.parse().unwrap())).into();
    ObservedNetwork { links: BTreeMap::from([("eth0".parse().unwrap(), eth0)]), ..ObservedNetwork::default() }
}

/// What node-a decides, its own addresses in the order of its Node.
pub(super) fn decided(nodes: &[Node], local: &LocalNode, network: &ObservedNetwork) -> Peers {
    decided_by(nodes, local, network, &Findings::default())
}

pub(super) fn decided_by(
    nodes: &[Node],
    local: &LocalNode,
    network: &ObservedNetwork,
    findings: &Findings,
) -> Peers {
    let node = &nodes[0];
    let here = Here { node, local, network, addresses: &node.addresses, uplink: Mtu::ETHERNET, findings };
    decide(&cluster(nodes), here)
}

pub(super) fn steps(peers: &Peers, network: &ObservedNetwork) -> Vec<String> {
    let seen = Seen { network, sysctls: &BTreeMap::new() };
    plan(&peers.network, seen, Prune::Marked).steps.iter().map(ToString::to_string).collect()
}

/// The namespace after everything was done.
pub(super) fn done(peers: &Peers, network: &ObservedNetwork) -> ObservedNetwork {
    let mut after = network.clone();
    let seen = Seen { network, sysctls: &BTreeMap::new() };
    for step in plan(&peers.network, seen, Prune::Marked).steps {
        after.apply(&step, &mut BTreeMap::new());
    }
    after
}

pub(super) fn transports(peers: &Peers) -> Vec<String> {
    peers.peers.iter().map(|peer| format!("{} {} {}", peer.name, peer.transport, peer.mtu)).collect()
}

#[test]
fn auto_is_direct_on_the_segment_and_vxlan_beyond_it() {
    let network = fresh();
    let peers = decided(&nodes(), &local(Choice::Auto), &network);
    assert_eq!(transports(&peers), ["node-b direct 1500", "node-c vxlan 1450"]);
    let of = |name: &str| vtep(&name.parse().unwrap());
    let (vtep, near, own) = (of("node-c"), of("node-b"), of("node-a"));
    let IpAddr::V6(hop) = next_hop("fd00::/64".parse().unwrap(), vtep) else { panic!() };
    assert_eq!(
        steps(&peers, &network),
        [
            format!(
                "ip link add selvedge-vx address {own} mtu 1450 type vxlan id 83 dstport 4789 local 172.30.0.10 nolearning df inherit"
            ),
            "sysctl -w net/ipv4/conf/selvedge-vx/rp_filter=2".to_owned(),
            "ip addr add 10.244.0.0/32 dev selvedge-vx".to_owned(),
            "ip addr add fd00:10:244::/128 nodad dev selvedge-vx".to_owned(),
            "ip link set selvedge-vx up".to_owned(),
            format!("bridge fdb replace {vtep} dev selvedge-vx dst 172.30.1.12 self permanent"),
            // The one on the segment could be reached so too, and answers so when it is measured.
            format!("bridge fdb replace {near} dev selvedge-vx dst 172.30.0.11 self permanent"),
            format!("ip neigh replace 10.244.1.0 lladdr {near} dev selvedge-vx nud permanent"),
            format!("ip neigh replace 10.244.2.0 lladdr {vtep} dev selvedge-vx nud permanent"),
            format!("ip neigh replace {hop} lladdr {vtep} dev selvedge-vx nud permanent"),
            "ip route add 10.244.1.0/24 via 172.30.0.11 dev eth0 proto 83 src 172.30.0.10".to_owned(),
            "ip route add 10.244.2.0/24 via 10.244.2.0 dev selvedge-vx proto 83 onlink src 10.244.0.0"
                .to_owned(),
            "ip route add fd00:10:244:1::/64 via fd00:30::11 dev eth0 proto 83 src fd00:30::10".to_owned(),
            format!("ip route add fd00:10:244:2::/64 via {hop} dev selvedge-vx proto 83 src fd00:10:244::"),
        ]
    );
}

#[test]
fn pods_keep_their_address_towards_direct_and_native_nodes_only() {
    let nodes = nodes();
    let direct = |choice| decided(&nodes, &local(choice), &fresh()).direct;
    let all: BTreeSet<IpAddr> = nodes.iter().flat_map(|node| node.addresses.clone()).collect();
    let own: BTreeSet<IpAddr> = nodes[0].addresses.iter().copied().collect();
    let near: BTreeSet<IpAddr> = nodes[..2].iter().flat_map(|node| node.addresses.clone()).collect();
    assert_eq!(direct(Choice::Auto), near);
    assert_eq!(direct(Choice::Of(Transport::Vxlan)), own);
    assert_eq!(direct(Choice::Of(Transport::Native)), all);
}

#[test]
fn a_node_and_its_peer_come_to_the_same_by_the_annotations_of_both() {
    let mut nodes = nodes();
    nodes[1].transport = Some(Choice::Of(Transport::Vxlan));
    let peers = decided(&nodes, &local(Choice::Auto), &fresh());
    assert_eq!(transports(&peers), ["node-b vxlan 1450", "node-c vxlan 1450"]);
    nodes[0].transport = Some(Choice::Of(Transport::Native));
    let peers = decided(&nodes, &local(Choice::Auto), &fresh());
    assert_eq!(transports(&peers), ["node-b vxlan 1450", "node-c native 1500"]);
    assert!(peers.problems.is_empty());
}

#[test]
fn what_cannot_be_direct_is_a_problem_that_names_the_node_and_others_are_reached() {
    let peers = decided(&nodes(), &local(Choice::Of(Transport::Direct)), &fresh());
    assert_eq!(transports(&peers), ["node-b direct 1500"]);
    let texts: Vec<String> = peers.problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2);
    assert!(
        texts.iter().all(|text| text.contains("Node node-c at") && text.contains("on no segment")),
        "{texts:?}"
    );
}

#[test]
fn an_underlay_of_ipv6_carries_both_families() {
    let mut nodes = nodes();
    nodes.iter_mut().for_each(|node| node.addresses.reverse());
    let peers = decided(&nodes, &local(Choice::Of(Transport::Vxlan)), &fresh());
    assert_eq!(transports(&peers), ["node-b vxlan 1430", "node-c vxlan 1430"]);
    assert!(peers.network.fdb.iter().all(|entry| entry.remote.is_ipv6()));
    assert_eq!(peers.network.routes.len(), 4);
}

#[test]
fn a_peer_without_an_address_of_the_underlays_family_is_a_problem() {
    let mut nodes = nodes();
    nodes[2].addresses.remove(0);
    let peers = decided(&nodes, &local(Choice::Of(Transport::Vxlan)), &fresh());
    assert_eq!(transports(&peers), ["node-b vxlan 1450"]);
    assert!(matches!(peers.problems[..], [Problem::NoUnderlay { .. }]), "{:?}", peers.problems);
}

#[test]
fn a_peer_that_leaves_takes_its_entries_along_and_one_that_moves_leaves_no_gap() {
    let (mut nodes, local) = (nodes(), local(Choice::Of(Transport::Vxlan)));
    let full = done(&decided(&nodes, &local, &fresh()), &fresh());
    assert_eq!(
        steps(&decided(&nodes, &local, &full), &full),
        ["sysctl -w net/ipv4/conf/selvedge-vx/rp_filter=2"]
    );
    nodes[2].addresses[0] = "172.30.1.99".parse().unwrap();
    let moved = steps(&decided(&nodes, &local, &full), &full);
    let vtep = vtep(&"node-c".parse().unwrap());
    assert_eq!(
        moved[1..],
        [format!("bridge fdb replace {vtep} dev selvedge-vx dst 172.30.1.99 self permanent")]
    );
    nodes.remove(2);
    let gone = steps(&decided(&nodes, &local, &full), &full);
    let verbs: Vec<&str> = gone[1..].iter().map(|step| step.rsplit_once(" dev").unwrap().0).collect();
    assert_eq!(verbs.len(), 5, "{gone:?}");
    assert!(gone[1..].iter().all(|step| step.contains(" del ")), "{gone:?}");
}

#[test]
fn a_device_that_cannot_become_what_is_wanted_is_made_anew_with_all_that_is_on_it() {
    let (mut nodes, wish) = (nodes(), local(Choice::Of(Transport::Vxlan)));
    let before = done(&decided(&nodes, &wish, &fresh()), &fresh());
    let other = LocalNode { vxlan: VxlanSettings { vni: 84, ..wish.vxlan }, ..wish.clone() };
    let peers = decided(&nodes, &other, &before);
    assert_eq!(steps(&peers, &before)[0], "ip link del selvedge-vx");
    let after = done(&peers, &before);
    assert_eq!(
        (after.fdb, after.neighbours, after.routes),
        (before.fdb.clone(), before.neighbours.clone(), before.routes.clone())
    );
    // Another address of the same family is set on the device that is there.
    nodes[0].addresses[0] = "172.30.0.77".parse().unwrap();
    let moved = steps(&decided(&nodes, &wish, &before), &before);
    assert_eq!(
        moved[1..],
        ["ip link set selvedge-vx type vxlan id 83 dstport 4789 local 172.30.0.77 nolearning"]
    );
}

#[test]
fn a_device_of_that_name_that_is_somebody_elses_is_left_alone() {
    let mut network = fresh();
    let theirs = ObservedLink::new(LinkKind::Vxlan, MacAddr([2; 6]), Mtu::ETHERNET, "");
    network.links.insert(vxlan_device(), theirs);
    let peers = decided(&nodes(), &local(Choice::Auto), &network);
    assert_eq!(transports(&peers), ["node-b direct 1500"]);
    assert!(peers.problems.iter().all(|problem| matches!(problem, Problem::ForeignOverlay { .. })));
    assert!(!peers.network.links.contains_key(&vxlan_device()));
}

#[test]
fn a_kernel_with_vxlan_hears_peers_by_it_though_none_is_reached_so() {
    let mut local = local(Choice::Of(Transport::Direct));
    local.vxlan.there = true;
    let peers = decided(&nodes()[..2], &local, &fresh());
    assert!(peers.network.links.contains_key(&vxlan_device()));
    assert!(peers.network.fdb.is_empty());
}

#[test]
fn a_pod_cidr_that_covers_a_node_is_not_routed() {
    let mut nodes = nodes();
    nodes[1].pod_cidrs[0] = "172.30.0.0/16".parse().unwrap();
    let peers = decided(&nodes, &local(Choice::Of(Transport::Vxlan)), &fresh());
    assert!(matches!(peers.problems[..], [Problem::CoversNode { .. }]), "{:?}", peers.problems);
}

/// What three rounds found of the ways to node-b.
pub(super) fn found(round: &[(Transport, Measured)]) -> Findings {
    let mut findings = Findings::default();
    for _ in 0..3 {
        findings.enter(&"node-b".parse().unwrap(), round);
    }
    findings
}

#[test]
fn a_way_that_carries_less_than_every_packet_may_measure_is_a_problem() {
    let (nodes, local, network) = (nodes(), local(Choice::Auto), fresh());
    let problems = |mtu| {
        let findings = found(&[(Transport::Direct, Measured::Through { mtu })]);
        decided_by(&nodes[..2], &local, &network, &findings).problems
    };
    assert_eq!(problems(1280), []);
    let narrow = Problem::Narrow { node: "node-b".parse().unwrap(), transport: Transport::Direct, mtu: 1272 };
    assert_eq!(problems(1272), [narrow]);
}

#[test]
fn a_direct_way_that_does_not_get_through_is_replaced_by_one_that_does() {
    let (nodes, mut local, network) = (nodes(), local(Choice::Auto), fresh());
    local.vxlan.there = true;
    let through = Measured::Through { mtu: 1450 };
    let findings = found(&[(Transport::Direct, Measured::Silent), (Transport::Vxlan, through)]);
    let peers = decided_by(&nodes[..2], &local, &network, &findings);
    assert_eq!(transports(&peers), ["node-b vxlan 1450"]);
    assert_eq!(peers.peers.first().unwrap().instead_of, Some(Transport::Direct));
    let findings = found(&[(Transport::Direct, Measured::Silent), (Transport::Vxlan, Measured::Silent)]);
    let peers = decided_by(&nodes[..2], &local, &network, &findings);
    assert_eq!(transports(&peers), ["node-b direct 1500"], "nothing better is known");
    local.transport = Choice::Of(Transport::Direct);
    let findings = found(&[(Transport::Direct, Measured::Silent), (Transport::Vxlan, through)]);
    let peers = decided_by(&nodes[..2], &local, &network, &findings);
    assert_eq!(transports(&peers), ["node-b direct 1500"], "what was asked for is not replaced");
}

#[test]
fn the_way_that_is_taken_is_measured_as_pods_go_and_the_other_by_its_device() {
    let (nodes, mut local, network) = (nodes(), local(Choice::Auto), fresh());
    (local.vxlan.there, local.udp.there) = (true, false);
    let peers = decided(&nodes[..2], &local, &network);
    let ways: Vec<_> = peers.targets.iter().map(|t| (t.transport, t.device.clone(), t.mtu.bytes())).collect();
    let vx = Some(vxlan_device());
    assert_eq!(ways, [(Transport::Direct, None, 1500), (Transport::Vxlan, vx.clone(), 1450)]);
    assert!(peers.targets.iter().all(|target| target.to.to_string() == "10.244.1.0"));
    let seat = |address: &str, device| Seat { address: address.parse().unwrap(), device };
    let seats = [
        seat("10.244.0.0", None),
        seat("10.244.0.0", vx),
        seat("172.30.0.10", None),
        seat("fd00:10:244::", None),
    ];
    assert_eq!(peers.seats, seats.into());
    // Whoever is asked by VXLAN answers by it.
    assert_eq!((peers.network.fdb.len(), peers.network.neighbours.len()), (1, 1));
}

#[test]
fn where_pods_have_ipv6_alone_the_way_by_a_device_is_measured_between_its_link_local_addresses() {
    let (mut nodes, mut local, network) = (nodes(), local(Choice::Auto), fresh());
    (local.vxlan.there, local.udp.there) = (true, false);
    nodes.iter_mut().for_each(|node| node.pod_cidrs.retain(|net| net.addr().is_ipv6()));
    let peers = decided(&nodes[..2], &local, &network);
    let ways: Vec<_> =
        peers.targets.iter().map(|t| (t.from.to_string(), t.to.to_string(), t.device.is_some())).collect();
    let of = |name: &str| link_local(vtep(&name.parse().unwrap()));
    let by_device = (of("node-a").to_string(), of("node-b").to_string(), true);
    assert_eq!(ways, [("fd00:10:244::".to_owned(), "fd00:10:244:1::".to_owned(), false), by_device]);
    assert!(peers.seats.contains(&Seat { address: of("node-a").into(), device: Some(vxlan_device()) }));
    let neighbour = peers.network.neighbours.first().unwrap();
    assert_eq!(neighbour.address, IpAddr::from(of("node-b")), "who is asked is not asked for");
    let device = &peers.network.links[&vxlan_device()];
    assert!(device.addresses.contains(&Address::link_local(of("node-a"))), "{device:?}");
}

#[test]
fn a_path_that_is_narrower_than_the_device_narrows_its_routes() {
    let (nodes, network) = (nodes(), fresh());
    let findings = found(&[(Transport::Direct, Measured::Through { mtu: 1400 })]);
    let peers = decided_by(&nodes[..2], &local(Choice::Auto), &network, &findings);
    assert_eq!(transports(&peers), ["node-b direct 1400"]);
    assert!(peers.network.routes.iter().all(|route| route.mtu == Some(1400)));
    let findings = found(&[(Transport::Direct, Measured::Through { mtu: 1500 })]);
    let peers = decided_by(&nodes[..2], &local(Choice::Auto), &network, &findings);
    assert!(peers.network.routes.iter().all(|route| route.mtu.is_none()));
}

#[test]
fn a_kernel_that_gets_checksums_wrong_computes_them_before_a_packet_leaves() {
    let (nodes, mut local) = (nodes(), local(Choice::Of(Transport::Vxlan)));
    local.vxlan.offloads = false;
    let first = decided(&nodes, &local, &fresh());
    assert!(steps(&first, &fresh()).contains(&"ethtool -K selvedge-vx tx off".to_owned()));
    let after = done(&first, &fresh());
    assert_eq!(steps(&decided(&nodes, &local, &after), &after).len(), 1, "the sysctl that is not read here");
}

#[test]
fn where_vxlan_does_not_get_through_and_plain_udp_does_a_forwarder_is_started() {
    let (nodes, mut local, network) = (nodes(), local(Choice::Auto), fresh());
    (local.vxlan.there, local.udp.there) = (true, true);
    let peers = decided(&nodes, &local, &network);
    assert!(peers.forwarding.is_none(), "not before it is needed");
    let ground = peers.targets.iter().filter(|target| target.transport == Transport::Udp);
    let ground: Vec<_> = ground.map(|t| (t.from.to_string(), t.to.to_string(), t.mtu.bytes())).collect();
    assert_eq!(ground[0], ("172.30.0.10".to_owned(), "172.30.0.11".to_owned(), 1500));
    let mut findings = Findings::default();
    let far = "node-c".parse().unwrap();
    let through = Measured::Through { mtu: 1500 };
    for _ in 0..3 {
        findings.enter(&far, &[(Transport::Vxlan, Measured::Silent), (Transport::Udp, through)]);
    }
    let peers = decided_by(&nodes, &local, &network, &findings);
    assert_eq!(transports(&peers), ["node-b direct 1500", "node-c udp 1472"]);
    assert_eq!(peers.peers.iter().nth(1).unwrap().instead_of, Some(Transport::Vxlan));
    assert!(peers.forwarding.is_some());
}
