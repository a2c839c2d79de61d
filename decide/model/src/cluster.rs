//! The complete snapshot of a cluster: what every decision starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

use crate::labels::Labels;
use crate::names::{NodeName, PodKey};
use crate::policy::{Policy, PolicyKey};
use crate::port::{ContainerPort, Transport};

/// Everything we know of a cluster at one moment.
///
/// [`Listing::finish`] makes it, so a partial listing can't be taken for the truth and nothing is ever pruned on its
/// account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    nodes: BTreeMap<NodeName, Node>,
    pods: BTreeMap<PodKey, Arc<Pod>>,
    namespaces: BTreeMap<String, Labels>,
    policies: BTreeMap<PolicyKey, Arc<Policy>>,
}

impl Cluster {
    /// The cluster of which only one node is known, of no listing: what it lacks is no reason to prune anything.
    pub fn of(node: Node) -> Self {
        Self { nodes: BTreeMap::from([(node.name.clone(), node)]), ..Self::default() }
    }

    /// The nodes by name.
    pub fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// The pods by key.
    pub fn pods(&self) -> &BTreeMap<PodKey, Arc<Pod>> {
        &self.pods
    }

    /// The labels of the namespaces by name.
    pub fn namespaces(&self) -> &BTreeMap<String, Labels> {
        &self.namespaces
    }

    /// The NetworkPolicies by key.
    pub fn policies(&self) -> &BTreeMap<PolicyKey, Arc<Policy>> {
        &self.policies
    }
}

/// A Node, as far as pod networking needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// metadata.name
    pub name: NodeName,
    /// spec.podCIDRs (or spec.podCIDR), in that order; host bits are zero.
    pub pod_cidrs: Vec<IpNet>,
    /// The InternalIP entries of status.addresses, in that order.
    pub addresses: Vec<IpAddr>,
}

impl Node {
    /// The node's first address of the family of `like`.
    pub fn address_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| a.is_ipv4() == like.is_ipv4())
    }
}

/// A Pod, as far as pod networking needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// metadata.namespace and metadata.name
    pub key: PodKey,
    /// metadata.uid
    pub uid: Option<String>,
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

impl Pod {
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
        let pod = pod.into();
        self.cluster.pods.insert(pod.key.clone(), pod);
    }

    /// Adds a namespace with its labels; a later one of the same name takes its place.
    pub fn namespace(&mut self, name: impl Into<String>, labels: Labels) {
        self.cluster.namespaces.insert(name.into(), labels);
    }

    /// Adds a policy; a later one of the same key takes its place.
    pub fn policy(&mut self, policy: impl Into<Arc<Policy>>) {
        let policy = policy.into();
        self.cluster.policies.insert(policy.key.clone(), policy);
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
}
