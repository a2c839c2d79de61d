//! The cluster that would be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use selvedge_model::policy::{Mode, Policy, PolicyKey};
use selvedge_model::{Labels, Listing, Namespace, Pod, Pods};
use selvedge_policy::Cluster;

/// What would be otherwise.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Policies that would be there, in the place of those of the same key.
    pub policies: Vec<Arc<Policy>>,
    /// Policies that would go.
    pub deleted: BTreeSet<PolicyKey>,
    /// Namespaces with the labels that they would have.
    pub namespaces: Vec<(String, Labels)>,
    /// Pods with the labels and ports that they would have; everything else stays as it is.
    pub pods: Vec<Arc<Pod>>,
}

/// A policy that would be deleted isn't there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no NetworkPolicy {key} to delete")]
pub struct NoPolicy {
    /// Its key.
    pub key: PolicyKey,
}

impl Changes {
    /// The cluster that would be, and what of the changes was passed over because it can't be told.
    ///
    /// # Errors
    /// What is to go isn't there.
    pub fn to(&self, cluster: &Cluster) -> Result<(Cluster, Vec<String>), NoPolicy> {
        let missing = self.deleted.iter().find(|key| !cluster.policies().contains_key(*key));
        if let Some(key) = missing {
            return Err(NoPolicy { key: key.clone() });
        }
        let mut pods = cluster.pods().clone();
        let mut notes = Vec::new();
        for pod in &self.pods {
            match pods.get(&pod.key) {
                Some(there) => drop(pods.insert(Arc::new(changed(there, pod)))),
                None => notes.push(format!(
                    "Pod {}: is not in the cluster; nothing can be said of it before it has addresses",
                    pod.key
                )),
            }
        }
        let shadows = self.policies.iter().filter(|policy| policy.mode == Mode::Shadow);
        notes
            .extend(shadows.map(|policy| format!("NetworkPolicy {}: a shadow isolates nothing", policy.key)));
        Ok((self.with(cluster, pods), notes))
    }

    /// The cluster with these pods.
    fn with(&self, cluster: &Cluster, pods: Pods) -> Cluster {
        let labels = cluster.namespaces().iter().map(|(name, labels)| (name.clone(), labels.clone()));
        let namespaces: BTreeMap<String, Namespace> = labels
            .chain(self.namespaces.iter().cloned())
            .map(|(name, labels)| (name, labels.into()))
            .collect();
        let mut policies = cluster.policies().clone();
        self.deleted.iter().for_each(|key| drop(policies.remove(key)));
        self.policies.iter().for_each(|policy| drop(policies.insert(Arc::clone(policy))));
        let listing = Listing::of(cluster.nodes().clone(), pods, Arc::new(namespaces), policies);
        Cluster::new(&listing.finish().expect("a listing of all kinds is complete"))
    }
}

/// The pod that is there with what the other says that can be changed.
fn changed(there: &Pod, pod: &Pod) -> Pod {
    Pod { labels: pod.labels.clone(), ports: pod.ports.clone(), ..there.clone() }
}
