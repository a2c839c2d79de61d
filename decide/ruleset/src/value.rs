//! Values that stand in a packet or belong to it, each with its own type.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use selvedge_model::{IfName, MacAddr};

/// Which internet protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct L4Proto(pub u8);

impl L4Proto {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
}

/// The type of an ICMP message (RFC 792).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpType(pub u8);

impl IcmpType {
    /// Echo reply.
    pub const ECHO_REPLY: Self = Self(0);
    /// Redirect.
    pub const REDIRECT: Self = Self(5);
    /// Echo request.
    pub const ECHO_REQUEST: Self = Self(8);
}

/// The type of an ICMPv6 message (RFC 4443, RFC 4861).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Icmp6Type(pub u8);

impl Icmp6Type {
    /// Echo request.
    pub const ECHO_REQUEST: Self = Self(128);
    /// Echo reply.
    pub const ECHO_REPLY: Self = Self(129);
    /// Router solicitation.
    pub const ROUTER_SOLICIT: Self = Self(133);
    /// Router advertisement.
    pub const ROUTER_ADVERT: Self = Self(134);
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICIT: Self = Self(135);
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERT: Self = Self(136);
    /// Redirect.
    pub const REDIRECT: Self = Self(137);
}

/// An Ethernet frame's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IP: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// IPv6.
    pub const IP6: Self = Self(0x86dd);
}

/// Whom a packet was sent to on its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketType {
    /// This host.
    Host,
    /// Everybody.
    Broadcast,
    /// A group.
    Multicast,
    /// Another host.
    Other,
}

/// What kind of address a destination is, seen from this host's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressType {
    /// One of this host's own.
    Local,
    /// Some other host's.
    Unicast,
    /// A broadcast address.
    Broadcast,
    /// A group.
    Multicast,
}

/// The type of one part of a set's key or of a map's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// `ipv4_addr`
    Ipv4Addr,
    /// `ipv6_addr`
    Ipv6Addr,
    /// `ether_addr`
    EtherAddr,
    /// `ether_type`
    EtherType,
    /// `inet_proto`
    InetProto,
    /// `inet_service`
    InetService,
    /// `mark`
    Mark,
    /// `ifname`
    IfName,
}

/// One value of a [`KeyType`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// An Ethernet address.
    Ether(MacAddr),
    /// An Ethernet frame's protocol.
    EtherType(EtherType),
    /// An IP protocol.
    Proto(L4Proto),
    /// A port.
    Port(u16),
    /// A packet mark.
    Mark(u32),
    /// An interface's name.
    IfName(IfName),
}

impl Value {
    /// The value's type.
    pub fn key_type(&self) -> KeyType {
        match self {
            Self::Ipv4(_) => KeyType::Ipv4Addr,
            Self::Ipv6(_) => KeyType::Ipv6Addr,
            Self::Ether(_) => KeyType::EtherAddr,
            Self::EtherType(_) => KeyType::EtherType,
            Self::Proto(_) => KeyType::InetProto,
            Self::Port(_) => KeyType::InetService,
            Self::Mark(_) => KeyType::Mark,
            Self::IfName(_) => KeyType::IfName,
        }
    }
}

/// One part of an element's key: a value, or all values from one to another, both included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    first: Value,
    last: Value,
}

impl Part {
    /// A single value.
    pub fn one(value: Value) -> Self {
        Self { last: value.clone(), first: value }
    }

    /// All values from `first` to `last`; `None` if they differ in type or are in the wrong order.
    pub fn range(first: Value, last: Value) -> Option<Self> {
        (first.key_type() == last.key_type() && first <= last).then_some(Self { first, last })
    }

    /// The least value.
    pub fn first(&self) -> &Value {
        &self.first
    }

    /// The greatest value.
    pub fn last(&self) -> &Value {
        &self.last
    }

    /// True if there is just one value.
    pub fn is_single(&self) -> bool {
        self.first == self.last
    }
}

impl Part {
    /// Grows to reach at least as far as `other`.
    pub(crate) fn stretch(&mut self, other: &Self) {
        if other.last > self.last {
            self.last = other.last.clone();
        }
    }
}

impl From<IpNet> for Part {
    /// All addresses of a network, the first and the last included.
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self { first: Value::Ipv4(net.network()), last: Value::Ipv4(net.broadcast()) },
            IpNet::V6(net) => Self { first: Value::Ipv6(net.network()), last: Value::Ipv6(net.broadcast()) },
        }
    }
}
