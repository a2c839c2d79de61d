//! What `lab status` shows, as data and as text.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use selvedge_model::{NodeName, PodKey};
use serde::{Deserialize, Serialize};

use crate::agent::AgentState;
use crate::plan::Segment;
use crate::shape::{LinkMtu, Network, Shape};

/// A lab as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What was asked for.
    pub shape: Shape,
    /// How long it took to build, in milliseconds.
    pub ready_after_ms: u64,
    /// The nodes, in order.
    pub nodes: Vec<NodeStatus>,
    /// The pods, node by node.
    pub pods: Vec<PodStatus>,
    /// Where, inside the lab's mount namespace, each namespace is kept by name.
    pub netns: PathBuf,
    /// Where the binaries are.
    pub bin_dir: PathBuf,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// The segment that it is on.
    pub segment: Segment,
    /// Its addresses on the segment.
    pub addresses: Vec<IpAddr>,
    /// Its agent's run directory, inside the lab's mount namespace.
    pub run_dir: PathBuf,
    /// How its agent is.
    pub agent: AgentState,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// The pod.
    pub pod: PodKey,
    /// The node that it is on.
    pub node: NodeName,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Status {
    /// One line: what the lab is and how long it took.
    pub fn headline(&self) -> String {
        let Shape { attach, family, transport, network, .. } = &self.shape;
        let nodes = count(self.nodes.len(), "node");
        let on = if network.segments.get() > 1 {
            format!(" on {} segments", network.segments)
        } else {
            String::new()
        };
        let pods = count(self.pods.len(), "pod");
        let unusual = unusual(network);
        let what =
            format!("lab: {nodes}{on}, {pods}, attach {attach}, transport {transport}, {family}{unusual}");
        let tenths = self.ready_after_ms.div_ceil(100);
        format!("{what:<78}  ready in {}.{} s", tenths / 10, tenths % 10)
    }

    /// The agents that have died, in words, with what they printed last.
    pub fn dead_agents(&self) -> Vec<String> {
        let dead = self.nodes.iter().filter_map(|node| match &node.agent {
            AgentState::Running => None,
            AgentState::Dead { status, log } => {
                Some(format!("the agent of {} has ended ({status}); its last lines:\n{log}", node.name))
            }
        });
        dead.collect()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        for node in &self.nodes {
            let agent = match &node.agent {
                AgentState::Running => "agent running".to_owned(),
                AgentState::Dead { status, .. } => format!("agent DEAD ({status})"),
            };
            writeln!(
                f,
                "{:<10}{:<28}{agent}, run directory {}",
                node.name.as_str(),
                list(&node.addresses),
                node.run_dir.display()
            )?;
            for pod in self.pods.iter().filter(|pod| pod.node == node.name) {
                writeln!(f, "  {:<24}{}", pod.pod.to_string(), list(&pod.addresses))?;
            }
        }
        self.dead_agents().iter().try_for_each(|dead| writeln!(f, "{dead}"))
    }
}

/// What sets the network apart from one that has Ethernet's MTU and lets everything through.
fn unusual(network: &Network) -> String {
    let mut text = String::new();
    if network.mtu != LinkMtu::default() {
        text += &format!(", MTU {}", network.mtu);
    }
    for blocked in &network.blocked {
        text += &format!(", {blocked} blocked");
    }
    if network.loss.get() > 0 {
        text += &format!(", {} % lost", network.loss);
    }
    text
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
