//! The complete snapshot of a cluster: what every decision starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

use crate::labels::Labels;
use crate::names::{NodeName, PodKey};
use crate::namespaced::{Key, Keyed, Namespaced};
use crate::policy::Policy;
use crate::port::{ContainerPort, Transport};
use crate::sorted::SortedMap;
use crate::transport::Choice;
use crate::wireguard::PublicKey;

/// The nodes of a cluster.
pub type Nodes = SortedMap<NodeName, Node>;

/// The pods of a cluster.
pub type Pods = Namespaced<Pod>;

/// The NetworkPolicies of a cluster.
pub type Policies = Namespaced<Policy>;

/// Everything we know of a cluster at one moment. Clones share what hasn't changed.
///
/// [`Listing::finish`] makes it, so a partial listing can't be taken for the truth and nothing is ever pruned on its
/// account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    nodes: Nodes,
    pods: Pods,
    namespaces: Arc<BTreeMap<String, Namespace>>,
    policies: Policies,
}

impl Cluster {
    /// The cluster of which only one node is known, of no listing: what it lacks is no reason to prune anything.
    pub fn of(node: Node) -> Self {
        Self { nodes: [(node.name.clone(), node)].into(), ..Self::default() }
    }

    /// The nodes by name.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The pods by key.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// The namespaces by name.
    pub fn namespaces(&self) -> &Arc<BTreeMap<String, Namespace>> {
        &self.namespaces
    }

    /// The NetworkPolicies by key.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }
}

/// A Node, as far as pod networking needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// metadata.name
    pub name: NodeName,
    /// spec.podCIDRs (or spec.podCIDR), in that order; host bits are zero.
    pub pod_cidrs: Vec<IpNet>,
    /// The InternalIP entries of status.addresses, in that order.
    pub addresses: Vec<IpAddr>,
    /// How it wishes to reach others and to be reached: the annotation [`Choice::ANNOTATION`].
    pub transport: Option<Choice>,
    /// The key of its WireGuard device, once that is there: the annotation [`PublicKey::ANNOTATION`], or a shared file.
    pub wireguard: Option<PublicKey>,
}

impl Node {
    /// A node without annotations.
    pub fn new(name: NodeName, pod_cidrs: Vec<IpNet>, addresses: Vec<IpAddr>) -> Self {
        Self { name, pod_cidrs, addresses, transport: None, wireguard: None }
    }

    /// The node's first address of the family of `like`.
    pub fn address_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| a.is_ipv4() == like.is_ipv4())
    }
}

/// A Namespace, as far as pod networking needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    /// metadata.labels
    pub labels: Labels,
    /// Which flows of its pods are logged.
    pub log: Log,
}

impl From<Labels> for Namespace {
    fn from(labels: Labels) -> Self {
        Self { labels, log: Log::default() }
    }
}

/// Which flows of a namespace's pods are logged: the annotation [`Log::ANNOTATION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Log {
    /// None.
    Off,
    /// Those that are denied, or that a shadow would deny.
    #[default]
    Denied,
    /// All.
    All,
}

impl Log {
    /// The annotation of a Namespace that says it.
    pub const ANNOTATION: &str = "selvedge.dev/log";

    /// What the annotation's value means; `None` if it means nothing.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "denied" => Some(Self::Denied),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}

/// A Pod, as far as pod networking needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// metadata.namespace and metadata.name
    pub key: PodKey,
    /// metadata.uid
    pub uid: Option<String>,
    /// What the kubelet calls the static pod that this one mirrors in the API: the annotation of one of
    /// [`Pod::MIRRORS`]. Of pods of other nodes it may be left out.
    pub mirror: Option<Box<str>>,
    /// spec.nodeName
    pub node: Option<NodeName>,
    /// metadata.labels
    pub labels: Labels,
    /// status.podIPs (or status.podIP)
    pub addresses: Vec<IpAddr>,
    /// spec.hostNetwork
    pub host_network: bool,
    /// True if status.phase is Succeeded or Failed: its containers have ended for good, and its addresses may be another
    /// pod's by now.
    pub finished: bool,
    /// The ports of its containers that have a name, in the containers' order.
    pub ports: Vec<ContainerPort>,
}

impl Keyed for Pod {
    type Key = PodKey;

    fn key(&self) -> &PodKey {
        &self.key
    }
}

impl Key for PodKey {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Pod {
    /// The annotations of a static pod's mirror that hold the static pod's hash, which is its UID for the kubelet.
    pub const MIRRORS: [&str; 2] = ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"];

    /// True if status.phase says that the pod's containers have ended for good.
    pub fn is_final(phase: &str) -> bool {
        matches!(phase, "Succeeded" | "Failed")
    }

    /// The port that the name stands for in this pod: that of the first container that has it with this protocol.
    pub fn port_named(&self, name: &str, transport: Transport) -> Option<NonZeroU16> {
        let port = self.ports.iter().find(|port| *port.name == *name && port.transport == transport);
        port.map(|port| port.number)
    }
}

/// A kind of object that a source lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nodes.
    Node,
    /// Pods.
    Pod,
    /// Namespaces.
    Namespace,
    /// NetworkPolicies.
    NetworkPolicy,
}

/// A listing under way: objects are put in, each kind is declared complete, then it can be finished.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    cluster: Cluster,
    complete: BTreeSet<Kind>,
}

/// The listing isn't complete yet, so there is no [`Cluster`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("still listing {missing:?}")]
pub struct StillListing {
    /// The kinds that have not been declared complete.
    pub missing: Vec<Kind>,
}

impl Listing {
    /// Every kind that a complete listing covers.
    pub const KINDS: [Kind; 4] = [Kind::Node, Kind::Pod, Kind::Namespace, Kind::NetworkPolicy];

    /// Adds a node; a later one of the same name takes its place.
    pub fn node(&mut self, node: Node) {
        self.cluster.nodes.insert(node.name.clone(), node);
    }

    /// Adds a pod; a later one of the same key takes its place.
    pub fn pod(&mut self, pod: impl Into<Arc<Pod>>) {
        self.cluster.pods.insert(pod.into());
    }

    /// The listing of all that was said of four kinds of objects.
    pub fn of(
        nodes: Nodes,
        pods: Pods,
        namespaces: Arc<BTreeMap<String, Namespace>>,
        policies: Policies,
    ) -> Self {
        Self { cluster: Cluster { nodes, pods, namespaces, policies }, complete: Self::KINDS.into() }
    }

    /// Adds a namespace; a later one of the same name takes its place.
    pub fn namespace(&mut self, name: impl Into<String>, namespace: impl Into<Namespace>) {
        Arc::make_mut(&mut self.cluster.namespaces).insert(name.into(), namespace.into());
    }

    /// Adds the namespaces that pods and policies are in and that are not there yet, without labels.
    pub fn imply_namespaces(&mut self) {
        let Cluster { pods, namespaces, policies, .. } = &mut self.cluster;
        for name in pods.namespaces().chain(policies.namespaces()) {
            if !namespaces.contains_key(name) {
                Arc::make_mut(namespaces).insert(name.to_owned(), Namespace::default());
            }
        }
    }

    /// Adds a policy; a later one of the same key takes its place.
    pub fn policy(&mut self, policy: impl Into<Arc<Policy>>) {
        self.cluster.policies.insert(policy.into());
    }

    /// Declares that all objects of a kind have been put in.
    pub fn complete(&mut self, kind: Kind) {
        self.complete.insert(kind);
    }

    /// The snapshot, once every kind is complete.
    pub fn finish(self) -> Result<Cluster, StillListing> {
        let missing: Vec<Kind> = Self::KINDS.into_iter().filter(|k| !self.complete.contains(k)).collect();
        if missing.is_empty() { Ok(self.cluster) } else { Err(StillListing { missing }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Mode, PolicyKey};
    use crate::selector::Selector;

    #[test]
    fn a_listing_that_lacks_a_kind_gives_no_cluster() {
        let mut listing = Listing::default();
        for kind in Listing::KINDS {
            let missing = listing.clone().finish().unwrap_err().missing;
            assert_eq!(missing.first(), Some(&kind));
            listing.complete(kind);
        }
        assert!(listing.finish().is_ok());
    }

    #[test]
    fn a_namespace_that_only_a_policy_is_in_is_there_and_a_declared_one_keeps_its_labels() {
        let mut listing = Listing::default();
        Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
        for namespace in ["x", "y"] {
            let key = PolicyKey { namespace: namespace.to_owned(), name: "deny".to_owned() };
            let (selects, mode) = (Selector::everything(), Mode::Enforced);
            listing.policy(Policy { key, selects, ingress: None, egress: None, mode, refused: None });
        }
        let labels = Labels::from_iter([("team".to_owned(), "a".to_owned())]);
        listing.namespace("x", labels.clone());
        listing.imply_namespaces();
        let cluster = listing.finish().unwrap();
        let expected = [("x", labels), ("y", Labels::default())];
        let namespaces: Vec<_> =
            cluster.namespaces().iter().map(|(name, known)| (name.as_str(), known.labels.clone())).collect();
        assert_eq!(namespaces, expected);
    }
}
