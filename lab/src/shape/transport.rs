//! How packets are to reach other nodes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ShapeError;

/// What the agents are told of transports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Direct on a segment, VXLAN between segments.
    #[default]
    Auto,
    /// By a route to the other node.
    Direct,
    /// In VXLAN.
    Vxlan,
    /// Encrypted, in WireGuard.
    Wireguard,
    /// In plain UDP.
    Udp,
    /// As the network between the nodes has it: the lab's router knows where pods are.
    Native,
}

impl Transport {
    /// The words that [`FromStr`] reads.
    pub const WORDS: [&str; 6] = ["auto", "direct", "vxlan", "wireguard", "udp", "native"];

    /// Whether two nodes' packets travel inside others, so that the network between them sees nodes' addresses alone.
    pub fn is_overlay(self, on_one_segment: bool) -> bool {
        match self {
            Self::Auto => !on_one_segment,
            Self::Direct | Self::Native => false,
            Self::Vxlan | Self::Wireguard | Self::Udp => true,
        }
    }
}

impl FromStr for Transport {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        match text {
            "auto" => Ok(Self::Auto),
            "direct" => Ok(Self::Direct),
            "vxlan" => Ok(Self::Vxlan),
            "wireguard" => Ok(Self::Wireguard),
            "udp" => Ok(Self::Udp),
            "native" => Ok(Self::Native),
            _ => Err(ShapeError::Word {
                value: text.to_owned(),
                words: "auto, direct, vxlan, wireguard, udp and native",
            }),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Direct => "direct",
            Self::Vxlan => "vxlan",
            Self::Wireguard => "wireguard",
            Self::Udp => "udp",
            Self::Native => "native",
        })
    }
}
