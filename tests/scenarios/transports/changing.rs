//! Transports and addresses that change under traffic.

use std::net::IpAddr;

use selvedge_datapath::state::{Address, Route, RouteProtocol};
use selvedge_datapath::step::NetStep;
use selvedge_lab::shape::{Attach, Count, Shape, Transport};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::{Agent, Attached, Cluster, Echo, Knocking, Node, Stream, within};
use serde_json::json;

use crate::site::{alone, name, wait_until_known};

/// A node, its agent, its pod.
struct Inhabited<'a> {
    node: &'a Node,
    agent: Option<Agent>,
    pod: Attached,
    _echo: Echo,
}

impl<'a> Inhabited<'a> {
    fn new(cluster: &Cluster, node: &'a Node) -> Self {
        let agent = node.ready_agent();
        let pod = cluster.attach(node, "web");
        wait_until_known(&agent, &pod);
        let echo = Echo::serve(pod.pod.namespace());
        Self { node, agent: Some(agent), pod, _echo: echo }
    }

    fn namespace(&self) -> &Namespace {
        self.pod.pod.namespace()
    }

    /// The agent ends, and another starts with that configuration.
    fn restart(&mut self, config: &str) {
        self.agent.take().map(Agent::terminate);
        self.node.configure(config);
        self.agent = Some(self.node.ready_agent());
    }

    /// Waits until it reaches a node's pods by a transport.
    fn must_reach_by(&self, peer: &Node, transport: &str) {
        let agent = self.agent.as_ref().unwrap();
        within(30.0, &format!("{} reaches {} by {transport}", self.node.plan.name, peer.plan.name), || {
            let status = agent.status();
            let by = status.wanted.peers.iter().find(|known| known.node == peer.plan.name.as_str());
            let settled = status.state.serves() && by.is_some_and(|peer| peer.transport == transport);
            if settled { Ok(()) } else { Err(format!("{by:?} {:?}\n{}", status.state, agent.log())) }
        });
    }
}

/// A stream from one pod to the other in each family, and as many back.
fn streams(a: &Inhabited<'_>, b: &Inhabited<'_>) -> Vec<Stream> {
    let ways = [(a, b), (b, a)];
    let open = |(from, to): (&Inhabited<'_>, &Inhabited<'_>)| {
        let open = |address: &IpAddr| Stream::open(from.namespace(), *address).unwrap();
        to.pod.addresses.iter().map(open).collect::<Vec<_>>()
    };
    ways.into_iter().flat_map(open).collect()
}

fn must_have_held(streams: Vec<Stream>) {
    let numbers: Vec<u64> = streams.into_iter().map(Stream::close).collect();
    assert!(numbers.iter().all(|numbers| *numbers > 0), "{numbers:?}");
}

#[test]
fn a_transport_that_changes_node_by_node_breaks_no_connection_of_routed_pods() {
    change_node_by_node(Attach::Routed);
}

#[test]
fn a_transport_that_changes_node_by_node_breaks_no_connection_of_bridged_pods() {
    change_node_by_node(Attach::Bridge);
}

fn change_node_by_node(attach: Attach) {
    let _alone = alone();
    let shape = Shape { transport: Transport::Direct, ..Cluster::shape(2, attach) };
    let Some(cluster) = Cluster::of(shape) else { return };
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut both = [a, b].map(|node| Inhabited::new(&cluster, node));
    let running = streams(&both[0], &both[1]);
    for transport in ["vxlan", "auto"] {
        for one in &mut both {
            one.restart(&format!("attach: {attach}\ntransport: {transport}\n"));
        }
        let by = if transport == "auto" { "direct" } else { transport };
        both[0].must_reach_by(b, by);
        both[1].must_reach_by(a, by);
    }
    must_have_held(running);
}

#[test]
fn an_annotation_changes_the_transport_of_one_node_and_breaks_no_connection() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(3, Attach::Routed) else { return };
    let [a, b, c] = [0, 1, 2].map(|i| Inhabited::new(&cluster, &cluster.nodes[i]));
    let running: Vec<Stream> = [streams(&a, &b), streams(&a, &c)].into_iter().flatten().collect();
    for wish in ["vxlan", "auto"] {
        let mut object = b.node.object(&b.node.plan.pod_cidrs);
        object["metadata"]["annotations"] = json!({"selvedge.dev/transport": wish});
        cluster.manifest(b.node, &object.to_string());
        let by = if wish == "auto" { "direct" } else { wish };
        for (from, to) in [(&a, &b), (&b, &a), (&c, &b), (&b, &c)] {
            from.must_reach_by(to.node, by);
        }
        a.must_reach_by(c.node, "direct");
    }
    must_have_held(running);
}

/// An address of node-b's that no other node is on a segment with.
const MOVED: &str = "172.30.9.12/32";

#[test]
fn a_node_whose_address_moves_off_the_segment_and_back_is_reached_throughout() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(3, Attach::Routed) else { return };
    let [a, b, c] = [0, 1, 2].map(|i| Inhabited::new(&cluster, &cluster.nodes[i]));
    let running: Vec<Stream> = [streams(&a, &b), streams(&a, &c)].into_iter().flatten().collect();
    let to_c: Vec<Knocking> = c.pod.addresses.iter().map(|to| Knocking::start(a.namespace(), *to)).collect();
    let moved = move_node(&cluster, b.node);
    cluster.manifest(b.node, &moved.to_string());
    for peer in [&a, &c] {
        peer.must_reach_by(b.node, "vxlan");
    }
    cluster.declare(b.node, &b.node.plan.pod_cidrs);
    for (from, to) in [(&a, &b), (&c, &b), (&b, &a)] {
        from.must_reach_by(to.node, "direct");
    }
    must_have_held(running);
    for knocking in to_c {
        assert!(knocking.end() > 0);
    }
}

/// Gives node-b its other address, to which the router knows the way; its Node object with that one.
fn move_node(cluster: &Cluster, node: &Node) -> serde_json::Value {
    let moved: ipnet::IpNet = MOVED.parse().unwrap();
    let address = NetStep::AddAddress { device: name("lo"), address: Address::global(moved) };
    let route = NetStep::ReplaceRoute(Route {
        destination: moved,
        via: Some(node.plan.addresses[0].addr()),
        device: name("eth0"),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(4),
    });
    for (place, step) in [(&node.namespace, address), (cluster.router(), route)] {
        RouteSocket::open_in(place).unwrap().apply_until_failure(&[step], None).unwrap();
    }
    let mut object = node.object(&node.plan.pod_cidrs);
    object["status"]["addresses"][0]["address"] = json!(moved.addr());
    object
}

/// Nodes on two segments.
fn apart(transport: Transport) -> Shape {
    let mut shape = Shape { transport, ..Cluster::shape(2, Attach::Routed) };
    shape.network.segments = Count::new(2).unwrap();
    shape
}

/// Waits until an agent says something with all of these words in it of how it is or of its peers.
fn must_tell(agent: &Agent, words: &[&str]) {
    within(60.0, &format!("the agent tells of {words:?}"), || {
        let status = agent.status();
        let mut told = status.notes;
        told.push(format!("{:?}", status.state));
        let named = told.iter().any(|line| words.iter().all(|word| line.contains(word)));
        if named { Ok(()) } else { Err(format!("{told:?}\n{}", agent.log())) }
    });
}

#[test]
fn what_lets_no_vxlan_through_is_named_with_the_peer() {
    let mut shape = apart(Transport::Auto);
    shape.network.blocked.insert("udp/4789".parse().unwrap());
    let Some(cluster) = Cluster::of(shape) else { return };
    let [agent, _other] = [0, 1].map(|i| cluster.nodes[i].ready_agent());
    must_tell(&agent, &["node-b", "4789"]);
}

#[test]
fn a_peer_that_is_on_no_segment_of_ours_is_named_where_direct_is_wished_for() {
    let Some(cluster) = Cluster::of(apart(Transport::Direct)) else { return };
    let agent = cluster.nodes[0].ready_agent();
    must_tell(&agent, &["node-b", "172.30.1.12", "10.244.1.0/24"]);
}
