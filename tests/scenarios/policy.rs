//! NetworkPolicies by whole agents: from the first packet of a pod to the last of a flow that they forbid.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use selvedge_lab::shape::Attach;
use selvedge_netns::Namespace;
use selvedge_tests::{
    Agent, Asker, Attached, Cluster, Echo, Mirror, Node, Pod, Stream, connect, knock, within,
};
use serde_json::{Value, json};

use crate::site::{alone, tables_are_owned};

/// The port of mirrors.
pub(crate) const PORT: u16 = 8080;

/// How long it takes at most until what changed is in force, in seconds, however busy the machine is.
const SOON: f64 = 20.0;

/// How long nothing comes where nothing is let through.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// How many pods send, and are sent to, from their first moment; the soak has more.
fn pods() -> usize {
    std::env::var("SELVEDGE_FIRST_PODS").ok().and_then(|count| count.parse().ok()).unwrap_or(40)
}

/// Two nodes with agents, and the pods that have been attached.
pub(crate) struct Ground {
    pub(crate) agents: Vec<Agent>,
    pods: Vec<Value>,
    pub(crate) cluster: Cluster,
}

impl Ground {
    pub(crate) fn new() -> Option<Self> {
        Self::with(Node::ready_agent)
    }

    /// The same with agents that are started so.
    pub(crate) fn with(agent: impl Fn(&Node) -> Agent) -> Option<Self> {
        let cluster = Cluster::build(2, Attach::Routed)?;
        cluster.put(
            "namespaces",
            &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})],
        );
        let agents = cluster.nodes.iter().map(agent).collect();
        Some(Self { agents, pods: Vec::new(), cluster })
    }

    /// The same with a mirror on the second node, and somebody on the first whom a policy forbids to ask it.
    fn closed_to_others() -> Option<(Self, [Attached; 2], Mirror)> {
        let mut ground = Self::new()?;
        let pods = [(1, "web"), (0, "other")].map(|(node, name)| ground.pod(node, name));
        let mirror = Mirror::serve(pods[0].pod.namespace(), PORT, "web");
        ground.policies(&[("only-client", only_from("web", "client"))]);
        ground.until(1, ("shop/other", "shop/web"), false);
        Some((ground, pods, mirror))
    }

    /// Attaches the pod `shop/NAME`, labelled with its name less any number, as a runtime and the API would.
    pub(crate) fn pod(&mut self, node: usize, name: &str) -> Attached {
        self.pod_in(node, (name, self.cluster.pod()))
    }

    fn pod_in(&mut self, node: usize, (name, place): (&str, Pod)) -> Attached {
        self.declare(node, name, &[]);
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};K8S_POD_UID=uid-of-{name};\
             K8S_POD_INFRA_CONTAINER_ID=c-{name}"
        );
        let on = &self.cluster.nodes[node];
        let pod = self.cluster.attach_as(on, (&format!("c-{name}"), place), (&json!({}), &args));
        self.pods.pop();
        self.declare(node, name, &pod.addresses);
        pod
    }

    fn declare(&mut self, node: usize, name: &str, addresses: &[IpAddr]) {
        let app = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        self.pods.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-of-{name}"), "labels": {"app": app}},
            "spec": {"nodeName": self.cluster.nodes[node].plan.name.as_str()}, "status": {"podIPs": ips}
        }));
        self.cluster.put("pods", &self.pods);
    }

    pub(crate) fn policies(&self, policies: &[(&str, Value)]) {
        let object = |(name, spec): &(&str, Value)| {
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": "shop", "name": name}, "spec": spec
            })
        };
        self.cluster.put("policies", &policies.iter().map(object).collect::<Vec<_>>());
    }

    /// Waits until the agent of a node says that something is denied, or allowed.
    pub(crate) fn until(&self, node: usize, (from, to): (&str, &str), allowed: bool) -> Value {
        let query = json!({"explain": {"from": from, "to": to, "port": PORT, "protocol": "TCP"}});
        within(SOON, "the policy is in force", || {
            let answer = self.agents[node].ask(&query).unwrap_or_default();
            let agrees = answer["hops"].as_array().is_some_and(|hops| {
                hops.iter().all(|hop| hop["kernel"] == "agrees" || hop["kernel"] == "notAsked")
            });
            if answer["allowed"] == allowed && agrees { Ok(answer) } else { Err(answer.to_string()) }
        })
    }
}

fn deny(app: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress", "Egress"]})
}

pub(crate) fn only_from(app: &str, from: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": from}}}]}]})
}

pub(crate) fn is_open(from: &Namespace, to: IpAddr) -> bool {
    let asker = Asker::new(from, to.is_ipv4(), 0).unwrap();
    asker.ask_once(SocketAddr::new(to, PORT), SILENCE).is_ok()
}

/// One number there and back.
pub(crate) fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[7])?;
    stream.read_exact(&mut [0])
}

#[test]
fn what_a_policy_forbids_ends_and_the_rest_goes_on_and_both_nodes_say_why() {
    let _alone = alone();
    let Some(mut ground) = Ground::new() else { return };
    let (web, client, other) = (ground.pod(1, "web"), ground.pod(0, "client"), ground.pod(0, "other"));
    let (_echo, _mirror) =
        (Echo::serve(web.pod.namespace()), Mirror::serve(web.pod.namespace(), PORT, "web"));
    let (client, other) = (client.pod.namespace(), other.pod.namespace());
    let allowed: Vec<Stream> = web.addresses.iter().map(|to| Stream::open(client, *to).unwrap()).collect();
    let mut denied: Vec<TcpStream> = web.addresses.iter().map(|to| connect(other, *to).unwrap()).collect();
    denied.iter_mut().for_each(|stream| exchange(stream).unwrap());

    ground.policies(&[("only-client", only_from("web", "client"))]);
    let why = ground.until(1, ("shop/other", "shop/web"), false);
    let says = why["hops"][1]["says"].as_str().unwrap();
    assert_eq!(says, "selected by shop/only-client; no rule of 1 policy admits other on TCP/8080");
    assert_eq!(why["hops"][0]["kernel"], "notAsked");
    let began = Instant::now();
    for stream in &mut denied {
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(exchange(stream).is_err(), "a flow that is forbidden goes on");
    }
    println!("forbidden flows had ended {:?} after the agent said so, or before", began.elapsed());
    for to in &web.addresses {
        assert!(!is_open(other, *to) && is_open(client, *to));
        // A pod's own node is never kept out.
        knock(&ground.cluster.nodes[1].namespace, *to).unwrap();
    }
    ground.policies(&[]);
    ground.until(1, ("shop/other", "shop/web"), true);
    web.addresses.iter().for_each(|to| knock(other, *to).unwrap());
    assert!(allowed.into_iter().map(Stream::close).all(|numbers| numbers > 0));
}

/// Sends datagrams from a namespace, with what it says, as fast as it can, to addresses some of which may not exist yet.
struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Sender {
    fn start(place: &Namespace, to: Vec<SocketAddr>) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let socket = place.run(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap().unwrap();
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let sent = to.iter().filter(|to| socket.send_to(b"x", **to).is_ok()).count();
                counted.fetch_add(sent as u64, Ordering::SeqCst);
                // Others need the processor as well.
                thread::sleep(Duration::from_micros(if sent == 0 { 20 } else { 200 }));
            }
        });
        Self { stop, sent, thread }
    }

    /// Ends it; how many were sent.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.sent.load(Ordering::SeqCst)
    }
}

/// What has come to a port of a namespace since it was bound.
struct Inbox(UdpSocket);

impl Inbox {
    fn open(place: &Namespace) -> Self {
        let socket = place.run(|| UdpSocket::bind(("0.0.0.0", PORT))).unwrap().unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn count(&self) -> usize {
        std::iter::from_fn(|| self.0.recv_from(&mut [0; 8]).ok()).count()
    }
}

#[test]
fn no_pod_sends_or_is_sent_anything_that_is_forbidden_from_its_first_moment_on() {
    let _alone = alone();
    let Some(mut ground) = Ground::new() else { return };
    ground.policies(&[("closed", deny("closed"))]);
    let (near, far) = (ground.pod(0, "near"), ground.pod(1, "far"));
    ground.until(0, ("shop/near", "shop/far"), true);
    let inboxes = [near.pod.namespace(), far.pod.namespace()].map(Inbox::open);
    let targets: Vec<SocketAddr> = [&near, &far].map(|pod| SocketAddr::new(pod.addresses[0], PORT)).to_vec();
    // Where the next pods of the node will be.
    let candidates: Vec<SocketAddr> =
        (3..250).map(|host| SocketAddr::new(IpAddr::from([10, 244, 0, host]), PORT)).collect();
    let intruders = [&near, &far].map(|pod| Sender::start(pod.pod.namespace(), candidates.clone()));
    let (mut sent, mut received, mut got_out) = (0, 0, 0);
    for number in 0..pods() {
        let place = ground.cluster.pod();
        let (inbox, sender) =
            (Inbox::open(place.namespace()), Sender::start(place.namespace(), targets.clone()));
        let pod = ground.pod_in(0, (&format!("closed-{number}"), place));
        let before = sender.sent.load(Ordering::SeqCst);
        within(SOON, "it has sent something since", || {
            let now = sender.sent.load(Ordering::SeqCst);
            if now > before + 4 { Ok(()) } else { Err(format!("{now} sent, {before} of them before")) }
        });
        sent += sender.end();
        received += inbox.count();
        got_out += inboxes.iter().map(Inbox::count).sum::<usize>();
        ground.cluster.detach(&ground.cluster.nodes[0], &pod);
        ground.pods.pop();
        ground.cluster.put("pods", &ground.pods);
    }
    let knocked: u64 = intruders.into_iter().map(Sender::end).sum();
    println!("{} pods: {sent} datagrams sent by them, {knocked} sent to where they were", pods());
    assert_eq!((received, got_out), (0, 0), "datagrams that came in, and that got out");
    assert!(sent > 0 && knocked > 0);
}

#[test]
fn a_pod_that_may_speak_is_heard_from_the_moment_that_its_add_returns() {
    let _alone = alone();
    let Some(mut ground) = Ground::new() else { return };
    ground.policies(&[("only-open", only_from("web", "open"))]);
    let web = ground.pod(0, "web");
    let _mirror = Mirror::serve(web.pod.namespace(), PORT, "web");
    for number in 0..pods() / 4 {
        let pod = ground.pod(0, &format!("open-{number}"));
        let asker = Asker::new(pod.pod.namespace(), true, 0).unwrap();
        // A single datagram: whatever is refused is lost.
        asker.ask_once(SocketAddr::new(web.addresses[0], PORT), Duration::from_secs(10)).unwrap();
    }
}

#[test]
fn while_an_add_waits_for_its_agent_the_pod_reaches_nobody_its_own_node_neither() {
    let _alone = alone();
    let Some(mut ground) = Ground::new() else { return };
    let far = ground.pod(1, "far");
    // It takes connections, and does nothing.
    ground.agents[0].stop();
    let node = &ground.cluster.nodes[0];
    let own: IpAddr = node.plan.addresses[0].addr();
    let inboxes = [&node.namespace, far.pod.namespace()].map(Inbox::open);
    let place = ground.cluster.pod();
    let targets = [own, far.addresses[0]].map(|to| SocketAddr::new(to, PORT)).to_vec();
    let sender = Sender::start(place.namespace(), targets);
    let add = selvedge_tests::Call::new("ADD", node.plugin_config()).of("c-new", &place);
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=new;K8S_POD_UID=uid-of-new";
    let waiting = add.with("CNI_ARGS", args).start(&node.namespace);
    within(SOON, "the pod sends", || {
        let sent = sender.sent.load(Ordering::SeqCst);
        if sent > 100 { Ok(()) } else { Err(format!("{sent} sent")) }
    });
    assert_eq!(inboxes.iter().map(Inbox::count).sum::<usize>(), 0, "something came through");
    ground.agents[0].go_on();
    waiting.answer().result();
    within(SOON, "the pod is heard by its node", || match inboxes[0].count() {
        0 => Err("nothing came".to_owned()),
        _ => Ok(()),
    });
    sender.end();
}

#[test]
fn agents_that_are_killed_all_the_time_open_nothing_and_cut_nothing() {
    let _alone = alone();
    let Some(mut ground) = Ground::new() else { return };
    let (web, client, other) = (ground.pod(1, "web"), ground.pod(0, "client"), ground.pod(0, "other"));
    let (_echo, inbox) = (Echo::serve(web.pod.namespace()), Inbox::open(web.pod.namespace()));
    ground.policies(&[("only-client", only_from("web", "client"))]);
    ground.until(1, ("shop/other", "shop/web"), false);
    let sender = Sender::start(other.pod.namespace(), vec![SocketAddr::new(web.addresses[0], PORT)]);
    let streams: Vec<Stream> =
        web.addresses.iter().map(|to| Stream::open(client.pod.namespace(), *to).unwrap()).collect();
    for round in 0..12 {
        ground.agents.pop().unwrap().kill();
        // What changes meanwhile has nothing to do with the two.
        ground.policies(&[
            ("only-client", only_from("web", "client")),
            ("more", only_from("none", &format!("x{round}"))),
        ]);
        ground.agents.push(ground.cluster.nodes[1].start_agent());
        thread::sleep(Duration::from_millis(200));
    }
    let sent = sender.end();
    println!("{sent} forbidden datagrams were sent");
    assert_eq!(inbox.count(), 0, "forbidden datagrams that came through");
    assert!(sent > 0);
    assert!(streams.into_iter().map(Stream::close).all(|numbers| numbers > 0));
    ground.agents.iter().for_each(Agent::wait_until_ready);
    knock(client.pod.namespace(), web.addresses[0]).unwrap();
}

#[test]
fn manifests_that_an_agent_could_never_read_open_nothing() {
    let _alone = alone();
    let Some((mut ground, [web, other], _mirror)) = Ground::closed_to_others() else { return };
    ground.agents.pop().unwrap().kill();
    ground.cluster.put_text("policies", "what: [\n");
    let agent = ground.cluster.nodes[1].ready_agent();
    let told = format!("{:?}", agent.status().state);
    assert!(told.contains("stay as the kernel has them"), "{told}");
    assert!(!is_open(other.pod.namespace(), web.addresses[0]));
    ground.policies(&[]);
    ground.agents.push(agent);
    ground.until(1, ("shop/other", "shop/web"), true);
}

#[test]
fn what_is_flushed_while_no_agent_runs_is_closed_again_by_the_next() {
    let _alone = alone();
    let Some((mut ground, [web, other], _mirror)) = Ground::closed_to_others() else { return };
    let flush = || {
        let flushed = ground.cluster.nodes[1]
            .namespace
            .run(|| std::process::Command::new("nft").args(["flush", "ruleset"]).status());
        assert!(flushed.unwrap().unwrap().success());
    };
    // Beside an agent that owns its table this changes nothing.
    if tables_are_owned(&ground.cluster.nodes[1]) {
        flush();
        assert!(!is_open(other.pod.namespace(), web.addresses[0]));
    }
    ground.agents.pop().unwrap().kill();
    assert!(!is_open(other.pod.namespace(), web.addresses[0]));
    flush();
    assert!(is_open(other.pod.namespace(), web.addresses[0]), "nobody is there to keep it closed");
    let began = Instant::now();
    let agent = ground.cluster.nodes[1].start_agent();
    within(SOON, "it is closed again", || match is_open(other.pod.namespace(), web.addresses[0]) {
        true => Err("it is open".to_owned()),
        false => Ok(()),
    });
    println!("closed again at the latest {:?} after the agent's start", began.elapsed());
    agent.wait_until_ready();
}
