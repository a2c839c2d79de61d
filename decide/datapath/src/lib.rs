//! What one network namespace should look like, what it shows, and the steps from the one to the other.
//!
//! - [`state`]: links, addresses, routes, sysctls and nftables tables as values; [`state::Observed`] and
//!   [`state::Desired`] are made of the same parts
//! - [`step`]: one change to the kernel; its `Display` is the `ip`, `sysctl` or `nft` line an operator would type
//! - `plan`: the difference between desired and observed, in an order in which every prefix is harmless
//! - `node`: what the agent wants of its node, from a [`selvedge_model::Cluster`]
//! - `attachment`: what the plugin wants for one pod, in the node's namespace and in the pod's
//!
//! The crate decides only; `act/netlink` and `act/nft` observe and apply.

pub mod state;
pub mod step;
