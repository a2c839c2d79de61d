//! What NetworkPolicies (networking.k8s.io/v1) mean.
//!
//! - [`mod@read`]: from the objects as Kubernetes has them, and the closed form of one that is no good
//! - [`cluster`]: what policy knows of a cluster
//! - [`mod@judge`], [`reason`]: whether a flow passes, and why: the definition
//! - [`local`]: which attachment of a node is which Pod
//! - [`following`]: the same as it changes
//! - [`mod@compile`]: what the kernel of one node gets, chain by chain
//! - [`revoke`]: which flows that are tracked already are no longer allowed, and what cuts them
//! - `testing`, with the feature of that name: random clusters and written cases, for the tests of other crates
//!
//! Kernel objects are left to `selvedge-ruleset` and those who load it. Invariants: a policy that can't be read is
//! never passed over: until it can, it isolates whatever it may have meant to, and admits nothing; where something
//! isn't known (a namespace's labels, which of two pods has an address), a flow passes only if it would either way.

pub mod cluster;
pub mod compile;
mod field;
pub mod following;
mod holders;
pub mod judge;
pub mod local;
pub mod read;
pub mod reason;
pub mod revoke;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use cluster::Cluster;
pub use compile::counted::{Chains, Counting, Drop, Totals, chains};
pub use compile::log::{LOG_GROUP, Tale};
pub use compile::{Compiled, carry, compile, compile_after};
pub use following::Following;
pub use judge::{Flow, Protocol, Source, Verdict, judge};
pub use local::{LocalNode, LocalPod, Netlog, Unknown, Whose};
pub use read::{Refused, in_mode, read, refuse};
pub use reason::{Party, Pass, Reason, Who};
pub use revoke::{Cut, Revoker};
pub use selvedge_model::policy::{
    BlockError, Direction, IpBlock, Mode, Namespaces, Peer, Peers, PodPeer, Policy, PolicyKey, Port,
    PortName, PortRange, Ports, Rule, Which,
};
pub use selvedge_model::selector::{Requirement, Selector, Values};
