//! Values that are made when somebody looks at them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that is made when it is first looked at: a node may have thousands of peers, of which nobody asks between one
/// change and the next.
#[derive(Clone)]
pub struct Deferred<T> {
    made: OnceLock<T>,
    make: Arc<dyn Fn() -> T + Send + Sync>,
}

impl<T> Deferred<T> {
    /// What that will make.
    pub fn until_asked(make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { made: OnceLock::new(), make: Arc::new(make) }
    }
}

impl<T: Default + 'static> From<T> for Deferred<T> {
    fn from(made: T) -> Self {
        Self { made: made.into(), make: Arc::new(T::default) }
    }
}

impl<T: Default + 'static> Default for Deferred<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T> Deref for Deferred<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.made.get_or_init(|| (self.make)())
    }
}

impl<T> DerefMut for Deferred<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.made.get_or_init(|| (self.make)());
        self.made.get_mut().expect("it has just been made")
    }
}

impl<T: fmt::Debug> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Deferred<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Deferred<T> {}

impl<T: Serialize> Serialize for Deferred<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de> + Default + 'static> Deserialize<'de> for Deferred<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn it_is_made_once_and_only_if_somebody_looks() {
        let made = Arc::new(AtomicUsize::new(0));
        let times = Arc::clone(&made);
        let mut deferred = Deferred::until_asked(move || vec![times.fetch_add(1, Ordering::Relaxed)]);
        assert_eq!(made.load(Ordering::Relaxed), 0);
        assert_eq!((deferred.len(), deferred[0], made.load(Ordering::Relaxed)), (1, 0, 1));
        deferred.push(7);
        assert_eq!(
            (serde_json::to_string(&deferred).unwrap(), made.load(Ordering::Relaxed)),
            ("[0,7]".to_owned(), 1)
        );
        assert_eq!(serde_json::from_str::<Deferred<Vec<usize>>>("[0,7]").unwrap(), deferred);
    }
}
