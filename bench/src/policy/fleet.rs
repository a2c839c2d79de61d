//! A node with its agent, its pods and the API that tells of the others.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use selvedge_datapath::state::Address;
use selvedge_datapath::step::NetStep;
use selvedge_lab::shape::Attach;
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::{Agent, ApiServer, Attached, Cluster, within};
use serde_json::json;

use super::notices::Notices;
use super::world::{Access, World, name, uid};
use crate::error::BenchError;
use crate::process;

/// How long an agent may take to know its cluster, in seconds; debug builds take their time.
const PATIENCE: f64 = 300.0;
/// What nothing follows for so long was the last of.
const QUIET: Duration = Duration::from_secs(3);
/// The Kubernetes that the API is of: 1.36.
const MINOR: u32 = 36;

/// A node in a cluster of some size.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) server: ApiServer,
    agent: Option<Agent>,
    /// The node's pods, with their numbers.
    pub(crate) pods: Vec<(usize, Attached)>,
    kubeconfig: PathBuf,
    cluster: Cluster,
}

impl Fleet {
    /// Has the node's pods attached by the plugin, each as the Pod that it is, with an agent that knows all others.
    pub(crate) fn new(world: impl FnOnce(String) -> World) -> Result<Self, BenchError> {
        let cluster = Cluster::build(2, Attach::Routed).ok_or_else(needs_root)?;
        let node = &cluster.nodes[0];
        let world = world(node.plan.name.as_str().to_owned());
        let server = ApiServer::start(&node.namespace, MINOR);
        server.load("nodes", world.nodes().chain([node.object(&node.plan.pod_cidrs)]));
        server.load("namespaces", world.namespaces());
        server.load("networkpolicies", world.policies());
        server.load("pods", (0..world.pods).map(|number| world.pod(number, Access::None)));
        let kubeconfig = node.folder().join("kubeconfig");
        server.kubeconfig(&kubeconfig);
        widen(&node.namespace)?;
        let mut fleet = Self { world, server, agent: None, pods: Vec::new(), kubeconfig, cluster };
        fleet.start_agent();
        fleet.wait_until_ready();
        fleet.pods = fleet.world.local().map(|number| (number, fleet.attach(number))).collect();
        Ok(fleet)
    }

    fn attach(&self, number: usize) -> Attached {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
            self.world.namespace_of(number),
            name(number),
            uid(number)
        );
        let container = (&*format!("c-{number}"), self.cluster.pod());
        let attached = self.cluster.attach_as(&self.cluster.nodes[0], container, (&json!({}), &args));
        let mut pod = self.world.pod(number, Access::None);
        pod["status"]["podIPs"] = attached.addresses.iter().map(|ip| json!({"ip": ip})).collect();
        self.server.put("pods", pod);
        attached
    }

    pub(crate) fn node(&self) -> &Namespace {
        &self.cluster.nodes[0].namespace
    }

    /// The IPv4 address of one of the node's pods, by its place among them.
    pub(crate) fn address(&self, place: usize) -> [u8; 4] {
        let (_, pod) = &self.pods[place];
        let v4 = pod.addresses.iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(v4) } else { None });
        v4.map_or([0; 4], |v4| v4.octets())
    }

    fn start_agent(&mut self) {
        self.agent = Some(self.cluster.nodes[0].agent_of(("--kubeconfig", &self.kubeconfig)));
    }

    fn is_ready(&self) -> Result<(), String> {
        let agent = self.agent.as_ref().ok_or("there is no agent")?;
        let answer = agent.ask(&json!({"get": "status"})).ok_or_else(|| agent.log())?;
        let status: selvedge_reconcile::Status =
            serde_json::from_value(answer).map_err(|error| error.to_string())?;
        let by_what_was = format!("{:?}", status.state).contains("no complete listing");
        if status.state.serves() && !by_what_was { Ok(()) } else { Err(format!("{:?}", status.state)) }
    }

    fn wait_until_ready(&self) {
        within(PATIENCE, "the agent is ready", || self.is_ready());
    }

    /// Ends the agent, and takes away all that it has made of nftables: the wires stay.
    pub(crate) fn leave_bare(&mut self) -> Result<(), BenchError> {
        drop(self.agent.take());
        self.nft(&["delete", "table", "inet", "selvedge"]).map(drop)
    }

    /// Ends the agent, takes away all that it has made of nftables, and starts another: the time from its exec to the
    /// last of the transactions after which nothing follows, all of the node's pods isolated as they are to be.
    pub(crate) fn first_load(&mut self) -> Result<Duration, BenchError> {
        self.leave_bare()?;
        let mut notices = Notices::of(self.node())?;
        notices.forget()?;
        let began = Instant::now();
        self.start_agent();
        let mut last = began;
        loop {
            match notices.next(QUIET)? {
                Some(seen) => last = seen,
                None if self.is_ready().is_ok() && self.isolated()? == self.pods.len() => break,
                None if began.elapsed().as_secs_f64() > PATIENCE => {
                    return Err(self.failed(&format!("{} pods are isolated", self.isolated()?)));
                }
                None => {}
            }
        }
        Ok(last - began)
    }

    /// How many of the node's pods the kernel leads to a chain of theirs.
    fn isolated(&self) -> Result<usize, BenchError> {
        Ok(self.nft(&["list", "map", "inet", "selvedge", "ingress4"])?.matches(": goto ingress-").count())
    }

    fn nft(&self, arguments: &[&str]) -> Result<String, BenchError> {
        let ran = self.node().run(|| Command::new("nft").args(arguments).output())?;
        let ran = ran.map_err(|source| BenchError::system("run nft", source))?;
        if ran.status.success() {
            return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&ran.stderr);
        Err(self.failed(&format!("nft {arguments:?} ended with {}: {said}", ran.status)))
    }

    /// A line of the agent's /proc/PID/status that is an amount of memory, in bytes.
    pub(crate) fn memory(&self, line: &str) -> Result<u64, BenchError> {
        let agent = self.agent.as_ref().ok_or_else(|| self.failed("there is no agent"))?;
        process::memory(agent.id(), line)
    }

    /// The processor time that the agent's threads have used.
    pub(crate) fn processor(&self) -> Result<Duration, BenchError> {
        let agent = self.agent.as_ref().ok_or_else(|| self.failed("there is no agent"))?;
        process::processor(agent.id())
    }

    pub(crate) fn failed(&self, what: &str) -> BenchError {
        let log = self.agent.as_ref().map(Agent::log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(20)..].join("\n");
        BenchError::Agent { what: what.to_owned(), log }
    }
}

/// Puts the other nodes on the segment of ours.
fn widen(node: &Namespace) -> Result<(), BenchError> {
    let failed = || BenchError::system("give the node another address", io::ErrorKind::Other);
    let (segment, device) = ("172.31.255.254/16".parse(), "eth0".parse());
    let (Ok(segment), Ok(device)) = (segment, device) else { return Err(failed()) };
    let wider = NetStep::AddAddress { device, address: Address::global(segment) };
    let mut socket = RouteSocket::open_in(node).map_err(io::Error::other);
    let applied = socket.as_mut().map(|socket| socket.apply_until_failure(&[wider], None));
    applied.map(drop).map_err(|_refused| failed())
}

fn needs_root() -> BenchError {
    BenchError::system("make namespaces (this needs root)", io::ErrorKind::PermissionDenied)
}
