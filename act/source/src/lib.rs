//! Cluster snapshots: from the Kubernetes API, or from a watched directory of ordinary manifests, YAML or JSON.
//!
//! - [`kubernetes`]: the API, followed
//! - [`keys`]: the nodes' WireGuard keys, published and in a shared directory
//! - [`manifests`]: texts to [`Snapshot`]s, the last good state of each object in force; a pure function
//! - [`proposed`]: texts of manifests that are not in force
//! - [`watch`]: the directory, looked at when it changes
//! - [`problem`]: what is wrong with a manifest, by file, line and field
//! - [`yaml`]: values with the place they were written at, for these manifests and for the agent's configuration
//!
//! Nodes, Pods, Namespaces and NetworkPolicies are read; objects of other kinds, and fields that pod networking doesn't
//! need, are passed over. What to do with a cluster is left to others, and what a policy means to `selvedge-policy`.
//!
//! Invariants: a snapshot comes only from a directory, or an API, that was listed at least once as a whole; nothing
//! broken or unreadable takes an object away, only its absence from what is readable does; a NetworkPolicy that never
//! could be read closes what it may select; equal texts give equal snapshots.

pub mod keys;
pub mod kubernetes;
pub mod manifests;
mod networks;
pub mod object;
pub mod problem;
pub mod proposed;
pub mod watch;
pub mod yaml;

pub use manifests::{Manifests, Snapshot};
pub use object::{Object, ObjectKey};
pub use problem::{Cause, InForce, Place, Problem};
pub use watch::{Directories, WatchError, Watcher, spawn};
