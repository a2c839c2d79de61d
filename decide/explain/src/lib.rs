//! What becomes of what one end sends to another, hop by hop, and why.
//!
//! - [`Query`], [`Explanation`]: the question and its answer, as the agent's socket carries them
//! - [`mod@explain`]: the answer as one node knows it, from what is desired, and compared with what its kernel holds
//! - [`mod@matrix`]: which pods reach which others
//! - [`place`]: who is meant by a name or an address
//! - [`told`]: a packet that the kernel told of, with who sent it to whom and why it fared so
//!
//! A node judges both ends by the whole cluster's policies; of kernels it knows its own alone, and says so.

pub mod explain;
mod kernel;
pub mod matrix;
pub mod place;
pub mod told;

use serde::{Deserialize, Serialize};

pub use explain::{View, explain};
pub use matrix::{Filter, Matrix, matrix};
pub use place::ExplainError;
pub use told::{Known, Told};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Who sends: a pod (`namespace/name`), a node's name, or an address.
    pub from: String,
    /// Who it is for.
    pub to: String,
    /// The port; without one it is about ICMP echo.
    pub port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`; TCP unless stated.
    pub protocol: Option<String>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who sends.
    pub source: Party,
    /// Who it is for.
    pub destination: Party,
    /// What is spoken, such as `TCP/8080`.
    pub protocol: String,
    /// The stations, in the packet's order.
    pub hops: Vec<Hop>,
    /// Whether it passes all of them.
    pub allowed: bool,
    /// What to try, if anything.
    pub advice: Option<String>,
}

/// One end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// `namespace/name` of a pod, a node's name, or the address of somebody else.
    pub name: String,
    /// The address.
    pub address: String,
    /// The node that it is on, if it is on one.
    pub node: Option<String>,
    /// A pod's labels, as `{app=web}`.
    pub labels: Option<String>,
}

/// One station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The node.
    pub node: String,
    /// What is done there.
    pub stage: Stage,
    /// Why it comes out as it does.
    pub says: String,
    /// How it comes out, as it is desired.
    pub outcome: Outcome,
    /// What the node's kernel holds.
    pub kernel: Kernel,
}

/// What is done at a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The policies of the pod that sends.
    Egress,
    /// The way to the other node.
    Route,
    /// The policies of the pod that it is for.
    Ingress,
}

/// How a station comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It passes.
    Allowed,
    /// It ends here.
    Denied,
}

/// What a kernel holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kernel {
    /// It was not asked: it is another node's.
    NotAsked,
    /// What is desired.
    Agrees,
    /// Something else: what would have to be done.
    Differs(Vec<String>),
}
