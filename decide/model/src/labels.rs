//! Labels of pods and namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// metadata.labels: a set that clones share. Displayed as `{app=web,tier=front}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Arc<BTreeMap<String, String>>);

impl Deref for Labels {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        Self(Arc::new(labels))
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        BTreeMap::from_iter(labels).into()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (key, value)) in self.iter().enumerate() {
            let separator = if i == 0 { "" } else { "," };
            write!(f, "{separator}{key}={value}")?;
        }
        f.write_str("}")
    }
}

/// Sets of labels, each kept once: the pods of one template have the same.
#[derive(Debug, Default)]
pub struct SharedLabels {
    sets: BTreeSet<Labels>,
    /// How many sets there may be until it is looked which are still in use.
    room: usize,
}

impl SharedLabels {
    /// The least number of sets at which it is looked which are in use.
    const LEAST: usize = 64;

    /// These labels, by the copy that others have.
    pub fn share(&mut self, labels: Labels) -> Labels {
        if let Some(shared) = self.sets.get(&labels) {
            return shared.clone();
        }
        if self.sets.len() >= self.room.max(Self::LEAST) {
            self.sets.retain(|set| Arc::strong_count(&set.0) > 1);
            self.room = 2 * self.sets.len();
        }
        self.sets.insert(labels.clone());
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_shown_as_people_write_them() {
        let pairs =
            [("tier", "front"), ("app", "web")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(Labels::from_iter(pairs).to_string(), "{app=web,tier=front}");
        assert_eq!(Labels::default().to_string(), "{}");
    }

    #[test]
    fn equal_labels_are_kept_once_and_as_long_as_somebody_has_them() {
        let labels = |value: usize| Labels::from_iter([("app".to_owned(), value.to_string())]);
        let mut shared = SharedLabels::default();
        let (one, other) = (shared.share(labels(0)), shared.share(labels(0)));
        assert!(Arc::ptr_eq(&one.0, &other.0));
        for value in 0..10 * SharedLabels::LEAST {
            shared.share(labels(value));
        }
        assert!(shared.sets.len() <= SharedLabels::LEAST, "{}", shared.sets.len());
        assert!(Arc::ptr_eq(&one.0, &shared.share(labels(0)).0));
    }
}
