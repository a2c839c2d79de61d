//! What NetworkPolicies (networking.k8s.io/v1) mean.
//!
//! - [`selector`]: which labels are meant
//! - [`policy`]: policies, valid once they exist
//! - [`mod@read`]: from the objects as Kubernetes has them, and the closed form of one that is no good
//!
//! Kernel objects are left to `selvedge-ruleset` and those who load it. Invariants: a policy that can't be read is never
//! passed over: until it can, it isolates whatever it may have meant to, and admits nothing.

mod field;
pub mod policy;
pub mod read;
pub mod selector;

pub use policy::{
    BlockError, Direction, IpBlock, Namespaces, Peer, Peers, Policy, PolicyKey, Port, PortName, PortRange,
    Ports, Rule, Which,
};
pub use read::{Refused, read};
pub use selector::{Requirement, Selector, Values};
