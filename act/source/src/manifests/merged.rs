//! What all manifests came to, changed where some of them have.

use std::sync::Arc;

use selvedge_model::{Cluster, Listing, Node, NodeName};

use crate::keys::Keys;
use crate::networks::Networks;

/// A cluster of manifests with which nothing is wrong: no two of them claim the same, and so they come to the same in any
/// order.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) cluster: Cluster,
    /// The nodes' networks.
    networks: Networks<NodeName>,
}

/// What has changed in files.
#[derive(Debug)]
pub(super) struct Changes {
    gone: Vec<Node>,
    come: Vec<Node>,
    /// Nothing but nodes.
    are_nodes: bool,
}

impl Default for Changes {
    fn default() -> Self {
        Self { gone: Vec::new(), come: Vec::new(), are_nodes: true }
    }
}

impl Changes {
    /// Takes what a file had and has, if those are nodes alone.
    pub(super) fn note(&mut self, before: Option<Vec<Node>>, now: Option<Vec<Node>>) {
        self.are_nodes &= before.is_some() && now.is_some();
        self.gone.extend(before.into_iter().flatten());
        self.come.extend(now.into_iter().flatten());
    }
}

impl Merged {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let mut networks = Networks::default();
        for node in cluster.nodes().values() {
            for cidr in &node.pod_cidrs {
                // None overlaps: that would be a problem.
                let _claimed = networks.claim(*cidr, node.name.clone());
            }
        }
        Self { cluster: cluster.clone(), networks }
    }

    /// The same with these changes; none if they are more than nodes that come and go, each by itself.
    pub(super) fn after(self, changes: Changes, keys: &Keys) -> Option<Self> {
        let Self { cluster, mut networks } = self;
        let Changes { gone, come, are_nodes } = changes;
        if !are_nodes {
            return None;
        }
        if gone == come {
            return Some(Self { cluster, networks });
        }
        let mut nodes = cluster.nodes().clone();
        for node in &gone {
            nodes.remove(&node.name);
            node.pod_cidrs.iter().for_each(|cidr| networks.release(*cidr));
        }
        for mut node in come {
            let claimed = node.pod_cidrs.iter().all(|cidr| networks.claim(*cidr, node.name.clone()).is_ok());
            if !claimed || nodes.contains_key(&node.name) {
                return None;
            }
            node.wireguard = keys.of(&node.name).or(node.wireguard);
            nodes.insert(node.name.clone(), node);
        }
        let (pods, namespaces) = (cluster.pods().clone(), Arc::clone(cluster.namespaces()));
        let cluster = Listing::of(nodes, pods, namespaces, cluster.policies().clone()).finish().ok()?;
        Some(Self { cluster, networks })
    }
}
