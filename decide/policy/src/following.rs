//! A cluster as it changes, seen from one node: each state is made of the one before and of what has changed.

use std::net::IpAddr;
use std::sync::Arc;

use selvedge_model::{IfName, NetworkName, NodeName, Owner};

use crate::cluster::Cluster;
use crate::local::index::Index;
use crate::local::{LocalNode, LocalPod, Whose};

/// What policy knows of a cluster, followed on behalf of a node.
#[derive(Debug, Clone)]
pub struct Following {
    network: NetworkName,
    heard: Arc<selvedge_model::Cluster>,
    cluster: Cluster,
    index: Index,
}

impl Following {
    /// Nothing yet, for a node and the network of the pods that policies can be about.
    pub fn new(node: NodeName, network: NetworkName) -> Self {
        Self { network, heard: Arc::default(), cluster: Cluster::default(), index: Index::new(node) }
    }

    /// Takes the cluster as it is now.
    pub fn hear(&mut self, now: &Arc<selvedge_model::Cluster>) {
        for (then, now) in now.pods().changes(self.heard.pods()) {
            then.inspect(|pod| self.index.remove(pod));
            now.inspect(|pod| self.index.add(pod));
        }
        self.cluster = std::mem::take(&mut self.cluster).after(&self.heard, now);
        self.heard = Arc::clone(now);
    }

    /// True if the cluster tells of a Pod that an attachment with these addresses is, or was.
    pub fn answers_for(&self, pod: &LocalPod) -> bool {
        let is_told = |address: &IpAddr| self.cluster.with_address(*address).next().is_some();
        matches!(pod.whose, Whose::Pod(_)) || pod.addresses.iter().any(is_told)
    }

    /// The node's pods with these attachments, by the host ends' names, and the cluster, which has been told of their
    /// addresses.
    pub fn local<'a>(
        &self,
        attachments: impl IntoIterator<Item = (&'a IfName, &'a Owner)>,
        bridge: Option<&IfName>,
    ) -> (Cluster, LocalNode) {
        let mut cluster = self.cluster.clone();
        let local = LocalNode::by(&self.index, &mut cluster, &self.network, (attachments, bridge));
        (cluster, local)
    }
}
