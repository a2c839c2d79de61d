//! Filling collections.

/// Iterators that fill an ordered collection item by item.
///
/// `collect` sorts what it gathers first, with code of its own for every iterator: 5 KiB a place, which a plugin that is
/// loaded for every pod can do without.
pub trait Gather: Iterator + Sized {
    /// The collection of all items.
    fn gather<C: Default + Extend<Self::Item>>(self) -> C {
        let mut all = C::default();
        all.extend(self);
        all
    }
}

impl<I: Iterator> Gather for I {}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn what_is_gathered_is_what_would_be_collected() {
        let pairs = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd')];
        let (gathered, collected): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (pairs.into_iter().gather(), pairs.into_iter().collect());
        assert_eq!(gathered, collected);
        let gathered: BTreeSet<i32> = pairs.into_iter().map(|(key, _)| key).gather();
        assert_eq!(gathered, BTreeSet::from([1, 2, 3]));
    }
}
