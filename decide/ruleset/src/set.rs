//! Sets and maps.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use selvedge_model::{IfName, MacAddr, SortedMap};

use crate::rule::{Comment, Verdict};
use crate::value::{KeyType, L4Proto, Part, Value};

/// What a set holds: all that cannot be changed once the set is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetType {
    /// The types of the key's parts, at least one.
    pub key: Vec<KeyType>,
    /// True if keys may be ranges and prefixes.
    pub interval: bool,
    /// True if elements may have a timeout.
    pub timeout: bool,
    /// Where packets put elements in and refresh them: how many it has room for. Its elements are then the kernel's own
    /// affair: no part of what is desired, added and deleted only by commands of their own.
    pub dynamic: Option<NonZeroU32>,
    /// What the key leads to.
    pub data: DataType,
}

/// What a set's keys lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataType {
    /// Nothing: it is a plain set.
    Nothing,
    /// Verdicts.
    Verdict,
    /// Values of these types.
    Values(Vec<KeyType>),
}

/// What one element's key leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// Nothing: it is in a plain set.
    Nothing,
    /// A verdict.
    Verdict(Verdict),
    /// Values.
    Values(Vec<Value>),
}

/// An element's key: one part for each type of the set's key.
pub type Key = Vec<Part>;

/// All of an element but its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// What the key leads to.
    pub data: Data,
    /// After which time the kernel takes it away.
    pub timeout: Option<Duration>,
    /// Its comment, if it has one.
    pub comment: Option<Comment>,
}

impl From<Data> for Element {
    fn from(data: Data) -> Self {
        Self { data, timeout: None, comment: None }
    }
}

/// A set or a map. Every element has the set's type. Clones share the elements that haven't changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    set_type: Arc<SetType>,
    elements: SortedMap<Key, Element>,
}

/// Rust types that can be a set's key or a map's data.
pub trait SetKey {
    /// The types of the parts.
    fn types() -> Vec<KeyType>;
    /// True if the type has keys that are more than one value.
    const INTERVAL: bool;
    /// The parts of this key.
    fn parts(self) -> Vec<Part>;
}

/// Rust types whose every value is a single one, so that a map can have them as data.
pub trait SetData: SetKey {}

impl Set {
    /// A set of these keys, with the flag `interval` if the Rust type calls for it.
    pub fn of<K: SetKey>(keys: impl IntoIterator<Item = K>) -> Self {
        let elements = keys.into_iter().map(|key| (key.parts(), Data::Nothing));
        Self::build::<K>(DataType::Nothing, elements)
    }

    /// A verdict map.
    pub fn verdicts<K: SetKey>(elements: impl IntoIterator<Item = (K, Verdict)>) -> Self {
        let elements = elements.into_iter().map(|(key, verdict)| (key.parts(), Data::Verdict(verdict)));
        Self::build::<K>(DataType::Verdict, elements)
    }

    /// A map from keys to values.
    pub fn map<K: SetKey, V: SetData>(elements: impl IntoIterator<Item = (K, V)>) -> Self {
        let values = |value: V| value.parts().into_iter().map(|part| part.first().clone()).collect();
        let elements = elements.into_iter().map(|(key, value)| (key.parts(), Data::Values(values(value))));
        Self::build::<K>(DataType::Values(V::types()), elements)
    }

    fn build<K: SetKey>(data: DataType, elements: impl Iterator<Item = (Key, Data)>) -> Self {
        let set_type =
            SetType { key: K::types(), interval: K::INTERVAL, timeout: false, dynamic: None, data };
        let elements = elements.map(|(key, data)| (key, Element::from(data))).collect();
        Self::merged(set_type, elements)
    }

    /// A set of so many elements at most, which come and go with packets: it holds none that could be desired.
    pub fn dynamic<K: SetKey>(size: NonZeroU32) -> Self {
        let key = K::types();
        let data = DataType::Nothing;
        let set_type = SetType { key, interval: K::INTERVAL, timeout: true, dynamic: Some(size), data };
        Self::holding(set_type, SortedMap::default())
    }

    /// The set with elements as the kernel lists them; `None` if one is not of the set's type.
    pub fn listed(set_type: SetType, elements: impl IntoIterator<Item = (Key, Element)>) -> Option<Self> {
        let elements: SortedMap<Key, Element> = elements.into_iter().collect();
        let fits = elements.iter().all(|(key, element)| set_type.fits(key, element));
        fits.then(|| Self::holding(set_type, elements))
    }

    /// The set with elements that the kernel takes away after a time.
    #[must_use]
    pub fn with_timeouts<K: SetKey>(mut self, elements: impl IntoIterator<Item = (K, Duration)>) -> Self {
        Arc::make_mut(&mut self.set_type).timeout = true;
        for (key, timeout) in elements {
            let (key, element) =
                (key.parts(), Element { timeout: Some(timeout), ..Element::from(Data::Nothing) });
            debug_assert!(self.set_type.fits(&key, &element), "a key of the set's own type");
            self.elements.insert(key, element);
        }
        self
    }

    /// The set with a comment on the element of that key, if it has one.
    #[must_use]
    pub fn comment(mut self, key: impl SetKey, comment: Comment) -> Self {
        let key = key.parts();
        if let Some(element) = self.elements.get(&key).cloned() {
            self.elements.insert(key, Element { comment: Some(comment), ..element });
        }
        self
    }

    /// What it holds.
    pub fn set_type(&self) -> &SetType {
        &self.set_type
    }

    /// Its elements by key.
    pub fn elements(&self) -> &SortedMap<Key, Element> {
        &self.elements
    }

    /// True if it shares its elements with the other, and so has the same.
    pub fn shares(&self, other: &Self) -> bool {
        self.elements.shares(&other.elements)
    }

    /// The set with these keys leading to something else, or nowhere any more. Where none of that is a change, it goes on
    /// sharing its elements.
    #[must_use]
    pub fn edited(mut self, edits: impl IntoIterator<Item = (Key, Option<Element>)>) -> Self {
        for (key, element) in edits {
            if self.elements.get(&key) == element.as_ref() {
                continue;
            }
            match element {
                Some(element) => self.elements.insert(key, element),
                None => self.elements.remove(&key),
            }
        }
        self
    }

    fn holding(set_type: SetType, elements: SortedMap<Key, Element>) -> Self {
        Self { set_type: Arc::new(set_type), elements }
    }

    /// The kernel refuses ranges that overlap: in a plain set of single-part ranges they become one.
    fn merged(set_type: SetType, elements: SortedMap<Key, Element>) -> Self {
        if !set_type.interval || set_type.key.len() != 1 || set_type.data != DataType::Nothing {
            return Self::holding(set_type, elements);
        }
        let mut ranges: Vec<Part> = Vec::new();
        for range in elements.keys().flatten() {
            match ranges.last_mut() {
                Some(last) if range.first() <= last.last() => last.stretch(range),
                _ => ranges.push(range.clone()),
            }
        }
        let plain = || Element::from(Data::Nothing);
        Self::holding(set_type, ranges.into_iter().map(|range| (vec![range], plain())).collect())
    }
}

impl SetType {
    /// True if an element can be in a set of this type.
    pub fn fits(&self, key: &[Part], element: &Element) -> bool {
        let key_fits = key.iter().map(|part| part.first().key_type()).eq(self.key.iter().copied())
            && (self.interval || key.iter().all(Part::is_single));
        let data_fits = match (&self.data, &element.data) {
            (DataType::Nothing, Data::Nothing) | (DataType::Verdict, Data::Verdict(_)) => true,
            (DataType::Values(types), Data::Values(values)) => {
                values.iter().map(Value::key_type).eq(types.iter().copied())
            }
            _ => false,
        };
        key_fits && data_fits && (self.timeout || element.timeout.is_none())
    }
}

/// Declares a Rust type that is one value of a key type.
macro_rules! single_key {
    ($rust:ty, $key_type:ident, $variant:ident) => {
        impl SetKey for $rust {
            const INTERVAL: bool = false;

            fn types() -> Vec<KeyType> {
                vec![KeyType::$key_type]
            }

            fn parts(self) -> Vec<Part> {
                vec![Part::one(Value::$variant(self))]
            }
        }

        impl SetData for $rust {}
    };
}

single_key!(Ipv4Addr, Ipv4Addr, Ipv4);
single_key!(Ipv6Addr, Ipv6Addr, Ipv6);
single_key!(MacAddr, EtherAddr, Ether);
single_key!(L4Proto, InetProto, Proto);
single_key!(IfName, IfName, IfName);
// A bare number is a port; marks are a newtype's job.
single_key!(u16, InetService, Port);

/// Declares a Rust type that is a range of values of a key type.
macro_rules! range_key {
    ($rust:ty, $key_type:ident, $parts:expr) => {
        impl SetKey for $rust {
            const INTERVAL: bool = true;

            fn types() -> Vec<KeyType> {
                vec![KeyType::$key_type]
            }

            fn parts(self) -> Vec<Part> {
                let parts: fn($rust) -> Part = $parts;
                vec![parts(self)]
            }
        }
    };
}

range_key!(Ipv4Net, Ipv4Addr, |net| IpNet::V4(net).into());
range_key!(Ipv6Net, Ipv6Addr, |net| IpNet::V6(net).into());
// An empty range stands for its first port: a set can hold no empty one.
range_key!(RangeInclusive<u16>, InetService, |ports| {
    let (first, last) = ports.into_inner();
    Part::range(Value::Port(first), Value::Port(last)).unwrap_or_else(|| Part::one(Value::Port(first)))
});

/// Declares tuples of keys, written `a . b` in nft.
macro_rules! concatenation {
    ($($name:ident)+) => {
        #[expect(non_snake_case, reason = "the tuple's members are called like their types")]
        impl<$($name: SetKey),+> SetKey for ($($name,)+) {
            const INTERVAL: bool = $($name::INTERVAL ||)+ false;

            fn types() -> Vec<KeyType> {
                let mut types = Vec::new();
                $(types.extend($name::types());)+
                types
            }

            fn parts(self) -> Vec<Part> {
                let ($($name,)+) = self;
                let mut parts = Vec::new();
                $(parts.extend($name.parts());)+
                parts
            }
        }

        impl<$($name: SetData),+> SetData for ($($name,)+) {}
    };
}

concatenation!(A B);
concatenation!(A B C);
concatenation!(A B C D);
concatenation!(A B C D E);
