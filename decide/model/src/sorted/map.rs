//! Values by key, of which clones share what hasn't changed.

use std::fmt;

use super::{Iter, Sorted};

/// Values by key, in the keys' order. As of [`Sorted`], a change copies one run, and what two clones share is compared
/// at a glance.
pub struct SortedMap<K, V>(Sorted<(K, V)>);

impl<K, V> SortedMap<K, V> {
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys with their values, in order.
    pub fn iter(&self) -> Entries<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// True if it shares everything with the other.
    pub fn shares(&self, other: &Self) -> bool {
        self.0.shares(&other.0)
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.like(|(other, _)| other.cmp(key)).next().map(|(_, value)| value)
    }

    /// True if there is a value of that key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }
}

impl<K: Ord, V: Ord> SortedMap<K, V> {
    /// What the other doesn't have, or not with that value: found without a look at what both share.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a K, &'a V)> {
        self.0.difference(&other.0).map(|(key, value)| (key, value))
    }
}

impl<K: Ord + Clone, V: Ord + Clone> SortedMap<K, V> {
    /// Has a key lead to a value, whatever it led to.
    pub fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.0.insert((key, value));
    }

    /// Takes a key out, with its value.
    pub fn remove(&mut self, key: &K) {
        self.0.remove_like(|(other, _)| other.cmp(key));
    }
}

/// Keys with their values.
type Entries<'a, K, V> = std::iter::Map<Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Entries<'a, K, V>;

    fn into_iter(self) -> Entries<'a, K, V> {
        self.iter()
    }
}

impl<K: Clone, V: Clone> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Ord + Clone, V: Ord + Clone> FromIterator<(K, V)> for SortedMap<K, V> {
    /// Of several values of a key the last.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut items: Vec<(K, V)> = items.into_iter().collect();
        items.reverse();
        items.sort_by(|(one, _), (other, _)| one.cmp(other));
        items.dedup_by(|(one, _), (other, _)| one == other);
        Self(items.into_iter().collect())
    }
}

impl<K: Ord + Clone, V: Ord + Clone> Extend<(K, V)> for SortedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, items: I) {
        for (key, value) in items {
            self.insert(key, value);
        }
    }
}

impl<K: Ord + Clone, V: Ord + Clone, const N: usize> From<[(K, V); N]> for SortedMap<K, V> {
    fn from(items: [(K, V); N]) -> Self {
        items.into_iter().collect()
    }
}

impl<K, V> Clone for SortedMap<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self(Sorted::default())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Ord, V: Ord> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Ord, V: Ord> Eq for SortedMap<K, V> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Inserts what has a value, and removes the others.
    fn change(ours: &mut SortedMap<u16, u8>, map: &mut BTreeMap<u16, u8>, changes: &[(u16, Option<u8>)]) {
        for (key, value) in changes {
            match value {
                Some(value) => (ours.insert(*key, *value), map.insert(*key, *value)).1,
                None => (ours.remove(key), map.remove(key)).1,
            };
        }
    }

    fn changes() -> impl Strategy<Value = Vec<(u16, Option<u8>)>> {
        prop::collection::vec((0..400u16, prop::option::of(0..4u8)), 0..200)
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(
            first in prop::collection::vec((0..400u16, 0..4u8), 0..600),
            (ours, theirs) in (changes(), changes()),
        ) {
            let mut one: SortedMap<u16, u8> = first.iter().copied().collect();
            let mut one_map: BTreeMap<u16, u8> = first.into_iter().collect();
            let (mut two, mut two_map) = (one.clone(), one_map.clone());
            change(&mut one, &mut one_map, &ours);
            change(&mut two, &mut two_map, &theirs);
            prop_assert!(one.iter().eq(&one_map) && two.iter().eq(&two_map));
            prop_assert!(one.keys().eq(one_map.keys()) && one.values().eq(one_map.values()));
            prop_assert_eq!((one.len(), one.is_empty()), (one_map.len(), one_map.is_empty()));
            prop_assert!((0..400).all(|key| one.get(&key) == one_map.get(&key)));
            let differing = one_map.iter().filter(|(key, value)| two_map.get(key) != Some(value));
            prop_assert!(one.difference(&two).eq(differing));
            prop_assert_eq!(one == two, one_map == two_map);
        }
    }

    #[test]
    fn clones_share_until_one_of_them_changes() {
        let before: SortedMap<u16, u16> = (0..1000).map(|key| (key, key)).collect();
        let mut after = before.clone();
        assert!(after.shares(&before));
        after.insert(7, 8);
        assert_eq!((before.get(&7), after.get(&7)), (Some(&7), Some(&8)));
        assert_eq!(after.difference(&before).collect::<Vec<_>>(), [(&7, &8)]);
    }
}
