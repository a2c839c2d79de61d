//! Places in a packet, or in what the kernel knows of it, that can be looked up in a set.

use crate::value::{EtherType, IpVersion, KeyType, L4Proto};

/// One part of a lookup's key, as nft spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `iifname`
    IifName,
    /// `oifname`
    OifName,
    /// `meta l4proto`
    L4Proto,
    /// `meta mark`
    Mark,
    /// `ip saddr`
    IpSaddr,
    /// `ip daddr`
    IpDaddr,
    /// `ip6 saddr`
    Ip6Saddr,
    /// `ip6 daddr`
    Ip6Daddr,
    /// `tcp sport`
    TcpSport,
    /// `tcp dport`
    TcpDport,
    /// `udp sport`
    UdpSport,
    /// `udp dport`
    UdpDport,
    /// `th sport`: of whatever transport protocol the packet has
    ThSport,
    /// `th dport`: of whatever transport protocol the packet has
    ThDport,
    /// `ether saddr`
    EtherSaddr,
    /// `ether daddr`
    EtherDaddr,
    /// `ether type`
    EtherType,
    /// `arp saddr ip`: the sender's protocol address
    ArpSaddrIp,
    /// `arp saddr ether`: the sender's hardware address
    ArpSaddrEther,
    /// The target address of a neighbour solicitation or advertisement, or of a redirect (RFC 4861 section 4.3):
    /// 16 bytes at offset 8 of the ICMPv6 message, `@th,64,128`
    NdTarget,
}

/// What a packet must be for a field to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// The network protocol.
    pub network: Option<EtherType>,
    /// The transport protocol.
    pub transport: Option<L4Proto>,
}

impl Needs {
    /// Needs nothing.
    pub const NOTHING: Self = Self { network: None, transport: None };
    /// Needs ARP.
    pub const ARP: Self = Self { network: Some(EtherType::ARP), transport: None };
    /// Needs ICMP for IPv4.
    pub const ICMP: Self = Self { network: Some(EtherType::IP), transport: Some(L4Proto::ICMP) };
    /// Needs ICMP for IPv6.
    pub const ICMP6: Self = Self { network: Some(EtherType::IP6), transport: Some(L4Proto::ICMPV6) };

    /// Needs one version of IP.
    pub const fn ip(version: IpVersion) -> Self {
        Self { network: Some(version.ether_type()), transport: None }
    }

    /// Needs one transport protocol.
    pub const fn transport(proto: L4Proto) -> Self {
        Self { network: None, transport: Some(proto) }
    }

    /// What both need.
    pub fn and(self, other: Self) -> Self {
        Self { network: self.network.or(other.network), transport: self.transport.or(other.transport) }
    }
}

impl IpVersion {
    /// The protocol number in an Ethernet frame.
    pub const fn ether_type(self) -> EtherType {
        match self {
            Self::V4 => EtherType::IP,
            Self::V6 => EtherType::IP6,
        }
    }
}

impl Field {
    /// The type of what stands there.
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::IifName | Self::OifName => KeyType::IfName,
            Self::L4Proto => KeyType::InetProto,
            Self::Mark => KeyType::Mark,
            Self::IpSaddr | Self::IpDaddr | Self::ArpSaddrIp => KeyType::Ipv4Addr,
            Self::Ip6Saddr | Self::Ip6Daddr | Self::NdTarget => KeyType::Ipv6Addr,
            Self::TcpSport | Self::TcpDport | Self::UdpSport => KeyType::InetService,
            Self::UdpDport | Self::ThSport | Self::ThDport => KeyType::InetService,
            Self::EtherSaddr | Self::EtherDaddr | Self::ArpSaddrEther => KeyType::EtherAddr,
            Self::EtherType => KeyType::EtherType,
        }
    }

    /// The same field as nft spells it in a packet of which so much is known: `tcp dport`, not `th dport`.
    #[must_use]
    pub const fn named(self, known: Needs) -> Self {
        match (self, known.transport) {
            (Self::ThSport, Some(L4Proto::TCP)) => Self::TcpSport,
            (Self::ThDport, Some(L4Proto::TCP)) => Self::TcpDport,
            (Self::ThSport, Some(L4Proto::UDP)) => Self::UdpSport,
            (Self::ThDport, Some(L4Proto::UDP)) => Self::UdpDport,
            _ => self,
        }
    }

    /// What nft implies when it sees the field, and the codec therefore checks first.
    pub const fn needs(self) -> Needs {
        match self {
            Self::IpSaddr | Self::IpDaddr => Needs::ip(IpVersion::V4),
            Self::Ip6Saddr | Self::Ip6Daddr => Needs::ip(IpVersion::V6),
            Self::TcpSport | Self::TcpDport => Needs::transport(L4Proto::TCP),
            Self::UdpSport | Self::UdpDport => Needs::transport(L4Proto::UDP),
            Self::ArpSaddrIp | Self::ArpSaddrEther => Needs::ARP,
            Self::NdTarget => Needs::ICMP6,
            Self::IifName | Self::OifName | Self::L4Proto | Self::Mark => Needs::NOTHING,
            Self::ThSport | Self::ThDport => Needs::NOTHING,
            Self::EtherSaddr | Self::EtherDaddr | Self::EtherType => Needs::NOTHING,
        }
    }
}
