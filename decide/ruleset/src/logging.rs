//! What is told of packets, and how often.

use std::num::NonZeroU32;

use crate::headers::Headers;

/// What is told of a packet to whoever listens to a group of the netfilter log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Log {
    /// What it is told with.
    pub prefix: LogPrefix,
    /// The group.
    pub group: u16,
    /// How many bytes of the packet are told at most; without it all that the listener asked for.
    pub snaplen: Option<NonZeroU32>,
}

/// A text before what is told: at most [`LogPrefix::MAX`] bytes, without control characters and double quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPrefix(String);

impl LogPrefix {
    /// What the kernel keeps, in bytes: NF_LOG_PREFIXLEN without the terminator.
    pub const MAX: usize = 127;

    /// The text as it is; `None` if it is too long, or if nft couldn't read it back.
    pub fn new(text: &str) -> Option<Self> {
        let plain = text.len() <= Self::MAX && !text.contains(|c: char| c == '"' || c.is_control());
        plain.then(|| Self(text.to_owned()))
    }

    /// The prefix as text; empty if there is none.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A packet that was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// What it was told with.
    pub prefix: String,
    /// The number of the interface that it came in by, if it came in.
    pub iif: Option<NonZeroU32>,
    /// The number of the interface that it would leave by, if that was known.
    pub oif: Option<NonZeroU32>,
    /// Its mark.
    pub mark: u32,
    /// What its headers say; `None` if it is no whole IP packet.
    pub headers: Option<Headers>,
}

/// How fast packets may come: that many in a time, and some more at once before they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// How many.
    pub rate: NonZeroU32,
    /// In which time.
    pub per: Per,
    /// How many at once.
    pub burst: NonZeroU32,
    /// True if it is the packets beyond that go on: `limit rate over`.
    pub over: bool,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
}

impl Limit {
    /// So many a second, and so many at once.
    pub const fn per_second(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { rate, per: Per::Second, burst, over: false }
    }
}

#[cfg(test)]
mod tests;
