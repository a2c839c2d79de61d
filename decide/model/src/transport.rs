//! How packets reach other nodes.

use std::fmt;
use std::str::FromStr;

/// A way of packets between two nodes, from the least to the most demanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// By a route to the other node's own address, which is on a segment of ours.
    Direct,
    /// By the node's other routes: the network between the nodes knows where pods are.
    Native,
    /// In VXLAN (RFC 7348).
    Vxlan,
    /// In plain UDP, by a forwarder in user space.
    Udp,
    /// Encrypted, in WireGuard.
    Wireguard,
}

impl Transport {
    /// Every one, from the least to the most demanding.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Native, Self::Vxlan, Self::Udp, Self::Wireguard];

    /// True if packets travel inside others: the network between the nodes sees the nodes' addresses alone.
    pub fn is_overlay(self) -> bool {
        matches!(self, Self::Vxlan | Self::Udp | Self::Wireguard)
    }

    /// The word for it in configurations and annotations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Native => "native",
            Self::Vxlan => "vxlan",
            Self::Udp => "udp",
            Self::Wireguard => "wireguard",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a node's owner wishes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Choice {
    /// What serves: a direct route where the peer is on a segment of ours, an overlay elsewhere.
    #[default]
    Auto,
    /// That one towards every peer.
    Of(Transport),
}

impl Choice {
    /// The annotation of a Node that says it.
    pub const ANNOTATION: &str = "selvedge.dev/transport";

    /// What two nodes use that wish so: the more demanding of both, so that both come to the same.
    #[must_use]
    pub fn with(self, peer: Self) -> Self {
        self.max(peer)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(transport) => transport.fmt(f),
        }
    }
}

/// The text names no transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be auto, direct, native, vxlan, udp or wireguard")]
pub struct NoTransport;

impl FromStr for Choice {
    type Err = NoTransport;

    fn from_str(text: &str) -> Result<Self, NoTransport> {
        let named = Transport::ALL.into_iter().find(|transport| transport.as_str() == text);
        match named {
            Some(transport) => Ok(Self::Of(transport)),
            None if text == "auto" => Ok(Self::Auto),
            None => Err(NoTransport),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for choice in Transport::ALL.map(Choice::Of).into_iter().chain([Choice::Auto]) {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("VXLAN".parse::<Choice>(), Err(NoTransport));
    }

    #[test]
    fn both_ends_come_to_the_same() {
        let all = || Transport::ALL.map(Choice::Of).into_iter().chain([Choice::Auto]);
        for (a, b) in all().flat_map(|a| all().map(move |b| (a, b))) {
            assert_eq!(a.with(b), b.with(a));
        }
        assert_eq!(Choice::Auto.with(Choice::Of(Transport::Direct)), Choice::Of(Transport::Direct));
    }
}
