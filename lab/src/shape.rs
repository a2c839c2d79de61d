//! What kind of lab is asked for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod network;
mod transport;

pub use network::{Blocked, LinkMtu, Loss, Network, SegmentCount, WithPorts};
pub use transport::Transport;

/// The lab that is asked for: how many nodes and pods, and how they are wired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How many nodes.
    pub nodes: NodeCount,
    /// How many pods on each node.
    pub pods: PodCount,
    /// How pods are attached to their node.
    pub attach: Attach,
    /// The IP families that everything has addresses of.
    pub family: FamilyChoice,
    /// How packets are to reach other nodes.
    pub transport: Transport,
    /// The network between the nodes.
    pub network: Network,
}

impl Shape {
    /// A lab on one segment that lets everything through, with the default transport.
    pub fn new(nodes: NodeCount, pods: PodCount, attach: Attach, family: FamilyChoice) -> Self {
        Self { nodes, pods, attach, family, transport: Transport::default(), network: Network::default() }
    }
}

/// How many nodes a lab has: 1 to 50.
pub type NodeCount = Count<1, 50>;

/// How many pods each node of a lab has: 0 to 100.
pub type PodCount = Count<0, 100>;

/// A number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Count<const MIN: u8, const MAX: u8>(u8);

/// A value that no lab can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A number that is none, or is out of bounds.
    #[error("{value:?} is not a number from {min} to {max}")]
    Number {
        /// The text as given.
        value: String,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// No protocol and port.
    #[error("{value:?} is no protocol and port such as udp/4789 or tcp/443")]
    Blocked {
        /// The text as given.
        value: String,
    },
    /// A word that is not among those there are.
    #[error("{value:?} is none of {words}")]
    Word {
        /// The word as given.
        value: String,
        /// The words there are.
        words: &'static str,
    },
}

impl<const MIN: u8, const MAX: u8> Count<MIN, MAX> {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ShapeError::Number`] outside them.
    pub fn new(number: u8) -> Result<Self, ShapeError> {
        if (MIN..=MAX).contains(&number) { Ok(Self(number)) } else { Err(Self::refused(&number.to_string())) }
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }

    fn refused(value: &str) -> ShapeError {
        ShapeError::Number { value: value.to_owned(), min: MIN.into(), max: MAX.into() }
    }
}

impl<const MIN: u8, const MAX: u8> Default for Count<MIN, MAX> {
    /// The least.
    fn default() -> Self {
        Self(MIN)
    }
}

impl<const MIN: u8, const MAX: u8> FromStr for Count<MIN, MAX> {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        text.parse().map_or_else(|_no_number| Err(Self::refused(text)), Self::new)
    }
}

impl<const MIN: u8, const MAX: u8> TryFrom<u8> for Count<MIN, MAX> {
    type Error = ShapeError;

    fn try_from(number: u8) -> Result<Self, ShapeError> {
        Self::new(number)
    }
}

impl<const MIN: u8, const MAX: u8> From<Count<MIN, MAX>> for u8 {
    fn from(count: Count<MIN, MAX>) -> Self {
        count.0
    }
}

impl<const MIN: u8, const MAX: u8> fmt::Display for Count<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How pods are attached to their node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// A routed veth each.
    Routed,
    /// Ports of one bridge.
    Bridge,
}

impl Attach {
    /// The words that [`FromStr`] reads.
    pub const WORDS: [&str; 2] = ["routed", "bridge"];
}

impl FromStr for Attach {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        match text {
            "routed" => Ok(Self::Routed),
            "bridge" => Ok(Self::Bridge),
            _ => Err(ShapeError::Word { value: text.to_owned(), words: "routed and bridge" }),
        }
    }
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Routed => "routed",
            Self::Bridge => "bridge",
        })
    }
}

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Which IP families a lab has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FamilyChoice {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both.
    Dual,
}

impl FamilyChoice {
    /// The words that [`FromStr`] reads.
    pub const WORDS: [&str; 3] = ["ipv4", "ipv6", "dual"];

    /// The families, IPv4 first.
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::Ipv4 => &[Family::V4],
            Self::Ipv6 => &[Family::V6],
            Self::Dual => &[Family::V4, Family::V6],
        }
    }
}

impl FromStr for FamilyChoice {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        match text {
            "ipv4" => Ok(Self::Ipv4),
            "ipv6" => Ok(Self::Ipv6),
            "dual" => Ok(Self::Dual),
            _ => Err(ShapeError::Word { value: text.to_owned(), words: "ipv4, ipv6 and dual" }),
        }
    }
}

impl fmt::Display for FamilyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Dual => "IPv4 and IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_outside_their_bounds_are_refused_by_value_and_bounds() {
        assert_eq!("50".parse::<NodeCount>().unwrap().get(), 50);
        assert_eq!("0".parse::<PodCount>().unwrap().get(), 0);
        for bad in ["0", "51", "300", "-1", "three", ""] {
            let error = bad.parse::<NodeCount>().unwrap_err();
            assert_eq!(error.to_string(), format!("{bad:?} is not a number from 1 to 50"));
        }
    }

    #[test]
    fn every_word_that_is_offered_is_read() {
        assert!(Attach::WORDS.iter().all(|word| word.parse::<Attach>().is_ok()));
        assert!(FamilyChoice::WORDS.iter().all(|word| word.parse::<FamilyChoice>().is_ok()));
        let error = "both".parse::<FamilyChoice>().unwrap_err();
        assert_eq!(error.to_string(), "\"both\" is none of ipv4, ipv6 and dual");
    }
}
