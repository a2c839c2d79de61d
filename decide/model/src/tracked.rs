//! Conversations as the kernel tracks them.

use std::net::IpAddr;

/// An entry of the kernel's connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tracked {
    /// The IP protocol's number.
    pub protocol: u8,
    /// The packets of who opened it, as they come in.
    pub original: Tuple,
    /// The answers, as they come in: where addresses are rewritten, not just the other way round.
    pub reply: Tuple,
    /// The zone that it is tracked in, 0 by default.
    pub zone: u16,
    /// The entry's number, by which it is told from one that comes after it.
    pub id: u32,
}

/// What packets of one direction have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Where they come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// By what else they are told from others.
    pub detail: Detail,
}

/// What tells conversations between the same addresses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Detail {
    /// Ports, or what stands for them.
    Ports {
        /// The source's.
        source: u16,
        /// The destination's.
        destination: u16,
    },
    /// The head of an ICMP or ICMPv6 query.
    Icmp {
        /// Its identifier.
        id: u16,
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// Nothing: one conversation of that protocol between two addresses.
    Nothing,
}

impl Tuple {
    /// The ports, source first.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.detail {
            Detail::Ports { source, destination } => Some((source, destination)),
            Detail::Icmp { .. } | Detail::Nothing => None,
        }
    }
}
