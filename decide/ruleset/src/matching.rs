//! What a rule looks for in a packet, built by functions named as nft spells them.

use std::borrow::Cow;
use std::net::Ipv6Addr;
use std::ops::Not;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use selvedge_model::{IfName, MacAddr};

use crate::field::{Field, Needs};
use crate::name::SetName;
use crate::value::{AddressType, EtherType, Icmp6Type, IcmpType, IpVersion, L4Proto, PacketType};

/// A test and whether it must hold or must not; `!` turns it round.
///
/// A negated test still needs the packet to have what it looks at: `!ip_saddr(net)` matches no IPv6 packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// True if the test must fail.
    pub negated: bool,
    /// The test.
    pub test: Test,
}

/// One test of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The interface it came in by.
    Iif(IfPattern),
    /// The interface it leaves by.
    Oif(IfPattern),
    /// The IP version, in the family `inet`.
    NfProto(IpVersion),
    /// The transport protocol.
    L4Proto(L4Proto),
    /// Whom it was sent to on its segment.
    PacketType(PacketType),
    /// The packet mark, after the bitwise and with the mask.
    Mark {
        /// The bits that are looked at.
        mask: u32,
        /// What they must be.
        value: u32,
    },
    /// The IPv4 source or destination.
    Ip(End, Ipv4Net),
    /// The IPv6 source or destination.
    Ip6(End, Ipv6Net),
    /// The source or destination port.
    Port(Transport, End, u16),
    /// The ICMP type.
    Icmp(IcmpType),
    /// The ICMPv6 type.
    Icmp6(Icmp6Type),
    /// Of these flags of TCP exactly those are set.
    TcpFlags {
        /// The flags that are looked at.
        mask: TcpFlags,
        /// Those of them that must be set.
        value: TcpFlags,
    },
    /// Connection tracking has it in one of these states.
    CtState(CtStates),
    /// It belongs to a connection whose destination was rewritten.
    CtStatusDnat,
    /// No route to its source leaves by the interface that it came in by: `fib saddr . iif oif missing`.
    SourceUnroutable,
    /// What kind of address its destination is.
    DestinationType(AddressType),
    /// The fields' values are an element of a set of the same table.
    InSet(Vec<Field>, SetName),
    /// The frame's protocol.
    EtherType(EtherType),
    /// The frame's source or destination.
    Ether(End, MacAddr),
    /// The sender's IPv4 address in an ARP packet.
    ArpSenderIp(Ipv4Net),
    /// The sender's Ethernet address in an ARP packet.
    ArpSenderEther(MacAddr),
    /// The target of a neighbour discovery message; the rule must have tested its type.
    NdTarget(Ipv6Addr),
}

/// One interface, or all whose names begin alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum IfPattern {
    /// The interface of that name.
    Is(IfName),
    /// Interfaces whose names begin with that: `"slv*"`.
    StartsWith(IfPrefix),
}

/// The beginning of interface names: 1 to 15 printable ASCII characters without `"`, `*`, `/` and `:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IfPrefix(Cow<'static, str>);

impl IfPrefix {
    /// The prefix in a program's own text: meant for constants, where a bad one doesn't compile.
    ///
    /// # Panics
    /// If the text can't begin an interface's name.
    pub const fn literal(text: &'static str) -> Self {
        assert!(Self::is_prefix(text), "no beginning of an interface name");
        Self(Cow::Borrowed(text))
    }

    /// The prefix as the kernel lists it; `None` if it can't begin an interface's name.
    pub fn listed(text: &str) -> Option<Self> {
        Self::is_prefix(text).then(|| Self(Cow::Owned(text.to_owned())))
    }

    /// The prefix as text, without `*`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    const fn is_prefix(text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            if !bytes[i].is_ascii_graphic() || matches!(bytes[i], b'"' | b'*' | b'/' | b':') {
                return false;
            }
            i += 1;
        }
        !bytes.is_empty() && bytes.len() <= IfName::MAX
    }
}

/// Source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Where a packet comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Whose port is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Any protocol with ports at the front of its header: `th`.
    Any,
}

/// A set of connection tracking states: one bit each, as the kernel has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CtStates(pub u32);

impl CtStates {
    /// Belongs to no connection and can't open one.
    pub const INVALID: Self = Self(1);
    /// Belongs to a connection that has seen packets both ways.
    pub const ESTABLISHED: Self = Self(2);
    /// Opens a connection that another one expected, or is an error about one.
    pub const RELATED: Self = Self(4);
    /// Opens a connection.
    pub const NEW: Self = Self(8);
    /// Connection tracking was told to leave it alone.
    pub const UNTRACKED: Self = Self(64);

    /// States of either.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The flags of a TCP segment: one bit each, as they stand in its header (RFC 9293).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender is done.
    pub const FIN: Self = Self(1);
    /// It opens a connection.
    pub const SYN: Self = Self(2);
    /// It ends one at once.
    pub const RST: Self = Self(4);
    /// It acknowledges.
    pub const ACK: Self = Self(16);

    /// Flags of either.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for Match {
    type Output = Self;

    fn not(self) -> Self {
        Self { negated: !self.negated, test: self.test }
    }
}

impl From<Test> for Match {
    fn from(test: Test) -> Self {
        Self { negated: false, test }
    }
}

impl Match {
    /// What the packet must be for the test to make sense.
    pub fn needs(&self) -> Needs {
        match &self.test {
            Test::Ip(..) => Needs::ip(IpVersion::V4),
            Test::Ip6(..) => Needs::ip(IpVersion::V6),
            Test::Port(Transport::Tcp, ..) | Test::TcpFlags { .. } => Needs::transport(L4Proto::TCP),
            Test::Port(Transport::Udp, ..) => Needs::transport(L4Proto::UDP),
            Test::Icmp(_) => Needs::ICMP,
            Test::Icmp6(_) | Test::NdTarget(_) => Needs::ICMP6,
            Test::ArpSenderIp(_) | Test::ArpSenderEther(_) => Needs::ARP,
            Test::InSet(key, _) => key.iter().fold(Needs::NOTHING, |needs, field| needs.and(field.needs())),
            _ => Needs::NOTHING,
        }
    }

    /// The same match as nft spells it in a packet of which so much is known.
    #[must_use]
    pub fn named(self, known: Needs) -> Self {
        let test = match (self.test, known.transport) {
            (Test::Port(Transport::Any, end, port), Some(L4Proto::TCP)) => {
                Test::Port(Transport::Tcp, end, port)
            }
            (Test::Port(Transport::Any, end, port), Some(L4Proto::UDP)) => {
                Test::Port(Transport::Udp, end, port)
            }
            (Test::InSet(key, set), _) => Test::InSet(named(key, known), set),
            (test, _) => test,
        };
        Self { test, ..self }
    }

    /// What a packet is known to be once the match has held.
    pub fn proves(&self) -> Needs {
        if self.negated {
            return self.needs();
        }
        match self.test {
            Test::NfProto(version) => Needs::ip(version),
            Test::EtherType(kind) => Needs { network: Some(kind), transport: None },
            Test::L4Proto(proto) => Needs::transport(proto),
            _ => self.needs(),
        }
    }
}

pub(crate) fn named(key: Vec<Field>, known: Needs) -> Vec<Field> {
    key.into_iter().map(|field| field.named(known)).collect()
}

/// `iifname "NAME"`
pub fn iifname(name: &IfName) -> Match {
    Test::Iif(IfPattern::Is(name.clone())).into()
}

/// `oifname "NAME"`
pub fn oifname(name: &IfName) -> Match {
    Test::Oif(IfPattern::Is(name.clone())).into()
}

/// `iifname "PREFIX*"`
pub fn iifname_prefix(prefix: &IfPrefix) -> Match {
    Test::Iif(IfPattern::StartsWith(prefix.clone())).into()
}

/// `oifname "PREFIX*"`
pub fn oifname_prefix(prefix: &IfPrefix) -> Match {
    Test::Oif(IfPattern::StartsWith(prefix.clone())).into()
}

/// `meta nfproto ipv4|ipv6`
pub fn nfproto(version: IpVersion) -> Match {
    Test::NfProto(version).into()
}

/// `meta l4proto PROTO`
pub fn l4proto(proto: L4Proto) -> Match {
    Test::L4Proto(proto).into()
}

/// `meta pkttype TYPE`
pub fn pkttype(kind: PacketType) -> Match {
    Test::PacketType(kind).into()
}

/// `meta mark VALUE`
pub fn mark(value: u32) -> Match {
    Test::Mark { mask: u32::MAX, value }.into()
}

/// `meta mark & MASK == VALUE`; bits of the value outside the mask are ignored.
pub fn mark_masked(mask: u32, value: u32) -> Match {
    Test::Mark { mask, value: value & mask }.into()
}

/// `ip saddr NET` or `ip6 saddr NET`, by the network's family; host bits are ignored.
pub fn saddr(net: impl Into<IpNet>) -> Match {
    address(End::Source, net.into())
}

/// `ip daddr NET` or `ip6 daddr NET`, by the network's family; host bits are ignored.
pub fn daddr(net: impl Into<IpNet>) -> Match {
    address(End::Destination, net.into())
}

fn address(end: End, net: IpNet) -> Match {
    match net {
        IpNet::V4(net) => Test::Ip(end, net.trunc()).into(),
        IpNet::V6(net) => Test::Ip6(end, net.trunc()).into(),
    }
}

/// `tcp dport PORT`
pub fn tcp_dport(port: u16) -> Match {
    Test::Port(Transport::Tcp, End::Destination, port).into()
}

/// `udp dport PORT`
pub fn udp_dport(port: u16) -> Match {
    Test::Port(Transport::Udp, End::Destination, port).into()
}

/// `tcp flags VALUE / MASK`: of the flags of the mask exactly those of the value are set, one at least; others of the
/// value are ignored.
pub fn tcp_flags(value: TcpFlags, mask: TcpFlags) -> Match {
    Test::TcpFlags { mask, value: TcpFlags(value.0 & mask.0) }.into()
}

/// `icmp type TYPE`
pub fn icmp_type(kind: IcmpType) -> Match {
    Test::Icmp(kind).into()
}

/// `icmpv6 type TYPE`
pub fn icmpv6_type(kind: Icmp6Type) -> Match {
    Test::Icmp6(kind).into()
}

/// `ct state STATES`
pub fn ct_state(states: CtStates) -> Match {
    Test::CtState(states).into()
}

/// `ct state established,related`
pub fn ct_established() -> Match {
    ct_state(CtStates::ESTABLISHED.or(CtStates::RELATED))
}

/// `ct status dnat`
pub fn ct_status_dnat() -> Match {
    Test::CtStatusDnat.into()
}

/// `fib saddr . iif oif missing`: the packet came in where no answer to it would go out. Only in prerouting, input
/// and forward.
pub fn fib_saddr_missing() -> Match {
    Test::SourceUnroutable.into()
}

/// `fib daddr type TYPE`
pub fn fib_daddr_type(kind: AddressType) -> Match {
    Test::DestinationType(kind).into()
}

/// `FIELD . FIELD @SET`
pub fn in_set(key: impl Into<Vec<Field>>, set: &SetName) -> Match {
    Test::InSet(key.into(), set.clone()).into()
}

/// `ether type TYPE`
pub fn ether_type(kind: EtherType) -> Match {
    Test::EtherType(kind).into()
}

/// `ether saddr MAC`
pub fn ether_saddr(mac: MacAddr) -> Match {
    Test::Ether(End::Source, mac).into()
}

/// `arp saddr ip NET`; host bits are ignored.
pub fn arp_saddr_ip(net: impl Into<Ipv4Net>) -> Match {
    Test::ArpSenderIp(net.into().trunc()).into()
}

/// `arp saddr ether MAC`
pub fn arp_saddr_ether(mac: MacAddr) -> Match {
    Test::ArpSenderEther(mac).into()
}

/// `@th,64,128 ADDRESS`: the target of a neighbour discovery message. Test [`icmpv6_type`] before it.
pub fn nd_target(address: Ipv6Addr) -> Match {
    Test::NdTarget(address).into()
}
