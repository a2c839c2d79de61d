//! Nodes that encrypt: what is seen between them of what pods say, whatever happens, and how they come to it.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use selvedge_datapath::step::NetStep;
use selvedge_forward::Client;
use selvedge_lab::shape::{Attach, FamilyChoice, Shape};
use selvedge_model::Wireguard;
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::{Agent, Attached, Capture, Cluster, Echo, Node, Stream, frames_with, knock, within};
use selvedge_wireguard::key_file;
use serde_json::json;

use crate::site::{alone, name, wait_until_known};
use crate::tunnel::Guard;

/// What pods say all the time.
const SECRET: &[u8] = b"the pods' own business, and nobody else's";

/// Says it from a namespace to some addresses, whether anybody hears it or not.
struct Talking {
    stop: Arc<AtomicBool>,
    talker: JoinHandle<()>,
}

impl Talking {
    fn start(from: &Namespace, to: &[IpAddr]) -> Self {
        let socket = from.run(|| UdpSocket::bind("[::]:0")).unwrap().unwrap();
        let to: Vec<IpAddr> = to
            .iter()
            .map(|to| match to {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
                v6 => *v6,
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let talker = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                for to in &to {
                    socket.send_to(SECRET, (*to, 9)).ok();
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, talker }
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.talker.join().unwrap();
    }
}

/// Nodes that share a directory of keys.
struct Nodes {
    _guard: Guard,
    cluster: Cluster,
}

impl Nodes {
    fn new(count: u8) -> Option<Self> {
        Self::of(Cluster::shape(count, Attach::Routed))
    }

    fn of(shape: Shape) -> Option<Self> {
        let cluster = Cluster::of(shape)?;
        let run_dirs: Vec<PathBuf> = cluster.nodes.iter().map(Node::run_dir).collect();
        let guard = Guard::of(run_dirs.iter().map(PathBuf::as_path));
        Some(Self { _guard: guard, cluster })
    }

    fn keys(&self) -> PathBuf {
        self.cluster.nodes[0].folder().join("keys")
    }

    /// The configuration of a node.
    fn config(&self, transport: &str, more: &str) -> String {
        format!("attach: routed\ntransport: {transport}\nwireguard: {{keys: {:?}}}\n{more}", self.keys())
    }

    /// The key that a node has published.
    fn key(&self, node: &Node) -> String {
        fs::read_to_string(self.keys().join(node.plan.name.as_str())).unwrap_or_default()
    }
}

/// Waits until a node reaches another by a transport, and says so.
fn must_reach_by(agent: &Agent, peer: &Node, transport: &str) {
    within(30.0, &format!("{} is reached by {transport}", peer.plan.name), || {
        let status = agent.status();
        let by = status.wanted.peers.iter().find(|known| known.node == peer.plan.name.as_str());
        let settled = status.state.serves() && by.is_some_and(|peer| peer.transport == transport);
        if settled { Ok(()) } else { Err(format!("{by:?} {:?}\n{}", status.state, agent.log())) }
    });
}

/// How long it takes until a pod reaches another one's addresses.
fn back_after(from: &Attached, to: &Attached) -> Duration {
    let began = Instant::now();
    for address in &to.addresses {
        within(30.0, "a connection", || {
            knock(from.pod.namespace(), *address).map_err(|why| format!("{address}: {why}"))
        });
    }
    began.elapsed()
}

fn forwarder(node: &Node) -> u32 {
    within(30.0, "a forwarder is at work", || {
        let report = Client::<Wireguard>::of(&node.run_dir()).get().map_err(|why| why.to_string())?;
        report.filter(|r| r.forwarding.is_some()).map(|r| r.pid).ok_or_else(|| "none".to_owned())
    })
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// What others may do to a node at night.
fn delete(node: &Node, step: NetStep) {
    let mut socket = RouteSocket::open_in(&node.namespace).unwrap();
    socket.apply_until_failure(&[step], None).unwrap();
}

#[test]
fn nothing_that_pods_say_is_seen_between_strict_nodes_whatever_happens() {
    let _alone = alone();
    let Some(nodes) = Nodes::new(3) else { return };
    let [a, b, c] = &nodes.cluster.nodes[..] else { panic!("three nodes") };
    nodes.cluster.remove(c);
    let strict = "encryption: strict\nclusterCidrs: [10.244.0.0/16, 'fd00:10:244::/48']\n";
    [a, b, c].iter().for_each(|node| node.configure(&nodes.config("wireguard", strict)));
    let mut agents = [a, b].map(Node::ready_agent);
    let pods = [a, b].map(|node| nodes.cluster.attach(node, "web"));
    agents.iter().zip(&pods).for_each(|(agent, pod)| wait_until_known(agent, pod));
    let [web_a, web_b] = &pods;
    let _echoes: Vec<Echo> = pods.iter().map(|pod| Echo::serve(pod.pod.namespace())).collect();

    let captures: Vec<Capture> = nodes.cluster.segments().map(Capture::start).collect();
    let of_c: Vec<IpAddr> = ["10.244.2.2", "fd00:10:244:2::2"].map(|ip| ip.parse().unwrap()).into();
    let to_all = |own: &Attached, other: &Attached| {
        Talking::start(own.pod.namespace(), &[&other.addresses[..], &of_c].concat())
    };
    let talking = [to_all(web_a, web_b), to_all(web_b, web_a)];
    back_after(web_a, web_b);
    let streams: Vec<Stream> =
        web_b.addresses.iter().map(|to| Stream::open(web_a.pod.namespace(), *to).unwrap()).collect();

    let rotated = another_key(&nodes, (b, web_b), web_a);

    // An agent is killed, and another starts; a forwarder is killed; routes and the device go.
    let [first, second] = agents;
    first.kill();
    agents = [a.ready_agent(), second];
    back_after(web_a, web_b);
    kill(forwarder(a));
    let killed = back_after(web_a, web_b);
    delete(b, NetStep::DeleteLink { name: name("selvedge-wg") });
    let deleted = back_after(web_a, web_b);

    // A node joins.
    nodes.cluster.declare(c, &c.plan.pod_cidrs);
    let third = c.ready_agent();
    let web_c = nodes.cluster.attach(c, "web");
    wait_until_known(&third, &web_c);
    let _echo = Echo::serve(web_c.pod.namespace());
    back_after(web_a, &web_c);
    back_after(&web_c, web_b);
    must_reach_by(&agents[0], c, "wireguard");

    assert!(streams.into_iter().map(Stream::close).all(|numbers| numbers > 0));
    talking.into_iter().for_each(Talking::end);
    must_be_unreadable(captures, a, b);
    println!("another key {rotated:?}, forwarder killed {killed:?}, device deleted {deleted:?}");
}

/// A node's key goes, and its agent makes one. How long it takes until both pods reach each other.
fn another_key(nodes: &Nodes, (node, own): (&Node, &Attached), other: &Attached) -> Duration {
    let before = nodes.key(node);
    fs::remove_file(key_file(&node.run_dir())).unwrap();
    let began = Instant::now();
    within(30.0, "another key is published", || {
        let key = nodes.key(node);
        if !key.is_empty() && key != before { Ok(()) } else { Err(key) }
    });
    back_after(own, other);
    back_after(other, own);
    began.elapsed()
}

/// Of what passed between the nodes, only what one of them said itself can be read: that, so the rest would have been.
fn must_be_unreadable(captures: Vec<Capture>, a: &Node, b: &Node) {
    let IpAddr::V4(outside) = b.plan.addresses[0].addr() else { panic!("{b:?}") };
    let openly = Talking::start(&a.namespace, &[outside.into()]);
    thread::sleep(Duration::from_millis(200));
    openly.end();
    let frames: Vec<Vec<u8>> = captures.into_iter().flat_map(Capture::end).collect();
    let encrypted = frames.iter().filter(|frame| frame.len() > 100).count();
    assert!(encrypted > 100, "{encrypted} of {} frames", frames.len());
    let (mut said, mut of_pods) = (0, Vec::new());
    for frame in frames.iter().filter(|frame| frames_with(std::slice::from_ref(*frame), SECRET) > 0) {
        // Behind Ethernet's header, IPv4's source and destination; then UDP's port, or ICMP's answer that nobody listens.
        let concerns = [&frame[26..30], &frame[30..34]].contains(&&outside.octets()[..]);
        let bare = frame[36..38] == [0, 9] || frame[23] == 1;
        if concerns && bare { said += 1 } else { of_pods.push(frame) }
    }
    assert!(said > 0, "the captures see nothing");
    assert!(of_pods.is_empty(), "{} frames of pods can be read, such as {:?}", of_pods.len(), of_pods[0]);
}

#[test]
fn nodes_come_to_encrypt_one_by_one_and_back_and_no_connection_is_lost() {
    let _alone = alone();
    let Some(nodes) = Nodes::new(2) else { return };
    let [a, b] = &nodes.cluster.nodes[..] else { panic!("two nodes") };
    [a, b].iter().for_each(|node| node.configure(&nodes.config("vxlan", "")));
    let mut agents = [a, b].map(Node::ready_agent);
    let pods = [a, b].map(|node| nodes.cluster.attach(node, "web"));
    agents.iter().zip(&pods).for_each(|(agent, pod)| wait_until_known(agent, pod));
    let _echoes: Vec<Echo> = pods.iter().map(|pod| Echo::serve(pod.pod.namespace())).collect();
    must_reach_by(&agents[0], b, "vxlan");
    let open = |from: usize, to: usize| {
        let from = pods[from].pod.namespace();
        pods[to].addresses.iter().map(|to| Stream::open(from, *to).unwrap()).collect::<Vec<_>>()
    };
    let streams: Vec<Stream> = open(0, 1).into_iter().chain(open(1, 0)).collect();
    for transport in ["wireguard", "vxlan"] {
        for (index, node) in [a, b].into_iter().enumerate() {
            let [first, second] = agents;
            let (old, other) = if index == 0 { (first, second) } else { (second, first) };
            old.terminate();
            node.configure(&nodes.config(transport, ""));
            let fresh = node.ready_agent();
            agents = if index == 0 { [fresh, other] } else { [other, fresh] };
        }
        must_reach_by(&agents[0], b, transport);
        must_reach_by(&agents[1], a, transport);
    }
    assert!(streams.into_iter().map(Stream::close).all(|numbers| numbers > 0));
}

#[test]
fn an_annotation_has_one_node_encrypt_and_what_is_taken_stays_taken() {
    one_node_encrypts(FamilyChoice::Dual);
}

#[test]
fn where_pods_have_ipv6_alone_what_is_taken_stays_taken_too() {
    one_node_encrypts(FamilyChoice::Ipv6);
}

fn one_node_encrypts(family: FamilyChoice) {
    let _alone = alone();
    let shape = Shape { family, ..Cluster::shape(2, Attach::Routed) };
    let Some(nodes) = Nodes::of(shape) else { return };
    let [a, b] = &nodes.cluster.nodes[..] else { panic!("two nodes") };
    [a, b].iter().for_each(|node| node.configure(&nodes.config("auto", "")));
    let [first, second] = [a, b].map(Node::ready_agent);
    must_reach_by(&first, b, "direct");
    let mut object = b.object(&b.plan.pod_cidrs);
    object["metadata"]["annotations"] = json!({"selvedge.dev/transport": "wireguard"});
    nodes.cluster.manifest(b, &object.to_string());
    must_reach_by(&first, b, "wireguard");
    must_reach_by(&second, a, "wireguard");
    // Whoever is in the way doesn't bring them back to the clear: the other node's end is gone for good.
    second.kill();
    kill(forwarder(b));
    thread::sleep(Duration::from_secs(5));
    must_reach_by(&first, b, "wireguard");
}
