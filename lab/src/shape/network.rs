//! What the network between the nodes is like, and what it does not let through.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use selvedge_model::Mtu;
use serde::{Deserialize, Serialize};

use super::{Count, ShapeError};

/// The network between the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// On how many segments the nodes are.
    pub segments: SegmentCount,
    /// The MTU of the segments, and of the router's and the nodes' links on them.
    pub mtu: LinkMtu,
    /// What does not get through.
    pub blocked: BTreeSet<Blocked>,
    /// Of a hundred packets, how many get lost.
    pub loss: Loss,
}

/// How many segments a lab has: 1 or 2.
pub type SegmentCount = Count<1, 2>;

/// How many packets of a hundred get lost: 0 to 50.
pub type Loss = Count<0, 50>;

/// The MTU of a segment: 1280 to 9000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct LinkMtu(Mtu);

/// Packets to a port, as `udp/4789`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Blocked {
    /// The protocol.
    pub protocol: WithPorts,
    /// The destination port.
    pub port: NonZeroU16,
}

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WithPorts {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl LinkMtu {
    const LEAST: u32 = 1280;
    const MOST: u32 = 9000;

    /// The MTU.
    pub fn get(self) -> Mtu {
        self.0
    }
}

impl Default for LinkMtu {
    /// Ethernet's.
    fn default() -> Self {
        Self(Mtu::ETHERNET)
    }
}

impl TryFrom<u32> for LinkMtu {
    type Error = ShapeError;

    fn try_from(bytes: u32) -> Result<Self, ShapeError> {
        let within = Mtu::new(bytes).ok().filter(|_| (Self::LEAST..=Self::MOST).contains(&bytes));
        within.map(Self).ok_or_else(|| Self::refused(&bytes.to_string()))
    }
}

impl LinkMtu {
    fn refused(value: &str) -> ShapeError {
        ShapeError::Number { value: value.to_owned(), min: Self::LEAST, max: Self::MOST }
    }
}

impl From<LinkMtu> for u32 {
    fn from(mtu: LinkMtu) -> Self {
        mtu.0.bytes()
    }
}

impl FromStr for LinkMtu {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        text.parse::<u32>().map_or_else(|_no_number| Err(Self::refused(text)), Self::try_from)
    }
}

impl fmt::Display for LinkMtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Blocked {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let read = || {
            let (protocol, port) = text.split_once('/')?;
            let protocol = match protocol {
                "tcp" => WithPorts::Tcp,
                "udp" => WithPorts::Udp,
                _ => return None,
            };
            Some(Self { protocol, port: port.parse().ok()? })
        };
        read().ok_or_else(|| ShapeError::Blocked { value: text.to_owned() })
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            WithPorts::Tcp => "tcp",
            WithPorts::Udp => "udp",
        };
        write!(f, "{protocol}/{}", self.port)
    }
}

impl TryFrom<String> for Blocked {
    type Error = ShapeError;

    fn try_from(text: String) -> Result<Self, ShapeError> {
        text.parse()
    }
}

impl From<Blocked> for String {
    fn from(blocked: Blocked) -> Self {
        blocked.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_blocked_is_a_protocol_with_ports_and_a_port() {
        for good in ["udp/4789", "tcp/1", "udp/65535"] {
            assert_eq!(good.parse::<Blocked>().unwrap().to_string(), good);
        }
        for bad in ["udp", "udp/", "udp/0", "udp/65536", "icmp/8", "4789", ""] {
            let error = bad.parse::<Blocked>().unwrap_err().to_string();
            assert_eq!(error, format!("{bad:?} is no protocol and port such as udp/4789 or tcp/443"));
        }
    }

    #[test]
    fn mtus_outside_their_bounds_are_refused_by_value_and_bounds() {
        for good in ["1280", "9000"] {
            assert_eq!(good.parse::<LinkMtu>().unwrap().to_string(), good);
        }
        for bad in ["1279", "9001", "-1", "big"] {
            let error = bad.parse::<LinkMtu>().unwrap_err().to_string();
            assert_eq!(error, format!("{bad:?} is not a number from 1280 to 9000"));
        }
    }
}
