//! What agents find of the ways to each other, and do about it.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use selvedge_lab::shape::{Attach, FamilyChoice, Shape};
use selvedge_reconcile::status::{Found, PeerStatus};
use selvedge_tests::{Agent, Cluster, Echo, Node, connect, knock, within};

use crate::site::on;
use crate::tunnel::Guard;

/// The only peer, once it is as it should be; for as long as a busy machine may take to measure.
fn peer_when(agent: &Agent, what: &str, as_expected: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
    within(60.0, what, || {
        let peers = agent.status().wanted.peers.clone();
        let found = peers.iter().find(|peer| as_expected(peer)).cloned();
        found.ok_or_else(|| format!("{peers:?}\n{}", agent.log()))
    })
}

fn is(transport: &str, path_mtu: u32) -> impl Fn(&PeerStatus) -> bool {
    move |peer| (peer.transport.as_str(), peer.path_mtu, peer.measured) == (transport, path_mtu, Found::Ok)
}

#[test]
fn a_network_that_drops_pods_addresses_is_crossed_in_vxlan_and_no_connection_is_lost() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let agents = [0, 1].map(|i| cluster.nodes[i].ready_agent());
    let pods = [0, 1].map(|i| cluster.attach(&cluster.nodes[i], &format!("c{i}")));
    let _echo = Echo::serve(pods[1].pod.namespace());
    agents.iter().for_each(|agent| drop(peer_when(agent, "the direct way is measured", is("direct", 1500))));
    let open = pods[1].addresses.iter().map(|to| connect(pods[0].pod.namespace(), *to).unwrap());
    let open: Vec<TcpStream> = open.collect();
    // As clouds do that check from which addresses a machine sends.
    for node in &cluster.nodes {
        on(node, "nft add table inet cloud");
        on(node, "nft add chain inet cloud out { type filter hook postrouting priority 0 ; }");
        on(node, "nft add rule inet cloud out oifname eth0 ip saddr 10.244.0.0/16 drop");
        on(node, "nft add rule inet cloud out oifname eth0 ip6 saddr fd00:10:244::/48 drop");
    }
    for agent in &agents {
        let peer = peer_when(agent, "VXLAN is taken instead", is("vxlan", 1450));
        assert_eq!(peer.instead_of.as_deref(), Some("direct"));
        let told = format!("direct to {} doesn't get through, using vxlan", peer.node);
        assert!(agent.status().notes.contains(&told), "{:?}", agent.status().notes);
    }
    for mut connection in open {
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        connection.write_all(&[42]).unwrap();
        let mut answer = [0];
        connection.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [42]);
    }
    let [agent, _other] = agents;
    agent.kill();
    let peers = cluster.nodes[0].ready_agent().status().wanted.peers.clone();
    assert_eq!(peers[0].transport, "vxlan", "the next agent doesn't try again: {peers:?}");
    cluster.nodes.iter().for_each(|node| on(node, "nft delete table inet cloud"));
}

#[test]
fn where_pods_have_ipv6_alone_ways_are_replaced_as_elsewhere() {
    let shape = Shape { family: FamilyChoice::Ipv6, ..Cluster::shape(2, Attach::Routed) };
    let Some(cluster) = Cluster::of(shape) else { return };
    let agents = [0, 1].map(|i| cluster.nodes[i].ready_agent());
    agents.iter().for_each(|agent| drop(peer_when(agent, "the direct way is measured", is("direct", 1500))));
    for node in &cluster.nodes {
        on(node, "nft add table inet cloud");
        on(node, "nft add chain inet cloud out { type filter hook postrouting priority 0 ; }");
        on(node, "nft add rule inet cloud out oifname eth0 ip6 saddr fd00:10:244::/48 drop");
    }
    for agent in &agents {
        let peer = peer_when(agent, "VXLAN is taken instead", is("vxlan", 1430));
        assert_eq!(peer.instead_of.as_deref(), Some("direct"));
    }
    cluster.nodes.iter().for_each(|node| on(node, "nft delete table inet cloud"));
}

#[test]
fn where_vxlan_is_blocked_too_plain_udp_is_taken_and_left_again() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let run_dirs: Vec<_> = cluster.nodes.iter().map(Node::run_dir).collect();
    let _guard = Guard::of(run_dirs.iter().map(PathBuf::as_path));
    for node in &cluster.nodes {
        on(node, "nft add table inet cloud");
        on(node, "nft add chain inet cloud out { type filter hook postrouting priority 0 ; }");
        on(node, "nft add rule inet cloud out oifname eth0 ip saddr 10.244.0.0/16 drop");
        on(node, "nft add rule inet cloud out oifname eth0 ip6 saddr fd00:10:244::/48 drop");
        on(node, "nft add chain inet cloud vxlan { type filter hook postrouting priority 0 ; }");
        on(node, "nft add rule inet cloud vxlan udp dport 4789 drop");
    }
    let agents = [0, 1].map(|i| cluster.nodes[i].ready_agent());
    let pods = [0, 1].map(|i| cluster.attach(&cluster.nodes[i], &format!("c{i}")));
    let _echo = Echo::serve(pods[1].pod.namespace());
    agents.iter().for_each(|agent| drop(peer_when(agent, "UDP is taken", is("udp", 1472))));
    let knocks = |to| {
        within(30.0, "a connection", || {
            knock(pods[0].pod.namespace(), to).map_err(|why| format!("{to}: {why}"))
        });
    };
    pods[1].addresses.iter().copied().for_each(knocks);
    cluster.nodes.iter().for_each(|node| on(node, "nft delete chain inet cloud vxlan"));
    agents.iter().for_each(|agent| drop(peer_when(agent, "VXLAN is taken again", is("vxlan", 1450))));
    pods[1].addresses.iter().copied().for_each(knocks);
}

#[test]
fn a_peer_that_does_not_answer_is_told_of_and_reached_as_before() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let (agent, other) = (cluster.nodes[0].ready_agent(), cluster.nodes[1].ready_agent());
    peer_when(&agent, "the direct way is measured", is("direct", 1500));
    other.kill();
    let silent = peer_when(&agent, "the silence is noticed", |peer| peer.measured == Found::Silent);
    assert_eq!((silent.transport.as_str(), silent.instead_of), ("direct", None));
    let told = format!("nothing comes back from {} by direct", silent.node);
    assert!(agent.status().notes.contains(&told), "{:?}", agent.status().notes);
    let _again = cluster.nodes[1].ready_agent();
    peer_when(&agent, "its return is noticed", is("direct", 1500));
}

#[test]
fn no_way_to_a_node_is_replaced_because_of_an_address_that_it_does_not_answer_from_yet() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let (agent, other) = (cluster.nodes[0].ready_agent(), cluster.nodes[1].ready_agent());
    peer_when(&agent, "the direct way is measured", is("direct", 1500));
    other.kill();
    // As long as somebody is there, the next agent can't answer there; at the node's own address it could.
    let Node { plan, namespace, .. } = &cluster.nodes[1];
    let overlay = plan.pod_cidrs[0].network();
    let occupied = namespace.run(|| UdpSocket::bind((overlay, selvedge_probe::PORT))).unwrap().unwrap();
    let _again = cluster.nodes[1].ready_agent();
    // Twice as long as until the next measurement.
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(500));
        let peers = agent.status().wanted.peers.clone();
        assert!(peers.iter().all(|peer| peer.transport == "direct"), "{peers:?}");
    }
    drop(occupied);
    peer_when(&agent, "the node answers", is("direct", 1500));
}

#[test]
fn a_path_that_is_narrower_than_its_ends_is_measured_and_its_routes_say_so() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let [near, far] = [0, 1].map(|i| &cluster.nodes[i]);
    // What is longer than this doesn't arrive, and nobody is told.
    on(far, "nft add table netdev narrow");
    on(far, "nft add chain netdev narrow in { type filter hook ingress device eth0 priority 0 ; }");
    on(far, "nft add rule netdev narrow in meta length > 1414 drop");
    let agents = [near, far].map(|node| node.ready_agent());
    let narrow = |peer: &PeerStatus| peer.measured == Found::Ok && (1380..=1414).contains(&peer.path_mtu);
    let peer = peer_when(&agents[0], "the path is measured", narrow);
    within(30.0, "its routes are narrowed", || {
        let there = near.picture().routes;
        let to_pods =
            there.iter().filter(|route| cluster.nodes[1].plan.pod_cidrs.contains(&route.destination));
        let narrowed = to_pods.filter(|route| route.mtu == Some(peer.path_mtu)).count();
        if narrowed == 2 { Ok(()) } else { Err(format!("{there:?}")) }
    });
}
