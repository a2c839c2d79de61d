//! Agents that are killed, end and start again, and what changed while none ran.

use std::fs;

use selvedge_datapath::firewall::AGENT;
use selvedge_datapath::step::NetStep;
use selvedge_lab::shape::Attach;
use selvedge_leases::Store;
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_netlink::RouteSocket;
use selvedge_tests::{Call, Cluster, Echo, Knocking, Node, Stream, knock, within};
use serde_json::json;

use crate::site::{Site, alone, name, wait_until_known};

/// How often agents are killed.
const KILLS: usize = 30;

#[test]
fn agents_of_routed_pods_are_killed_again_and_again_and_no_connection_notices() {
    kill_again_and_again(Attach::Routed);
}

#[test]
fn agents_of_bridged_pods_are_killed_again_and_again_and_no_connection_notices() {
    kill_again_and_again(Attach::Bridge);
}

fn kill_again_and_again(attach: Attach) {
    let _alone = alone();
    let Some(cluster) = Cluster::build(2, attach) else { return };
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut agents = vec![(a, a.ready_agent()), (b, b.ready_agent())];
    let (client, server) = (cluster.attach(a, "client"), cluster.attach(b, "server"));
    for ((_, agent), pod) in agents.iter().zip([&client, &server]) {
        wait_until_known(agent, pod);
    }
    let before = [a, b].map(|node| node.picture().disowned());
    let before_of = |node: &Node| if node.plan.name == a.plan.name { &before[0] } else { &before[1] };
    let _echo = Echo::serve(server.pod.namespace());
    let from = client.pod.namespace();
    let streams: Vec<Stream> = server.addresses.iter().map(|to| Stream::open(from, *to).unwrap()).collect();
    let knocking: Vec<Knocking> = server.addresses.iter().map(|to| Knocking::start(from, *to)).collect();
    for round in 0..KILLS {
        let (node, agent) = agents.remove(0);
        agent.kill();
        assert_eq!(
            before_of(node).changes_to(&node.picture().disowned()),
            "",
            "what it made is there without it"
        );
        let agent = node.start_agent();
        // Every third is killed in the middle of its start when its turn comes.
        if round % 3 != 0 {
            agent.wait_until_ready();
        }
        agents.push((node, agent));
    }
    agents.iter().for_each(|(_, agent)| agent.wait_until_ready());
    let numbers: Vec<u64> = streams.into_iter().map(Stream::close).collect();
    let connections: Vec<u64> = knocking.into_iter().map(Knocking::end).collect();
    assert!(numbers.iter().all(|numbers| *numbers > 0), "{numbers:?}");
    assert!(connections.iter().all(|connections| *connections > 30), "{connections:?}");
    for node in [a, b] {
        assert_eq!(before_of(node).changes_to(&node.picture().disowned()), "");
    }
}

#[test]
fn told_to_end_the_agent_takes_its_socket_along_and_leaves_the_rest_as_it_is() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let Site { agent, pod, cluster, .. } = site;
    let _echo = Echo::serve(pod.pod.namespace());
    let node = &cluster.nodes[0];
    let before = node.picture().disowned();
    let socket = agent.socket();
    let status = agent.terminate();
    assert!(status.success(), "{status}");
    assert!(!socket.exists());
    assert_eq!(before.changes_to(&node.picture().disowned()), "");
    for address in &pod.addresses {
        knock(&node.namespace, *address).unwrap();
    }
    node.ready_agent();
    assert_eq!(before.changes_to(&node.picture().disowned()), "");
}

#[test]
fn an_add_waits_for_an_agent_that_starts_meanwhile_and_not_for_ever() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    node.ready_agent().kill();
    let pod = cluster.pod();
    let add = || Call::new("ADD", node.plugin_config()).of("web", &pod);
    let before = node.picture();
    let (code, message) = {
        let answer = add().run(&node.namespace);
        let (code, message) = answer.refusal();
        (code, message.to_owned())
    };
    assert_eq!(code, 11, "{message}");
    assert!(message.contains("agent.sock has not let the pod in"), "{message}");
    assert_eq!(before.changes_to(&node.picture()), "");
    let waiting = add().start(&node.namespace);
    let agent = node.ready_agent();
    waiting.answer().result();
    agent.wait_until_ready();
}

#[test]
fn a_pod_attached_while_no_agent_ran_is_adopted_by_the_next() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    fs::write(node.folder().join("agent.yaml"), "attach: routed\npolicy: {whenAgentDown: open}\n").unwrap();
    node.ready_agent().kill();
    let pod = cluster.attach(node, "web");
    let _echo = Echo::serve(pod.pod.namespace());
    let before = node.picture();
    let agent = node.ready_agent();
    wait_until_known(&agent, &pod);
    assert_eq!(before.links, node.picture().links);
    assert_eq!(before.routes, node.picture().routes);
    for address in &pod.addresses {
        knock(&node.namespace, *address).unwrap();
    }
}

#[test]
fn a_node_that_left_while_no_agent_ran_loses_its_routes_at_the_next_start() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(3, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    node.ready_agent().kill();
    assert_eq!(our_routes(node).len(), 4);
    cluster.remove(&cluster.nodes[2]);
    let _agent = node.ready_agent();
    assert_eq!(our_routes(node), ["10.244.1.0/24", "fd00:10:244:1::/64"]);
}

#[test]
fn a_manifest_that_becomes_broken_takes_nothing_away_and_is_told_of() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let (node, peer) = (site.node(), &site.cluster.nodes[1]);
    let before = node.picture();
    site.cluster.manifest(peer, "{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {");
    let problems = within(20.0, "the problem is told of", || {
        let problems = site.agent.status().source_problems;
        if problems.is_empty() { Err(site.agent.log()) } else { Ok(problems) }
    });
    assert!(problems.iter().any(|problem| problem.contains("node-b.json:1:")), "{problems:?}");
    assert_eq!(before.changes_to(&node.picture()), "");
    site.cluster.declare(peer, &["10.244.7.0/24".parse().unwrap()]);
    within(20.0, "the mended manifest is in force", || {
        let routes = our_routes(node);
        let status = site.agent.status();
        let now =
            routes.contains(&"10.244.7.0/24".to_owned()) && !routes.contains(&"10.244.1.0/24".to_owned());
        if now && status.source_problems.is_empty() { Ok(()) } else { Err(format!("{routes:?}")) }
    });
    assert!(site.agent.status().repaired.is_empty(), "{:?}", site.agent.status().repairs);
}

#[test]
fn on_account_of_a_manifest_that_could_never_be_read_nothing_is_pruned() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let [node, peer] = &cluster.nodes[..] else { panic!("two nodes") };
    node.ready_agent().kill();
    let before = our_routes(node);
    cluster.manifest(peer, "{");
    let agent = node.ready_agent();
    assert_eq!(our_routes(node), before, "the node may still be there");
    assert!(!agent.status().source_problems.is_empty());
    cluster.remove(peer);
    within(20.0, "the routes go with the manifest", || match our_routes(node) {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    });
}

#[test]
fn a_changed_pod_cidr_moves_the_bridges_address_and_new_pods_are_in_it() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Bridge) else { return };
    let node = &cluster.nodes[0];
    let agent = node.ready_agent();
    cluster.declare(node, &["10.244.9.0/24".parse().unwrap(), "fd00:10:244:9::/64".parse().unwrap()]);
    within(20.0, "the bridge's addresses are the new ones", || {
        let picture = node.picture();
        let bridge = &picture.links[&name("cni0")];
        let nets: Vec<String> = bridge.addresses.iter().map(|address| address.net.to_string()).collect();
        let conflist = picture.conflist.unwrap_or_default();
        let moved = nets == ["10.244.9.1/24", "fd00:10:244:9::1/64"] && conflist.contains("10.244.9.0/24");
        if moved { Ok(()) } else { Err(format!("{nets:?}\n{conflist}\n{}", agent.log())) }
    });
    let pod = cluster.attach(node, "web");
    let _echo = Echo::serve(pod.pod.namespace());
    for address in &pod.addresses {
        knock(&node.namespace, *address).unwrap();
    }
    assert_eq!(pod.addresses[0].to_string(), "10.244.9.2");
}

#[test]
fn what_was_in_the_run_directory_comes_back_under_a_running_agent() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let run_dir = site.node().run_dir();
    fs::remove_dir_all(&run_dir).unwrap();
    within(20.0, "the socket and the word that pods are served are back", || {
        let answers = site.agent.ask(&json!({"get": "ready"})).is_some_and(|told| told["ready"] == true);
        if answers && run_dir.join("ready").exists() { Ok(()) } else { Err(site.agent.log()) }
    });
}

#[test]
fn a_pod_of_a_pod_cidr_that_was_taken_away_is_masqueraded_as_before() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let node = site.node();
    let postrouting = || format!("{:?}", node.picture().tables[&AGENT].chains);
    site.cluster.declare(node, &["10.244.9.0/24".parse().unwrap(), "fd00:10:244:9::/64".parse().unwrap()]);
    within(20.0, "the new pod CIDR is in force", || {
        let cidrs = site.agent.status().wanted.pod_cidrs.clone();
        if cidrs[0] == "10.244.9.0/24" { Ok(()) } else { Err(format!("{cidrs:?}")) }
    });
    site.agent.ask(&json!({"do": "reconcile"})).unwrap();
    let rules = postrouting();
    for address in &site.pod.addresses {
        assert!(rules.contains(&address.to_string()), "{address} is in {rules}");
    }
}

#[test]
fn the_lease_of_a_pod_whose_host_end_is_gone_is_freed_and_others_stay() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let node = site.node();
    let gone = site.cluster.attach(node, "gone");
    site.change(&[NetStep::DeleteLink { name: name(&gone.host_end) }]);
    assert_eq!(leased(node), ["gone/eth0", "web/eth0"]);
    site.agent.ask(&json!({"do": "reconcile"})).unwrap();
    within(20.0, "the lease is freed", || {
        let (freed, left) = (site.agent.status().leases_freed, leased(node));
        if freed == 1 && left == ["web/eth0"] { Ok(()) } else { Err(format!("{freed} {left:?}")) }
    });
}

#[test]
fn routed_pods_that_come_and_go_are_no_drift_and_leave_nothing() {
    come_and_go(Attach::Routed);
}

#[test]
fn bridged_pods_that_come_and_go_are_no_drift_and_leave_nothing() {
    come_and_go(Attach::Bridge);
}

fn come_and_go(attach: Attach) {
    let Some(site) = Site::new(attach) else { return };
    let node = site.node();
    let before = node.picture();
    for round in 0..10 {
        let pods = [0, 1].map(|i| site.cluster.attach(node, &format!("pod-{round}-{i}")));
        pods.iter().for_each(|pod| site.cluster.detach(node, pod));
    }
    within(20.0, "the node is as before", || {
        let changes = before.changes_to(&node.picture());
        if changes.is_empty() { Ok(()) } else { Err(format!("{changes}\n{}", site.agent.log())) }
    });
    assert_eq!(leased(node), ["web/eth0"]);
    let status = site.agent.status();
    assert!(status.repaired.is_empty(), "{:?}\n{}", status.repairs, site.agent.log());
}

/// The destinations of the routes that bear our mark, IPv4 first.
fn our_routes(node: &Node) -> Vec<String> {
    let observed = RouteSocket::open_in(&node.namespace).unwrap().observe().unwrap();
    let ours = observed.routes.into_iter().filter(|route| route.protocol.0 == ROUTE_PROTOCOL);
    ours.map(|route| route.destination.to_string()).collect()
}

/// The attachments that have a lease on a node.
fn leased(node: &Node) -> Vec<String> {
    let store = Store::new(&node.run_dir(), &"selvedge".parse().unwrap());
    store.read().unwrap().leases().keys().map(ToString::to_string).collect()
}
