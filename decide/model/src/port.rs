//! Ports of containers, and of a node that lead to a pod.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol by the name that Kubernetes has for it: `TCP`, `UDP` or `SCTP`.
    pub fn of_kubernetes(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of a pod's container that has a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerPort {
    /// spec.containers.ports.name
    pub name: Box<str>,
    /// spec.containers.ports.protocol
    pub transport: Transport,
    /// spec.containers.ports.containerPort
    pub number: NonZeroU16,
}

/// Which of a node's addresses a published port is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostIp {
    /// All, of each family that the pod has.
    Any,
    /// All IPv4 addresses: `0.0.0.0`.
    AnyV4,
    /// All IPv6 addresses: `::`.
    AnyV6,
    /// This one.
    Is(IpAddr),
}

impl HostIp {
    /// What an address stands for; the unspecified ones mean all of their family.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) if v4.is_unspecified() => Self::AnyV4,
            IpAddr::V6(v6) if v6.is_unspecified() => Self::AnyV6,
            address => Self::Is(address),
        }
    }

    /// True if it is at addresses of the family that `other` is of.
    pub fn is_like(self, other: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::AnyV4 => other.is_ipv4(),
            Self::AnyV6 => other.is_ipv6(),
            Self::Is(address) => address.is_ipv4() == other.is_ipv4(),
        }
    }

    /// True if there is an address that both are at.
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Is(one), Self::Is(other)) => one == other,
            (Self::Is(address), any) | (any, Self::Is(address)) => any.is_like(address),
            (Self::AnyV4, Self::AnyV6) | (Self::AnyV6, Self::AnyV4) => false,
            (Self::Any | Self::AnyV4 | Self::AnyV6, _) => true,
        }
    }
}

/// A port of the node's that leads to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMapping {
    /// The protocol.
    pub transport: Transport,
    /// Where on the node.
    pub host_ip: HostIp,
    /// The port there.
    pub host_port: NonZeroU16,
    /// The port in the pod.
    pub container_port: NonZeroU16,
}

impl PortMapping {
    /// True if there are packets that both would lead, and to different ports.
    pub fn contradicts(&self, other: &Self) -> bool {
        let same = (self.transport, self.host_port) == (other.transport, other.host_port);
        same && self.host_ip.overlaps(other.host_ip) && self.container_port != other.container_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> HostIp {
        if text == "any" { HostIp::Any } else { HostIp::of(text.parse().unwrap()) }
    }

    #[test]
    fn places_overlap_where_an_address_is_in_both() {
        let overlapping = [
            ("any", "any"),
            ("any", "0.0.0.0"),
            ("any", "::"),
            ("any", "10.0.0.1"),
            ("any", "fd00::1"),
            ("0.0.0.0", "0.0.0.0"),
            ("0.0.0.0", "127.0.0.1"),
            ("::", "fd00::1"),
            ("10.0.0.1", "10.0.0.1"),
        ];
        let apart = [("0.0.0.0", "::"), ("0.0.0.0", "fd00::1"), ("::", "10.0.0.1"), ("10.0.0.1", "10.0.0.2")];
        for (expected, pairs) in [(true, &overlapping[..]), (false, &apart[..])] {
            for (one, other) in pairs {
                assert_eq!(at(one).overlaps(at(other)), expected, "{one} and {other}");
                assert_eq!(at(other).overlaps(at(one)), expected, "{other} and {one}");
            }
        }
    }
}
