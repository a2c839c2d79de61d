//! What the forwarder of the udp transport is told: everything at once.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The whole wanted state of a forwarder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forwarding {
    /// The UDP port of every node.
    pub port: u16,
    /// This node's address on the underlay, whose family is the underlay's.
    pub local: IpAddr,
    /// The nodes that packets are exchanged with.
    pub peers: Vec<ForwardingPeer>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardingPeer {
    /// Its address on the underlay.
    pub endpoint: IpAddr,
    /// What is behind it: what goes there is sent to it, and nothing else may come from it.
    pub nets: Vec<IpNet>,
}
