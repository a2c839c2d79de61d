//! Objects that are in namespaces.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

/// What has a key by which it is told from all others of its kind.
pub trait Keyed {
    /// The key.
    type Key: Key;

    /// Its key.
    fn key(&self) -> &Self::Key;
}

/// A namespace and a name, in order by the one and then the other.
pub trait Key: Ord {
    /// The namespace.
    fn namespace(&self) -> &str;
}

/// Objects by their keys.
///
/// Of tens of thousands there are several clones at a time, each a little later than the one before: clones share what
/// has not been changed, namespace by namespace, so that a change is found without looking at all. A key is nowhere but
/// in its object.
pub struct Namespaced<T>(Arc<BTreeMap<Arc<str>, Within<T>>>);

/// The objects of one namespace, in their keys' order.
type Within<T> = Arc<Vec<Arc<T>>>;

/// An object before and after, one of which may not be there.
pub type Changed<'a, T> = (Option<&'a Arc<T>>, Option<&'a Arc<T>>);

impl<T: Keyed> Namespaced<T> {
    /// Adds an object; gives the one of the same key that it takes the place of.
    pub fn insert(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        let namespaces = Arc::make_mut(&mut self.0);
        let namespace = object.key().namespace();
        let Some(here) = namespaces.get_mut(namespace) else {
            namespaces.insert(namespace.into(), Arc::new(vec![object]));
            return None;
        };
        let here = Arc::make_mut(here);
        match here.binary_search_by(|other| other.key().cmp(object.key())) {
            Ok(place) => Some(std::mem::replace(&mut here[place], object)),
            Err(place) => {
                here.insert(place, object);
                None
            }
        }
    }

    /// Takes an object out.
    pub fn remove(&mut self, key: &T::Key) -> Option<Arc<T>> {
        let place = self.place(key)?;
        let namespaces = Arc::make_mut(&mut self.0);
        let here = Arc::make_mut(namespaces.get_mut(key.namespace())?);
        let object = here.remove(place);
        if here.is_empty() {
            namespaces.remove(key.namespace());
        }
        Some(object)
    }

    /// The object of that key.
    pub fn get(&self, key: &T::Key) -> Option<&Arc<T>> {
        self.place(key).map(|place| &self.within(key.namespace())[place])
    }

    fn place(&self, key: &T::Key) -> Option<usize> {
        self.within(key.namespace()).binary_search_by(|object| object.key().cmp(key)).ok()
    }

    /// True if there is an object of that key.
    pub fn contains_key(&self, key: &T::Key) -> bool {
        self.place(key).is_some()
    }

    /// The objects of a namespace, in their keys' order.
    pub fn within(&self, namespace: &str) -> &[Arc<T>] {
        self.0.get(namespace).map_or(&[], |here| here)
    }

    /// True if it shares all objects with the other.
    pub fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// True if it shares the objects of a namespace with the other, and so has the same there.
    pub fn shares_within(&self, other: &Self, namespace: &str) -> bool {
        match (self.0.get(namespace), other.0.get(namespace)) {
            (Some(here), Some(there)) => Arc::ptr_eq(here, there),
            (here, there) => here.is_none() && there.is_none(),
        }
    }

    /// The namespaces that objects are in.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|namespace| &**namespace)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &T::Key> {
        self.values().map(|object| object.key())
    }

    /// The objects, in their keys' order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values().flat_map(|here| here.iter())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(|here| here.len()).sum()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Keyed + PartialEq> Namespaced<T> {
    /// The objects that are not as they were before: found without a look at what both share.
    pub fn changes<'a>(&'a self, before: &'a Self) -> Vec<Changed<'a, T>> {
        let mut changes = Vec::new();
        if Arc::ptr_eq(&self.0, &before.0) {
            return changes;
        }
        // Both are walked once, side by side.
        let mut thens = before.0.iter().peekable();
        for (namespace, now) in self.0.iter() {
            while let Some((_, gone)) = thens.next_if(|(then, _)| *then < namespace) {
                differing(gone, &[], &mut changes);
            }
            match thens.next_if(|(then, _)| *then == namespace) {
                Some((_, then)) if Arc::ptr_eq(then, now) => {}
                then => differing(then.map_or(&[], |(_, then)| then), now, &mut changes),
            }
        }
        thens.for_each(|(_, gone)| differing(gone, &[], &mut changes));
        changes
    }
}

/// Walks two lists in their keys' order side by side.
fn differing<'a, T: Keyed + PartialEq>(
    mut then: &'a [Arc<T>],
    mut now: &'a [Arc<T>],
    changes: &mut Vec<Changed<'a, T>>,
) {
    loop {
        let pair = match (then.first(), now.first()) {
            (None, None) => return,
            (Some(old), Some(new)) if old.key() == new.key() => (Some(old), Some(new)),
            (Some(old), Some(new)) if old.key() < new.key() => (Some(old), None),
            (Some(old), None) => (Some(old), None),
            (_, Some(new)) => (None, Some(new)),
        };
        then = &then[usize::from(pair.0.is_some())..];
        now = &now[usize::from(pair.1.is_some())..];
        let is_same = pair.0.zip(pair.1).is_some_and(|(old, new)| Arc::ptr_eq(old, new) || old == new);
        if !is_same {
            changes.push(pair);
        }
    }
}

impl<T> Clone for Namespaced<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Namespaced<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Keyed + fmt::Debug> fmt::Debug for Namespaced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values()).finish()
    }
}

/// Of several with one key the last.
impl<T: Keyed> FromIterator<Arc<T>> for Namespaced<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(objects: I) -> Self {
        let mut all = Self::default();
        objects.into_iter().for_each(|object| drop(all.insert(object)));
        all
    }
}

impl<T: Keyed> Index<&T::Key> for Namespaced<T> {
    type Output = Arc<T>;

    fn index(&self, key: &T::Key) -> &Arc<T> {
        self.get(key).expect("there is an object of that key")
    }
}

/// Equal objects, not only equal keys.
impl<T: Keyed + PartialEq> PartialEq for Namespaced<T> {
    fn eq(&self, other: &Self) -> bool {
        self.changes(other).is_empty()
    }
}

impl<T: Keyed + Eq> Eq for Namespaced<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Pod;
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
    fn an_object_is_found_by_its_key_and_a_later_one_takes_its_place() {
        let mut pods = Namespaced::default();
        assert_eq!(pods.insert(pod("x/b", false)), None);
        assert_eq!(pods.insert(pod("x/a", false)), None);
        let before = pods.clone();
        assert_eq!(pods.insert(pod("x/b", true)), Some(pod("x/b", false)));
        assert!(pods != before && before == before.clone(), "equal keys are not enough");
        assert_eq!(pods.keys().map(ToString::to_string).collect::<Vec<_>>(), ["x/a", "x/b"]);
        assert!(pods[&"x/b".parse().unwrap()].host_network);
        assert_eq!(pods.remove(&"x/a".parse().unwrap()), Some(pod("x/a", false)));
        assert_eq!(pods.remove(&"x/a".parse().unwrap()), None);
        assert!(!pods.contains_key(&"x/a".parse().unwrap()) && pods.len() == 1 && before.len() == 2);
        let collected = Namespaced::from_iter([pod("x/b", false), pod("x/a", false), pod("x/b", true)]);
        assert_eq!(collected.values().map(|pod| pod.host_network).collect::<Vec<_>>(), [false, true]);
        assert_eq!(pods.remove(&"x/b".parse().unwrap()), Some(pod("x/b", true)));
        assert!(pods.is_empty() && pods.namespaces().next().is_none());
    }

    #[test]
    fn what_changed_is_told_with_what_was_there_before() {
        let before = Namespaced::from_iter(["a/1", "a/2", "b/1", "c/1"].map(|key| pod(key, false)));
        assert!(before.changes(&before.clone()).is_empty());
        let mut now = before.clone();
        now.insert(pod("a/2", true));
        now.insert(pod("a/3", false));
        now.remove(&"b/1".parse().unwrap());
        now.insert(pod("c/1", false));
        now.insert(pod("d/1", false));
        let shown = |pod: Option<&Arc<Pod>>| {
            pod.map_or(String::new(), |pod| format!("{}{}", pod.key, if pod.host_network { "!" } else { "" }))
        };
        let changes = now.changes(&before);
        let mut changes: Vec<_> = changes.iter().map(|(then, now)| (shown(*then), shown(*now))).collect();
        changes.sort();
        let expected = [("", "a/3"), ("", "d/1"), ("a/2", "a/2!"), ("b/1", "")];
        assert_eq!(changes, expected.map(|(then, now)| (then.to_owned(), now.to_owned())));
        let mut later = now.clone();
        later.insert(pod("d/2", false));
        assert!(
            later.shares_within(&now, "a") && later.shares_within(&now, "b"),
            "the one has changed, the other isn't"
        );
        assert!(!later.shares_within(&now, "d"));
    }
}
