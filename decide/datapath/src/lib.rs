//! What one network namespace should look like, what it shows, and the steps from the one to the other.
//!
//! - [`state`]: links, addresses, routes and sysctls as values
//! - [`step`]: one change to the kernel; its `Display` is the `ip` or `sysctl` line an operator would type
//! - [`shaping`]: what a pod may receive and send, as token buckets
//! - [`mod@plan`]: the difference between desired and observed, in an order in which every prefix is harmless
//! - [`model`]: what a namespace shows after a step, without a kernel
//! - [`announced`]: what a kernel announces of changes, held against what is known
//! - [`firewall`]: the nftables tables of node, network and bridge ports
//! - [`published`]: ports of the node that lead to pods
//! - [`node`]: what the agent wants of its node, from a [`selvedge_model::Cluster`]
//! - [`peers`]: how it reaches the pods of every other node
//! - [`reach`]: what was measured of those ways, and what follows
//! - [`foreign`]: what must pass other people's forward chains
//! - [`converge`]: the whole node, and the plan that has steps of every kind
//! - [`attachment`]: what the plugin wants for one pod, in the node's namespace and in the pod's
//!
//! The crate decides only; `act/netlink` and `act/nft` observe and apply.

pub mod announced;
pub mod attachment;
pub mod converge;
pub mod firewall;
pub mod foreign;
pub mod model;
pub mod node;
pub mod peers;
pub mod plan;
pub mod preflight;
pub mod published;
pub mod reach;
pub mod removal;
pub mod shaping;
pub mod state;
pub mod step;

pub use attachment::{Attachment, BridgeSubnet, Mode, PodAddress, PodRoute};
pub use plan::{DesiredLink, DesiredNetwork, Plan, Prune, Seen, plan};
