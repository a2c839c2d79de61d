//! The pods of one node, as policy needs them: which attachment is which Pod of the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::{IfName, NetworkName, NodeName, Owner, PodKey};

use crate::cluster::Cluster;
use index::Index;

pub(crate) mod index;

/// A node, as far as policy needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalNode {
    /// Its pods.
    pub pods: Vec<LocalPod>,
    /// The bridge that pods are at, where there is one.
    pub bridge: Option<IfName>,
    /// What becomes of those that aren't among the pods yet.
    pub unknown: Unknown,
    /// Whether its kernel can tell of packets.
    pub netlog: Netlog,
}

/// Whether a kernel has the netfilter log (`nfnetlink_log`): without it, it refuses rules that tell of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Netlog {
    /// It has.
    #[default]
    Present,
    /// It hasn't.
    Missing,
}

/// What becomes of an address of a pod's interface that isn't known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// Nothing passes.
    #[default]
    Closed,
    /// Everything passes, as if there were no policy.
    Open,
}

/// A pod of a node, by its attachment: there before any API tells of its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPod {
    /// Which pod it is.
    pub whose: Whose,
    /// The interface at which the node's hooks see it: its own host end, or the bridge.
    pub interface: IfName,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Which Pod of the cluster an attachment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// That one.
    Pod(PodKey),
    /// One that no source has shown yet, in that namespace, if there is one with that name.
    Unseen(Option<String>),
    /// None, as far as the runtime said: no policy can be about it.
    Nobody,
}

impl LocalNode {
    /// The pods' addresses, each with its pod.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&LocalPod, IpAddr)> {
        self.pods.iter().flat_map(|pod| pod.addresses.iter().map(move |address| (pod, *address)))
    }

    /// The pods that these attachments are, by the host ends' names; those of other networks than ours are nobody's.
    /// The cluster is told of their addresses.
    pub fn of<'a>(
        cluster: &mut Cluster,
        (node, network): (&NodeName, &NetworkName),
        attachments: impl IntoIterator<Item = (&'a IfName, &'a Owner)>,
        bridge: Option<&IfName>,
    ) -> Self {
        let index = Index::of(cluster, node);
        Self::by(&index, cluster, network, (attachments, bridge))
    }

    /// The same by an index of the node's pods.
    pub(crate) fn by<'a>(
        index: &Index,
        cluster: &mut Cluster,
        network: &NetworkName,
        (attachments, bridge): (impl IntoIterator<Item = (&'a IfName, &'a Owner)>, Option<&IfName>),
    ) -> Self {
        let at = |host: &IfName, owner: &Owner| bridge.filter(|_| owner.is_bridged()).unwrap_or(host).clone();
        let whose = |owner: &Owner| match owner.network == *network {
            true => index.whose(cluster, owner),
            false => Whose::Nobody,
        };
        let pod = |(host, owner): (&'a IfName, &'a Owner)| LocalPod {
            whose: whose(owner),
            interface: at(host, owner),
            addresses: owner.addresses.iter().map(IpNet::addr).collect(),
        };
        let pods: Vec<LocalPod> = attachments.into_iter().map(pod).collect();
        let mut attached: BTreeMap<&PodKey, Vec<IpAddr>> = BTreeMap::new();
        for pod in &pods {
            if let Whose::Pod(key) = &pod.whose {
                attached.entry(key).or_default().extend(&pod.addresses);
            }
        }
        // Whoever else is said to have one of their addresses had it before.
        for pod in pods.iter().filter(|pod| pod.whose != Whose::Nobody) {
            let own = if let Whose::Pod(key) = &pod.whose { Some(key) } else { None };
            pod.addresses.iter().for_each(|address| cluster.vacate(*address, own));
        }
        attached.into_iter().for_each(|(key, addresses)| cluster.attach(key, &addresses));
        Self { pods, bridge: bridge.cloned(), unknown: Unknown::default(), netlog: Netlog::default() }
    }
}

impl Whose {
    /// True if it is isolated because no source has shown it: its namespace has a policy, or isn't known.
    pub fn is_closed(&self, cluster: &Cluster) -> bool {
        match self {
            Self::Unseen(None) => true,
            Self::Unseen(Some(namespace)) => cluster.enforced_in(namespace).next().is_some(),
            Self::Pod(_) | Self::Nobody => false,
        }
    }
}

#[cfg(test)]
mod tests;
