//! What the first bytes of a packet say: its IP header, and the beginning of what it carries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::matching::TcpFlags;
use crate::value::L4Proto;

/// What a packet's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Headers {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Its transport protocol; of IPv6, the last header that is known of.
    pub proto: L4Proto,
    /// Its source and destination port, if the protocol has ports and they are there: not in a later fragment.
    pub ports: Option<(u16, u16)>,
    /// Its type and code, if it is ICMP or ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// Its flags, if it is TCP.
    pub tcp: Option<TcpFlags>,
}

/// The headers between an IPv6 packet's own and what it carries (RFC 8200, RFC 4302): their numbers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const OPTIONS: u8 = 60;

/// Protocols whose header begins with two ports: TCP, UDP, DCCP, SCTP and UDP-Lite.
const WITH_PORTS: [L4Proto; 5] = [L4Proto::TCP, L4Proto::UDP, L4Proto(33), L4Proto::SCTP, L4Proto(136)];

impl Headers {
    /// Reads a packet from its IP header on, of which the end may be missing; `None` if that header is not whole.
    pub fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::read_v4(packet),
            6 => Self::read_v6(packet),
            _ => None,
        }
    }

    fn read_v4(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<20>()?;
        let length = usize::from(header[0] & 0xf) * 4;
        if length < header.len() {
            return None;
        }
        let address =
            |at: usize| Ipv4Addr::from_octets([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
        let carried = packet.get(length..).filter(|_| is_first);
        Some(Self::carrying((address(12).into(), address(16).into()), L4Proto(header[9]), carried))
    }

    fn read_v6(packet: &[u8]) -> Option<Self> {
        let (header, mut rest) = packet.split_first_chunk::<40>()?;
        let address = |at: usize| {
            let bytes = header.get(at..).and_then(|bytes| bytes.first_chunk::<16>());
            bytes.map(|bytes| IpAddr::from(Ipv6Addr::from_octets(*bytes)))
        };
        let ends = (address(8)?, address(24)?);
        let mut proto = header[6];
        while let HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | OPTIONS = proto {
            // What comes next, and how long this is.
            let Some(&[next, length, high, low]) = rest.first_chunk::<4>() else {
                return Some(Self::carrying(ends, L4Proto(proto), None));
            };
            let length = match proto {
                FRAGMENT if u16::from_be_bytes([high, low]) >> 3 != 0 => {
                    return Some(Self::carrying(ends, L4Proto(next), None));
                }
                FRAGMENT => 8,
                AUTHENTICATION => (usize::from(length) + 2) * 4,
                _ => (usize::from(length) + 1) * 8,
            };
            proto = next;
            rest = rest.get(length..).unwrap_or_default();
        }
        Some(Self::carrying(ends, L4Proto(proto), Some(rest)))
    }

    fn carrying((source, destination): (IpAddr, IpAddr), proto: L4Proto, carried: Option<&[u8]>) -> Self {
        let carried = carried.unwrap_or_default();
        let ports = carried.first_chunk::<4>().filter(|_| WITH_PORTS.contains(&proto));
        let icmp = carried.first_chunk::<2>().filter(|_| [L4Proto::ICMP, L4Proto::ICMPV6].contains(&proto));
        let tcp = carried.get(13).filter(|_| proto == L4Proto::TCP);
        Self {
            source,
            destination,
            proto,
            ports: ports.map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
            icmp: icmp.map(|&[kind, code]| (kind, code)),
            tcp: tcp.map(|flags| TcpFlags(*flags)),
        }
    }
}

#[cfg(test)]
mod tests;
