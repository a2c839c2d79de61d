//! The overlay's device and what is on it, broken by somebody else, and peers that left.

use std::process::Command;
use std::time::Instant;

use selvedge_datapath::state::FdbEntry;
use selvedge_datapath::step::NetStep;
use selvedge_lab::shape::{Attach, Shape, Transport};
use selvedge_netlink::RouteSocket;
use selvedge_tests::{Agent, Attached, Cluster, Echo, Node, Picture, knock, within};

use crate::site::{alone, name, on, wait_until_known};

const DEVICE: &str = "selvedge-vx";

/// Nodes that reach each other in VXLAN, on one segment.
fn cluster(nodes: u8, attach: Attach) -> Option<Cluster> {
    Cluster::of(Shape { transport: Transport::Vxlan, ..Cluster::shape(nodes, attach) })
}

/// A node with an agent and a pod.
fn inhabited<'a>(cluster: &Cluster, node: &'a Node) -> (&'a Node, Agent, Attached) {
    let agent = node.ready_agent();
    let pod = cluster.attach(node, "web");
    wait_until_known(&agent, &pod);
    (node, agent, pod)
}

/// Makes a change on a node as somebody else. Everything must come back, and the agent must name a step with those
/// words in it. How long it took is said, and left to the benchmarks to judge.
fn must_come_back((node, agent): (&Node, &Agent), before: &Picture, (change, words): (NetStep, &str)) {
    let told = change.to_string();
    RouteSocket::open_in(&node.namespace).unwrap().apply_until_failure(&[change], None).unwrap();
    let begun = Instant::now();
    within(30.0, &format!("all is back after `{told}`"), || {
        let changes = before.changes_to(&node.picture());
        if changes.is_empty() { Ok(()) } else { Err(format!("{changes}\n{}", agent.log())) }
    });
    println!("`{told}` was undone within {:?}", begun.elapsed());
    within(30.0, "the agent names the repair", || {
        let repairs = agent.status().repairs;
        let named = repairs.iter().any(|repair| repair.step.contains(words));
        if named { Ok(()) } else { Err(format!("{words}: {repairs:?}")) }
    });
}

#[test]
fn a_deleted_overlay_device_comes_back_with_its_peers() {
    let _alone = alone();
    let Some(cluster) = cluster(3, Attach::Routed) else { return };
    let [a, b, c] = [0, 1, 2].map(|i| inhabited(&cluster, &cluster.nodes[i]));
    let before = a.0.picture();
    assert_eq!((before.fdb.len(), before.neighbours.len()), (2, 4), "{before:?}");
    let deleted = NetStep::DeleteLink { name: name(DEVICE) };
    must_come_back((a.0, &a.1), &before, (deleted, "ip link add selvedge-vx"));
    for peer in [&b, &c] {
        let _echo = Echo::serve(peer.2.pod.namespace());
        for address in &peer.2.addresses {
            knock(a.2.pod.namespace(), *address).unwrap();
            knock(&a.0.namespace, *address).unwrap();
        }
    }
}

#[test]
fn an_entry_of_a_peer_that_is_deleted_or_leads_aside_comes_back() {
    let _alone = alone();
    let Some(cluster) = cluster(2, Attach::Bridge) else { return };
    let (node, agent) = (&cluster.nodes[0], cluster.nodes[0].ready_agent());
    let before = node.picture();
    let deleted = before.fdb.first().cloned().unwrap();
    let FdbEntry { mac, remote, .. } = deleted.clone();
    must_come_back((node, &agent), &before, (NetStep::DeleteFdb(deleted), "bridge fdb replace "));
    for aside in ["port 9999", "vni 7", "via eth0"] {
        on(node, &format!("bridge fdb replace {mac} dev {DEVICE} dst {remote} {aside}"));
        within(30.0, "it leads where it did", || {
            let show = || Command::new("bridge").args(["fdb", "show", "dev", DEVICE]).output();
            let shown = node.namespace.run(show).unwrap().unwrap().stdout;
            let shown = String::from_utf8_lossy(&shown);
            if shown.contains(aside) { Err(format!("{shown}{}", agent.log())) } else { Ok(()) }
        });
        assert_eq!(node.picture(), before);
    }
    for neighbour in before.neighbours.clone() {
        must_come_back((node, &agent), &before, (NetStep::DeleteNeighbour(neighbour), "ip neigh replace "));
    }
}

#[test]
fn a_peer_that_left_while_no_agent_ran_is_forgotten_at_the_next_start() {
    let _alone = alone();
    let Some(cluster) = cluster(3, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    node.ready_agent().kill();
    let before = node.picture();
    let gone = &cluster.nodes[2];
    cluster.remove(gone);
    let _agent = node.ready_agent();
    let now = node.picture();
    let to_gone = gone.plan.addresses[0].addr();
    assert_eq!((before.fdb.len(), now.fdb.len()), (2, 1), "{:?}", now.fdb);
    assert!(now.fdb.iter().all(|entry| entry.remote != to_gone), "{:?}", now.fdb);
    assert_eq!((before.neighbours.len(), now.neighbours.len()), (4, 2), "{:?}", now.neighbours);
    let left = |picture: &Picture| {
        picture.routes.iter().filter(|route| gone.plan.pod_cidrs.contains(&route.destination)).count()
    };
    assert_eq!((left(&before), left(&now)), (2, 0), "{:?}", now.routes);
}
