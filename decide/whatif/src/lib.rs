//! What manifests that are not in force yet would change.
//!
//! - [`Proposal`], [`Preview`]: the question and its answer, as the agent's socket carries them
//! - [`changes`]: the cluster that would be
//! - [`mod@cut`]: which of the flows that a node tracks would be cut
//! - [`mod@compare`]: which flows open or close between two clusters, by [`selvedge_policy::judge()`]
//!
//! Pods that no policy of either cluster tells apart are judged as one, addresses outside of the cluster that no
//! `ipBlock` tells apart too, and so are ports. Whatever is told holds for each of those that are named, and
//! nothing that changes is left out unless [`Preview::complete`] or a note says so.

pub mod changes;
pub mod compare;
pub mod cut;
mod groups;
mod merge;
mod ports;
mod regions;
mod tell;

use serde::{Deserialize, Serialize};

pub use changes::{Changes, NoPolicy};
pub use compare::{Compared, Limit, compare};
pub use cut::cut;

/// What is asked: manifests that aren't in force, and policies that would go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The manifests.
    #[serde(default)]
    pub manifests: Vec<Text>,
    /// NetworkPolicies that would be deleted, as `namespace/name`.
    #[serde(default)]
    pub delete: Vec<String>,
}

/// The text of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The file's name, for what is said of it.
    pub name: String,
    /// One YAML or JSON document, or several.
    pub text: String,
}

/// What becomes of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tried {
    /// It can't be read: why, line by line.
    Refused(Vec<String>),
    /// What it would change.
    Preview(Preview),
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// What opens and closes.
    pub changes: Vec<Change>,
    /// False if there was too much to compare: something may change that isn't told.
    pub complete: bool,
    /// The flows that would be cut, of each node that was asked.
    pub tracked: Vec<NodeFlows>,
    /// What of the proposal was passed over.
    pub notes: Vec<String>,
}

impl Preview {
    /// True if something that passes now would not pass any more.
    pub fn closes(&self) -> bool {
        self.tracked.iter().any(|node| !node.cut.is_empty())
            || self.changes.iter().any(|change| change.effect == Effect::Closes)
    }
}

/// Flows that open or close, for one reason.
///
/// It is about every pair of one of `from` and one of `to`, but for a pod and itself, and a pod and its own node, which
/// always reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Whether they open or close.
    pub effect: Effect,
    /// Those who open them.
    pub from: Parties,
    /// Those that they are for.
    pub to: Parties,
    /// Protocols and ports, such as `TCP/8080` or `everything but TCP/8080`.
    pub protocols: String,
    /// The family that it is about, if the pairs have both: the other one changes otherwise, or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Why they would be denied, or why they would pass.
    pub why: String,
}

/// What becomes of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// They pass now, and would not.
    Closes,
    /// They don't pass now, and would.
    Opens,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// Those at one end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Parties {
    /// How many pods there are in it.
    pub pod_count: usize,
    /// Every pod of the cluster that policies can be about is: none is named then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub every_pod: bool,
    /// Namespaces all of whose pods are, where those are many: they are not named then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The others, as `namespace/name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Every node is: none is named then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub every_node: bool,
    /// Nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Everybody outside of the cluster.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub everybody_outside: bool,
    /// Networks of those who are neither pods nor nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

/// The flows of a node that would be cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFlows {
    /// The node that tracks them.
    pub node: String,
    /// The flows.
    pub cut: Vec<CutFlow>,
    /// So many more are not told one by one.
    pub beyond: usize,
}

/// A tracked flow that would be cut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CutFlow {
    /// Who opened it: `namespace/name` of a pod, a node, or nothing if it is neither.
    pub from: Option<String>,
    /// Its address, with the port if it has one.
    pub source: String,
    /// Whom it really goes to.
    pub to: Option<String>,
    /// The address that answers, with the port.
    pub destination: String,
    /// `TCP`, `UDP`, `SCTP`, or the protocol's number.
    pub protocol: String,
    /// Why it would be cut.
    pub why: String,
}

#[cfg(test)]
mod tests;
