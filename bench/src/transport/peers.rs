//! How fast an agent of a large cluster makes the ways to all other nodes in VXLAN, and to one more, and what it needs.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_lab::shape::Attach;
use selvedge_tests::{Agent, Cluster};
use serde_json::{Value, json};

use super::hand;
use super::ways::{Way, Ways};
use crate::error::BenchError;
use crate::report::{megabytes, milliseconds};
use crate::spread::rank;
use crate::table::Table;
use crate::{process, say, targets};

/// What is measured of an agent with many peers.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Crowd {
    /// The nodes of the cluster.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) peer_nodes: u16,
    /// How many nodes a manifest has.
    #[arg(long, default_value_t = 100)]
    pub(crate) nodes_of_manifest: usize,
    /// First starts, of which the median is told.
    #[arg(long, default_value_t = 7)]
    pub(crate) starts: usize,
    /// Nodes that come, one at a time, and go again.
    #[arg(long, default_value_t = 100)]
    pub(crate) comers: usize,
}

/// Until memory is read, and between two nodes that come.
const AT_REST: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(250);
/// How long an agent may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Peers {
    crowd: Crowd,
    starts: Vec<Duration>,
    comers: Vec<Duration>,
    /// The agent's processor time until all ways were there, of each start, and for a node that came and went.
    used: (Vec<Duration>, Duration),
    /// Resident bytes at rest, and at most.
    memory: [u64; 2],
}

impl Peers {
    pub(crate) fn measure(crowd: &Crowd) -> Result<Self, BenchError> {
        let needs_root =
            || BenchError::system("make namespaces (this needs root)", io::ErrorKind::PermissionDenied);
        let cluster = Cluster::build(1, Attach::Routed).ok_or_else(needs_root)?;
        let path = cluster.nodes[0].folder().join("agent.yaml");
        let text = format!("attach: {}\ntransport: vxlan\n", Attach::Routed);
        fs::write(&path, text).map_err(|source| BenchError::file("write", &path, source))?;
        let numbers: Vec<u16> = (1..crowd.peer_nodes).collect();
        for (place, numbers) in numbers.chunks(crowd.nodes_of_manifest.max(1)).enumerate() {
            let peers: Vec<Value> = numbers.iter().map(|number| peer(*number)).collect();
            cluster.put(&format!("peers-{place}"), &peers);
        }
        let all: BTreeSet<Way> = numbers.iter().flat_map(|number| ways(*number)).collect();
        let (mut starts, mut used) = (Vec::new(), Vec::new());
        let mut agent = None;
        for number in 0..crowd.starts.max(1) {
            drop(agent.take());
            if number > 0 {
                // With its routes, neighbours and forwarding entries.
                hand::run(&cluster.nodes[0].namespace, "ip link delete selvedge-vx")?;
            }
            let (took, started) = start(&cluster, &all)?;
            say(&format!("bench: all {} ways were there after {}", all.len(), milliseconds(took)));
            starts.push(took);
            used.push(process::processor(started.id())?);
            agent = Some(started);
        }
        let agent = agent.ok_or_else(|| BenchError::system("start an agent", io::ErrorKind::NotFound))?;
        thread::sleep(AT_REST);
        let memory = [process::memory(agent.id(), "VmRSS")?, process::memory(agent.id(), "VmHWM")?];
        let before = process::processor(agent.id())?;
        let comers = (0..crowd.comers).map(|_| come(&cluster, &agent, crowd.peer_nodes));
        let comers: Vec<Duration> = comers.collect::<Result<_, _>>()?;
        let for_each =
            (process::processor(agent.id())? - before) / u32::try_from(comers.len().max(1)).unwrap_or(1);
        Ok(Self { crowd: crowd.clone(), starts, comers, used: (used, for_each), memory })
    }

    /// What each row says, of what, what it should be, and whether it is.
    fn rows(&self) -> [(&'static str, String, String, bool); 5] {
        let times = |times: &[Duration], percents: [usize; 3]| {
            percents.map(|percent| milliseconds(rank(times, percent).unwrap_or_default())).join(" / ")
        };
        let reaches = |times: &[Duration], percent, most| rank(times, percent).is_none_or(|time| time < most);
        [
            (
                "from the agent's start to the last of all ways, median / p90 / longest",
                times(&self.starts, [50, 90, 100]),
                format!("under {}", milliseconds(targets::ALL_PEERS)),
                reaches(&self.starts, 50, targets::ALL_PEERS),
            ),
            (
                "one more node, from its manifest to the last of its ways, p50 / p99 / longest",
                times(&self.comers, [50, 99, 100]),
                format!("under {}", milliseconds(targets::ONE_PEER)),
                reaches(&self.comers, 99, targets::ONE_PEER),
            ),
            (
                "the agent's processor time until then, of a start, median / p90 / longest",
                times(&self.used.0, [50, 90, 100]),
                String::new(),
                true,
            ),
            ("the same for a node that comes and goes", milliseconds(self.used.1), String::new(), true),
            (
                "memory at rest, and at most before",
                self.memory.map(megabytes).join(", "),
                format!("under {}", megabytes(targets::MEMORY_OF_PEERS)),
                self.memory[0] < targets::MEMORY_OF_PEERS,
            ),
        ]
    }
}

/// Starts the agent; the time from before its exec to the last of all ways.
fn start(cluster: &Cluster, all: &BTreeSet<Way>) -> Result<(Duration, Agent), BenchError> {
    let mut heard = Ways::of(&cluster.nodes[0].namespace)?;
    let began = Instant::now();
    let agent = cluster.nodes[0].start_agent();
    let seen = heard.wait_for_all(all, PATIENCE)?;
    let seen = seen
        .map_err(|missing| failed(&agent, &format!("{} of {} ways are missing", missing.len(), all.len())))?;
    Ok((seen - began, agent))
}

/// Has a node come, and go again; the time from before the manifest was there to the last of its ways.
fn come(cluster: &Cluster, agent: &Agent, number: u16) -> Result<Duration, BenchError> {
    thread::sleep(BETWEEN);
    let mut heard = Ways::of(&cluster.nodes[0].namespace)?;
    let (node, ways) = ([peer(number)], ways(number).into());
    let began = Instant::now();
    cluster.put("comer", &node);
    let seen = heard.wait_for_all(&ways, PATIENCE)?;
    let seen = seen.map_err(|missing| failed(agent, &format!("no way {missing:?}")))?;
    cluster.put("comer", &[]);
    let gone = heard.wait_until_gone(&ways, PATIENCE)?;
    gone.map_err(|left| failed(agent, &format!("still a way {left:?}")))?;
    Ok(seen - began)
}

fn failed(agent: &Agent, what: &str) -> BenchError {
    let log = agent.log();
    let lines: Vec<_> = log.lines().collect();
    BenchError::Agent { what: what.to_owned(), log: lines[lines.len().saturating_sub(20)..].join("\n") }
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(172, 31, high, low)
}

/// The network address of its pods, of which it has 254.
fn pods(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 100 + high, low, 0)
}

fn peer(number: u16) -> Value {
    let cidr = format!("{}/24", pods(number));
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("peer-{number}")},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": address(number)}]}})
}

/// What the kernel has to have for a node.
fn ways(number: u16) -> [Way; 3] {
    [Way::Route(pods(number)), Way::Neighbour(pods(number)), Way::Forwarding(address(number))]
}

impl Display for Peers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Crowd { peer_nodes, nodes_of_manifest, starts, comers } = &self.crowd;
        let mut table = Table::new(["", "", "target"].map(str::to_owned));
        for (what, value, target, _) in self.rows() {
            table.row([what.to_owned(), value, target]);
        }
        let missed: Vec<_> = self.rows().into_iter().filter(|row| !row.3).map(|row| row.0).collect();
        let missed = if missed.is_empty() { "none".to_owned() } else { missed.join("; ") };
        writeln!(
            f,
            "One agent with `transport: vxlan` in a cluster of {peer_nodes} nodes, by manifests of {nodes_of_manifest} \
             nodes each. Of each other node there are a\nroute, a neighbour and an entry of the device's forwarding \
             table, and the kernel's own notice of it says when it was\nthere. {starts} starts, each without the device \
             that the one before had made; then {comers} nodes that come, one at a time, each in a\nmanifest of its \
             own, and go again.\n\n{table}\nTargets missed: {missed}.",
        )
    }
}
