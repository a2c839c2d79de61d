//! The pods of a cluster.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Index;
use std::sync::Arc;

use crate::cluster::Pod;
use crate::names::PodKey;

/// Pods by their keys. Clones share the pods, and a key is nowhere but in its pod: of tens of thousands there are several
/// clones at a time.
#[derive(Debug, Clone, Default)]
pub struct Pods(BTreeSet<ByKey>);

/// A pod, which is looked for and put in order by its key.
#[derive(Debug, Clone)]
struct ByKey(Arc<Pod>);

impl Pods {
    /// Adds a pod; gives the one of the same key that it takes the place of.
    pub fn insert(&mut self, pod: Arc<Pod>) -> Option<Arc<Pod>> {
        self.0.replace(ByKey(pod)).map(|ByKey(before)| before)
    }

    /// Takes a pod out.
    pub fn remove(&mut self, key: &PodKey) -> Option<Arc<Pod>> {
        self.0.take(key).map(|ByKey(pod)| pod)
    }

    /// The pod of that key.
    pub fn get(&self, key: &PodKey) -> Option<&Arc<Pod>> {
        self.0.get(key).map(|ByKey(pod)| pod)
    }

    /// True if there is a pod of that key.
    pub fn contains_key(&self, key: &PodKey) -> bool {
        self.0.contains(key)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &PodKey> {
        self.values().map(|pod| &pod.key)
    }

    /// The pods, in their keys' order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Arc<Pod>> {
        self.0.iter().map(|ByKey(pod)| pod)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of several with one key the last. What comes in order is quicker so than one by one.
impl FromIterator<Arc<Pod>> for Pods {
    fn from_iter<I: IntoIterator<Item = Arc<Pod>>>(pods: I) -> Self {
        Self(pods.into_iter().map(ByKey).collect())
    }
}

impl Index<&PodKey> for Pods {
    type Output = Arc<Pod>;

    fn index(&self, key: &PodKey) -> &Arc<Pod> {
        self.get(key).expect("there is a pod of that key")
    }
}

/// Equal pods, not only equal keys.
impl PartialEq for Pods {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.values().eq(other.values())
    }
}

impl Eq for Pods {}

impl Borrow<PodKey> for ByKey {
    fn borrow(&self) -> &PodKey {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Labels;

    fn pod(key: &str, host_network: bool) -> Arc<Pod> {
        Arc::new(Pod {
            key: key.parse().unwrap(),
            uid: None,
            mirror: None,
            node: None,
            labels: Labels::default(),
            addresses: Vec::new(),
            host_network,
            finished: false,
            ports: Vec::new(),
        })
    }

    #[test]
    fn a_pod_is_found_by_its_key_and_a_later_one_takes_its_place() {
        let mut pods = Pods::default();
        assert_eq!(pods.insert(pod("x/b", false)), None);
        assert_eq!(pods.insert(pod("x/a", false)), None);
        let before = pods.clone();
        assert_eq!(pods.insert(pod("x/b", true)), Some(pod("x/b", false)));
        assert!(pods != before && before == before.clone(), "equal keys are not enough");
        assert_eq!(pods.keys().map(ToString::to_string).collect::<Vec<_>>(), ["x/a", "x/b"]);
        assert!(pods[&"x/b".parse().unwrap()].host_network);
        assert_eq!(pods.remove(&"x/a".parse().unwrap()), Some(pod("x/a", false)));
        assert!(!pods.contains_key(&"x/a".parse().unwrap()) && pods.len() == 1 && before.len() == 2);
        let collected = Pods::from_iter([pod("x/b", false), pod("x/a", false), pod("x/b", true)]);
        assert_eq!(collected.values().map(|pod| pod.host_network).collect::<Vec<_>>(), [false, true]);
    }
}
