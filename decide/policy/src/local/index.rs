//! The Pods of a node, by what attachments tell of theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_model::{NodeName, Owner, Pod, PodKey, PodTag};

use super::Whose;
use crate::cluster::Cluster;

/// The Pods that are on a node or on none yet, by the part of their tags that tells of their names.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    node: NodeName,
    by_name: BTreeMap<String, Arc<Pod>>,
}

impl Index {
    /// None yet.
    pub(crate) fn new(node: NodeName) -> Self {
        Self { node, by_name: BTreeMap::new() }
    }

    /// Those of a cluster.
    pub(super) fn of(cluster: &Cluster, node: &NodeName) -> Self {
        let mut index = Self::new(node.clone());
        cluster.pods().values().for_each(|pod| index.add(pod));
        index
    }

    pub(crate) fn add(&mut self, pod: &Arc<Pod>) {
        if self.is_here(pod) {
            self.by_name.insert(name(&pod.key), Arc::clone(pod));
        }
    }

    pub(crate) fn remove(&mut self, pod: &Pod) {
        if self.is_here(pod) {
            self.by_name.remove(&name(&pod.key));
        }
    }

    fn is_here(&self, pod: &Pod) -> bool {
        pod.node.as_ref().is_none_or(|node| *node == self.node)
    }

    /// Whose an attachment is that has this owner record.
    pub(super) fn whose(&self, cluster: &Cluster, owner: &Owner) -> Whose {
        let Some(tag) = &owner.pod else {
            // A record from before there were tags.
            let pods =
                |net: &ipnet::IpNet| cluster.with_address(net.addr()).filter(|pod| self.is_here(pod)).last();
            return owner
                .addresses
                .iter()
                .find_map(pods)
                .map_or(Whose::Nobody, |pod| Whose::Pod(pod.key.clone()));
        };
        match self.by_name.get(tag.name()) {
            // Of a static pod's mirror the runtime knows the static pod's.
            Some(pod) if tag.is_of(pod.uid.as_deref().into_iter().chain(pod.mirror.as_deref())) => {
                Whose::Pod(pod.key.clone())
            }
            _ => {
                let mut namespaces = cluster.namespaces().keys();
                Whose::Unseen(namespaces.find(|namespace| tag.is_in(namespace)).cloned())
            }
        }
    }
}

fn name(key: &PodKey) -> String {
    PodTag::new(key, None).name().to_owned()
}
