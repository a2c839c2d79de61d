//! Nodes that reach each other in plain UDP, through forwarders that their agents start and keep.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use selvedge_datapath::step::NetStep;
use selvedge_forward::{Client, Report};
use selvedge_lab::shape::Attach;
use selvedge_model::Forwarding;
use selvedge_netlink::RouteSocket;
use selvedge_reconcile::status::State;
use selvedge_tests::{Agent, Attached, Cluster, Echo, Knocking, Node, Stream, knock, program, within};
use serde_json::json;

use crate::site::{alone, delete_route, name, wait_until_known};
use crate::tunnel::Guard;

/// Nodes with agents and a pod each.
struct Nodes {
    agents: Vec<Agent>,
    pods: Vec<Attached>,
    _echoes: Vec<Echo>,
    _guard: Guard,
    cluster: Cluster,
}

impl Nodes {
    /// Every node wishes for that transport.
    fn new(count: u8, transport: &str) -> Option<Self> {
        let cluster = Cluster::build(count, Attach::Routed)?;
        for node in &cluster.nodes {
            let config = format!("attach: routed\ntransport: {transport}\n");
            fs::write(node.folder().join("agent.yaml"), config).unwrap();
        }
        let run_dirs: Vec<PathBuf> = cluster.nodes.iter().map(Node::run_dir).collect();
        let guard = Guard::of(run_dirs.iter().map(PathBuf::as_path));
        let agents: Vec<Agent> = cluster.nodes.iter().map(Node::ready_agent).collect();
        let pods: Vec<Attached> = cluster.nodes.iter().map(|node| cluster.attach(node, "web")).collect();
        agents.iter().zip(&pods).for_each(|(agent, pod)| wait_until_known(agent, pod));
        let echoes = pods.iter().map(|pod| Echo::serve(pod.pod.namespace())).collect();
        Some(Self { agents, pods, _echoes: echoes, _guard: guard, cluster })
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.pods.iter().flat_map(|pod| pod.addresses.iter().copied()).collect()
    }

    /// Every pod and every node reaches every pod.
    fn all_reach_all(&self) {
        for to in self.addresses() {
            let pods = self.pods.iter().map(|pod| pod.pod.namespace());
            for from in pods.chain(self.cluster.nodes.iter().map(|node| &node.namespace)) {
                within(30.0, "a connection", || knock(from, to).map_err(|why| format!("{to}: {why}")));
            }
        }
    }

    /// Waits until a node reaches all others by that transport and says so.
    fn wait_until_reached_by(&self, agent: &Agent, transport: &str) {
        within(30.0, "peers are reached so", || {
            let status = agent.status();
            let peers = &status.wanted.peers;
            let so = peers.len() + 1 == self.agents.len()
                && peers.iter().all(|peer| format!("{peer:?}").contains(transport));
            if so && status.state.serves() { Ok(()) } else { Err(format!("{status:?}\n{}", agent.log())) }
        });
    }
}

fn report(node: &Node) -> Option<Report<Forwarding>> {
    Client::of(&node.run_dir()).get().unwrap_or_default()
}

/// Waits for a forwarder that was told what to do and is not that one.
fn wait_for_another(node: &Node, before: u32) -> Report<Forwarding> {
    within(30.0, "a forwarder is back", || match report(node) {
        Some(report) if report.pid != before && report.forwarding.is_some() => Ok(report),
        other => Err(format!("{other:?}")),
    })
}

fn delete_device(node: &Node) {
    let mut socket = RouteSocket::open_in(&node.namespace).unwrap();
    let delete = NetStep::DeleteLink { name: name("selvedge-udp") };
    socket.apply_until_failure(&[delete], None).unwrap();
}

#[test]
fn killed_forwarders_and_deleted_devices_are_back_and_no_connection_is_lost() {
    let _alone = alone();
    let Some(nodes) = Nodes::new(3, "udp") else { return };
    nodes.agents.iter().for_each(|agent| nodes.wait_until_reached_by(agent, "udp"));
    nodes.all_reach_all();
    let (first, from) = (&nodes.cluster.nodes[0], nodes.pods[0].pod.namespace());
    let to = &nodes.pods[1].addresses;
    let streams: Vec<Stream> = to.iter().map(|to| Stream::open(from, *to).unwrap()).collect();
    let before = report(first).unwrap();
    assert!(before.counters.sent_packets > 0, "{before:?}");
    kill_process(Pid::from_raw(i32::try_from(before.pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    let second = wait_for_another(first, before.pid);
    assert_eq!(second.forwarding, before.forwarding);
    delete_device(first);
    wait_for_another(first, second.pid);
    nodes.all_reach_all();
    assert!(streams.into_iter().map(Stream::close).all(|numbers| numbers > 0));
    let repaired = nodes.agents[0].status().repaired;
    assert!(repaired.get("forwarder").is_some_and(|count| *count >= 2), "{repaired:?}");
    // Forwarders outlive their agent, which goes on with those that it finds.
    let pid = report(&nodes.cluster.nodes[2]).unwrap().pid;
    let Nodes { mut agents, cluster, .. } = nodes;
    agents.remove(2).kill();
    let agent = cluster.nodes[2].ready_agent();
    assert_eq!(report(&cluster.nodes[2]).map(|report| report.pid), Some(pid), "{}", agent.log());
}

#[test]
fn a_forwarder_that_hangs_holds_nothing_up_and_is_replaced() {
    let _alone = alone();
    let Some(nodes) = Nodes::new(2, "udp") else { return };
    nodes.agents.iter().for_each(|agent| nodes.wait_until_reached_by(agent, "udp"));
    nodes.all_reach_all();
    let (node, agent) = (&nodes.cluster.nodes[0], &nodes.agents[0]);
    let before = report(node).unwrap();
    let hung = Pid::from_raw(i32::try_from(before.pid).unwrap()).unwrap();
    let picture = node.picture();
    kill_process(hung, Signal::STOP).unwrap();
    for pod_cidr in &nodes.cluster.nodes[1].plan.pod_cidrs {
        delete_route(node, &pod_cidr.to_string());
    }
    within(3.0, "the routes are back", || match node.picture() {
        now if now == picture => Ok(()),
        now => Err(format!("{}\n{}", picture.changes_to(&now), agent.log())),
    });
    within(4.0, "the forwarder is named", || match agent.status().state {
        State::Degraded { reasons } if reasons.concat().contains(&format!("(process {hung})")) => Ok(()),
        state => Err(format!("{state:?}\n{}", agent.log())),
    });
    let after = wait_for_another(node, before.pid);
    assert_eq!(after.forwarding, before.forwarding);
    nodes.agents.iter().for_each(|agent| nodes.wait_until_reached_by(agent, "udp"));
    nodes.all_reach_all();
    assert_eq!(agent.status().state, State::Ready, "{}", agent.log());
    assert!(agent.log().contains("killed: it didn't answer"), "{}", agent.log());
}

#[test]
fn a_transport_is_changed_node_by_node_and_no_connection_is_lost() {
    let _alone = alone();
    let Some(nodes) = Nodes::new(2, "vxlan") else { return };
    nodes.agents.iter().for_each(|agent| nodes.wait_until_reached_by(agent, "vxlan"));
    let (from, to) = (nodes.pods[0].pod.namespace(), &nodes.pods[1].addresses);
    let streams: Vec<Stream> = to.iter().map(|to| Stream::open(from, *to).unwrap()).collect();
    let knocking: Vec<Knocking> = to.iter().map(|to| Knocking::start(from, *to)).collect();
    let node = &nodes.cluster.nodes[1];
    let annotated = |transport: &str| {
        let mut object = node.object(&node.plan.pod_cidrs);
        object["metadata"]["annotations"] = json!({"selvedge.dev/transport": transport});
        nodes.cluster.manifest(node, &object.to_string());
        nodes.agents.iter().for_each(|agent| nodes.wait_until_reached_by(agent, transport));
    };
    annotated("udp");
    within(30.0, "packets pass the forwarders", || {
        let counts: Vec<u64> =
            nodes.cluster.nodes.iter().filter_map(report).map(|r| r.counters.received_packets).collect();
        if counts.len() == 2 && counts.iter().all(|count| *count > 0) {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    });
    annotated("vxlan");
    let hears = |node: &Node| report(node).and_then(|report| report.forwarding).map(|told| told.peers.len());
    assert!(
        nodes.cluster.nodes.iter().all(|node| hears(node) == Some(1)),
        "who changes later is heard still"
    );
    nodes.all_reach_all();
    assert!(knocking.into_iter().map(Knocking::end).all(|connections| connections > 0));
    assert!(streams.into_iter().map(Stream::close).all(|numbers| numbers > 0));
}

#[test]
fn an_uninstall_takes_the_forwarder_along() {
    let _alone = alone();
    let Some(nodes) = Nodes::new(2, "udp") else { return };
    nodes.agents.iter().for_each(|agent| nodes.wait_until_reached_by(agent, "udp"));
    let Nodes { agents, cluster, _guard, .. } = nodes;
    agents.into_iter().for_each(Agent::kill);
    let node = &cluster.nodes[0];
    assert!(report(node).is_some());
    let mut uninstall = Command::new(program("selvedge-agent"));
    uninstall.args(["uninstall", "--with-pods", "--run-dir"]).arg(node.run_dir());
    uninstall.arg("--cni-conf-dir").arg(node.folder().join("net.d"));
    uninstall.arg("--cni-bin-dir").arg(node.folder().join("bin"));
    let output = node.namespace.run(|| uninstall.output()).unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    within(30.0, "no forwarder is there", || match report(node) {
        None => Ok(()),
        there => Err(format!("{there:?}")),
    });
    assert!(!node.picture().links.contains_key(&name("selvedge-udp")));
    assert!(!node.run_dir().join("tunnel-udp.lock").exists());
}
