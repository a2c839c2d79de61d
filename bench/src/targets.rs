//! What the figures should be: ratios to bridge + host-local, and of policy times and amounts.

use std::time::Duration;

use crate::side::Kind;
use crate::spread::Task;

/// The highest ratio of typical times that meets the target; `None` where there is no target.
pub(crate) fn ratio(kind: Kind, task: Task) -> Option<f64> {
    match (task, kind) {
        (_, Kind::Reference) => None,
        (Task::Add, _) => Some(0.25),
        (Task::Del, Kind::Agent) => Some(0.08),
        (Task::Del, _) => Some(1.2),
        (Task::Version | Task::Adds, _) => Some(0.3),
        (Task::Dels, Kind::Agent) => None,
        (Task::Dels, _) => Some(0.6),
    }
}

/// The same for people, as the table's last column has it.
pub(crate) fn text(task: Task) -> &'static str {
    match task {
        Task::Add => "0.25, goal 0.15",
        Task::Del => "0.08 with an agent, 1.2 alone",
        Task::Version | Task::Adds => "0.3",
        Task::Dels => "0.6 alone",
    }
}

/// The highest ratio of the p99 of so many ADDs at once, in a network with so many leases.
pub(crate) fn crowd(at_once: usize, leases: u16) -> Option<f64> {
    match (at_once, leases) {
        (100, 0) => Some(0.25),
        (100, 16_000) => Some(0.05),
        _ => None,
    }
}

/// The most memory that one ADD may take, in bytes.
pub(crate) const MEMORY_OF_ADD: u64 = 4_000_000;

/// The most memory that an agent may take, in bytes, for so many nodes.
pub(crate) fn memory(nodes: u16) -> u64 {
    if nodes <= 3 { 12_000_000 } else { 20_000_000 }
}

/// The longest that a first load of a large cluster may take.
pub(crate) const FIRST_LOAD: Duration = Duration::from_secs(2);

/// The p99 of a change's time, by its place: of a label, there and back, and of a policy.
pub(crate) fn change(place: usize) -> Option<Duration> {
    let millis = [10, 10, 20, 20];
    millis.get(place).copied().map(Duration::from_millis)
}

/// The most memory that an agent may take among so many pods, in bytes.
pub(crate) fn memory_among(pods: usize) -> u64 {
    if pods <= 10_000 { 60_000_000 } else { 100_000_000 }
}

/// The longest from an agent's start until the ways to thousands of nodes are there, and to one more.
pub(crate) const ALL_PEERS: Duration = Duration::from_millis(1_500);
pub(crate) const ONE_PEER: Duration = Duration::from_millis(10);

/// The most memory that such an agent may take, in bytes.
pub(crate) const MEMORY_OF_PEERS: u64 = 40_000_000;

/// How many times what the same devices take that were set up by hand a transport's may take: no more, but for what two
/// equal sides differ by.
pub(crate) const TRANSPORTS: f64 = 1.05;

/// What udp carries at least of what VXLAN does.
pub(crate) const OF_VXLAN: f64 = 1.0 / 3.0;

/// How many times what a packet takes without policies it may take with them.
pub(crate) const PACKETS: f64 = 1.05;
