//! Why passes are made.

use std::fmt;
use std::sync::Arc;

use selvedge_datapath::Prune;
use selvedge_datapath::announced::Announced;
use selvedge_model::{Cluster, IfName};

/// Why a pass is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The agent has just started.
    Start,
    /// The cluster changed. Nothing is pruned on account of a listing that may lack something.
    Cluster(Arc<Cluster>, Prune),
    /// The kernel announced a change; by whom and of what, as far as it says.
    Kernel(String),
    /// It announced one that can be held against what has been seen.
    Announced(Announced),
    /// The same of a change to nftables, and the generation of rules that it made.
    Rules(String, u32),
    /// A glance found something that the kernel doesn't announce.
    Glance(String),
    /// A measurement of the ways to other nodes found something.
    Measured(String),
    /// The regular look.
    Resync,
    /// The last pass failed in part.
    Retry,
    /// Somebody asked.
    Asked,
    /// The ADD of an attachment waits for it to be in force; the host end.
    Admit(IfName),
    /// The agent is to end: the pass at hand was the last. The kernel keeps what it has.
    End,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Cluster(..) => f.write_str("the cluster changed"),
            Self::Kernel(what) | Self::Rules(what, _) => write!(f, "kernel: {what}"),
            Self::Announced(what) => write!(f, "kernel: {what}"),
            Self::Glance(what) | Self::Measured(what) => write!(f, "found: {what}"),
            Self::Resync => f.write_str("resync"),
            Self::Retry => f.write_str("retry"),
            Self::Asked => f.write_str("asked"),
            Self::Admit(host) => write!(f, "ADD of {host}"),
            Self::End => f.write_str("end"),
        }
    }
}

/// True for a changed cluster.
pub(super) fn is_cluster(trigger: &Trigger) -> bool {
    matches!(trigger, Trigger::Cluster(..))
}

/// True for what may come without end and says nothing of the node.
pub(super) fn goes_by_seen(trigger: &Trigger) -> bool {
    matches!(trigger, Trigger::Cluster(..) | Trigger::Measured(_))
}

/// True for what may come thousands of times at once.
pub(super) fn comes_in_floods(trigger: &Trigger) -> bool {
    matches!(trigger, Trigger::Kernel(_) | Trigger::Announced(_) | Trigger::Rules(..) | Trigger::Measured(_))
}
