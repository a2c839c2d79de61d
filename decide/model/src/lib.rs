//! The nouns of Selvedge, each with its own type, parsed at the edge and valid ever after.
//!
//! - [`names`]: containers, interfaces, networks, nodes, pods and the keys made of them
//! - [`bandwidth`]: the limits of what a pod receives and sends
//! - [`link`]: MAC addresses and MTUs, and how they are derived
//! - [`Labels`]: what selectors select by
//! - [`PodTag`]: which Pod an attachment is, in few characters
//! - [`mark`]: what we write on kernel objects so that they can be told from everybody else's
//! - [`chain`]: an error with its causes
//! - [`port`]: ports of a node that lead to a pod
//! - [`Namespaced`]: objects by their keys, of which clones share what hasn't changed
//! - [`Sorted`], [`SortedMap`]: values in order, of which clones share what hasn't changed
//! - [`Forwarding`]: what the forwarder of the udp transport is told
//! - [`Gather`]: filling ordered collections
//! - [`policy`], [`selector`]: NetworkPolicies, and which labels they mean
//! - [`transport`]: how packets reach other nodes
//! - [`Wireguard`], [`PublicKey`]: what a WireGuard device is to hold
//! - [`tracked`]: conversations as the kernel tracks them
//! - [`cluster`]: the complete snapshot of a cluster, and the only way to get one
//!
//! No item here reads a file, a clock or the environment.

pub mod bandwidth;
mod chain;
pub mod cluster;
mod forwarding;
mod gather;
mod labels;
pub mod link;
pub mod mark;
pub mod names;
mod namespaced;
pub mod policy;
pub mod port;
pub mod selector;
mod sorted;
mod tag;
pub mod tracked;
pub mod transport;
mod wireguard;

pub use bandwidth::{Bandwidth, RateLimit};
pub use chain::chain;
pub use cluster::{Cluster, Kind, Listing, Log, Namespace, Node, Nodes, Pod, Pods, Policies, StillListing};
pub use forwarding::{Forwarding, ForwardingPeer};
pub use gather::Gather;
pub use labels::{Labels, SharedLabels};
pub use link::{MacAddr, Mtu};
pub use mark::Owner;
pub use names::{
    AttachmentKey, ContainerId, IfName, NameError, NetworkName, NodeName, PodKey, host_veth_name,
    reaped_name, shaper_name,
};
pub use namespaced::{Changed, Key, Keyed, Namespaced};
pub use port::{ContainerPort, HostIp, PortMapping, Transport};
pub use sorted::{Sorted, SortedMap};
pub use tag::{NoTag, PodTag};
pub use tracked::Tracked;
pub use wireguard::{NoKey, PublicKey, Wireguard, WireguardPeer};
