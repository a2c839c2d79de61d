//! Who is in the lab and under which addresses: a pure function of its [`Shape`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use selvedge_model::{NodeName, PodKey};
use serde::{Deserialize, Serialize};

use crate::shape::{Family, Shape};

/// A place that packets are sent from and to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A node.
    Node(NodeName),
    /// A pod.
    Pod(PodKey),
    /// A node, by the address that it has on the bridge that its pods are on.
    Bridge(NodeName),
    /// A node, by the address that it has on overlays: the network address of its pods' subnet.
    Overlay(NodeName),
    /// The host beyond the router.
    Outside,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) | Self::Bridge(node) | Self::Overlay(node) => node.fmt(f),
            Self::Pod(pod) => pod.fmt(f),
            Self::Outside => f.write_str("outside"),
        }
    }
}

/// The lab on paper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What was asked for.
    pub shape: Shape,
    /// The nodes, in order.
    pub nodes: Vec<PlannedNode>,
}

/// One node on paper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedNode {
    /// Its name: `node-a` to `node-z`, then `node-27` and on.
    pub name: NodeName,
    /// The segment that it is on.
    pub segment: Segment,
    /// Its addresses on the segment, with the segment's prefix length, one a family.
    pub addresses: Vec<IpNet>,
    /// The subnets that its pods get addresses from, one a family.
    pub pod_cidrs: Vec<IpNet>,
    /// Its pods, in order.
    pub pods: Vec<PodKey>,
}

impl PlannedNode {
    /// The node's address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().map(IpNet::addr).find(|a| Family::of(*a) == family)
    }
}

impl Plan {
    /// Names and addresses everything.
    pub fn new(shape: Shape) -> Self {
        let nodes = (0..shape.nodes.get()).map(|number| planned_node(&shape, number)).collect();
        Self { shape, nodes }
    }

    /// Whether what two nodes' pods send each other travels inside other packets.
    pub fn is_overlay(&self, one: &PlannedNode, other: &PlannedNode) -> bool {
        self.shape.transport.is_overlay(one.segment == other.segment)
    }

    /// Every pod with the node it is on.
    pub fn pods(&self) -> impl Iterator<Item = (&PlannedNode, &PodKey)> {
        self.nodes.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod)))
    }
}

/// A segment that nodes are on, each in a namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Segment {
    /// 172.30.0.0/24, fd00:30::/64.
    #[serde(rename = "segment")]
    First,
    /// 172.30.1.0/24, fd00:30:1::/64.
    #[serde(rename = "segment-2")]
    Second,
}

impl Segment {
    /// Those of a lab, in order.
    pub fn of(shape: &Shape) -> &'static [Self] {
        if shape.network.segments.get() == 1 { &[Self::First] } else { &[Self::First, Self::Second] }
    }

    /// The router's address on it, with its prefix length: 172.30.0.1/24 and fd00:30::1/64 on the first.
    pub fn router(self, family: Family) -> IpNet {
        self.address(family, 1)
    }

    /// The router's link on it.
    pub fn router_link(self) -> &'static str {
        match self {
            Self::First => "eth0",
            Self::Second => "eth2",
        }
    }

    /// The segment of a node: the first half of the nodes, the middle one among them, is on the first.
    fn of_node(shape: &Shape, number: u8) -> Self {
        let halves = Self::of(shape).len() > 1;
        if halves && number >= shape.nodes.get().div_ceil(2) { Self::Second } else { Self::First }
    }

    fn address(self, family: Family, host: u8) -> IpNet {
        let number = match self {
            Self::First => 0,
            Self::Second => 1,
        };
        match family {
            Family::V4 => v4([172, 30, number, host], 24),
            Family::V6 => v6([0xfd00, 0x30, u16::from(number), 0, 0, 0, 0, written_alike(host)]),
        }
    }
}

impl fmt::Display for Segment {
    /// The name of its namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "segment",
            Self::Second => "segment-2",
        })
    }
}

/// The router's address towards the outside: 192.0.2.1/24, 2001:db8::1/64 (RFC 5737, RFC 3849).
pub fn router_towards_outside(family: Family) -> IpNet {
    towards_outside(family, 1)
}

/// The outside host's address: 192.0.2.2/24, 2001:db8::2/64.
pub fn outside(family: Family) -> IpNet {
    towards_outside(family, 2)
}

fn planned_node(shape: &Shape, number: u8) -> PlannedNode {
    let families = shape.family.families().iter().copied();
    let segment = Segment::of_node(shape, number);
    PlannedNode {
        name: node_name(number),
        segment,
        addresses: families.clone().map(|family| segment.address(family, 11 + number)).collect(),
        pod_cidrs: families.map(|family| pod_cidr(family, number)).collect(),
        pods: (0..shape.pods.get()).map(|index| pod_key(number, index)).collect(),
    }
}

fn node_name(number: u8) -> NodeName {
    let text = match number {
        0..26 => format!("node-{}", char::from(b'a' + number)),
        _ => format!("node-{}", u16::from(number) + 1),
    };
    valid(text.parse())
}

/// `web-N` and `client-N` for the first two pods of node number N, `extra-N-2` and on for the others.
fn pod_key(node: u8, index: u8) -> PodKey {
    let name = match index {
        0 => format!("web-{node}"),
        1 => format!("client-{node}"),
        _ => format!("extra-{node}-{index}"),
    };
    PodKey { namespace: "default".to_owned(), name }
}

fn pod_cidr(family: Family, node: u8) -> IpNet {
    match family {
        Family::V4 => v4([10, 244, node, 0], 24),
        Family::V6 => v6([0xfd00, 0x10, 0x244, u16::from(node), 0, 0, 0, 0]),
    }
}

fn towards_outside(family: Family, host: u8) -> IpNet {
    match family {
        Family::V4 => v4([192, 0, 2, host], 24),
        Family::V6 => v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)]),
    }
}

/// The number whose hexadecimal digits are the decimal digits of `host`: 172.30.0.11 goes with fd00:30::11.
fn written_alike(host: u8) -> u16 {
    let host = u16::from(host);
    (host / 100 * 16 + host / 10 % 10) * 16 + host % 10
}

fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::from(octets), prefix).into()
}

fn v6(segments: [u16; 8]) -> IpNet {
    Ipv6Net::new_assert(Ipv6Addr::from(segments), 64).into()
}

/// A name that this crate made itself.
#[expect(clippy::panic, reason = "the names are constants but for numbers; a test parses every one")]
pub(crate) fn valid<T, E: fmt::Display>(name: Result<T, E>) -> T {
    name.unwrap_or_else(|error| panic!("the lab made an invalid name: {error}"))
}

#[cfg(test)]
mod tests;
