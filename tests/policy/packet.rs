//! The first packet of a flow, byte by byte, and how it is known again.

use std::net::IpAddr;

use selvedge_model::Transport;
use selvedge_policy::Protocol;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Every packet ends in these bytes and its number. To SCTP it is a parameter of its own: a cookie preservative.
const MARK: [u8; 4] = [0, 9, 0, 8];

/// A packet that opens a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// Where it comes from.
    pub(crate) source: IpAddr,
    /// Where it goes.
    pub(crate) destination: IpAddr,
    /// What it speaks, and to which port.
    pub(crate) protocol: Protocol,
    /// The port that it comes from, where there are ports; what an echo request is known by, where there are none.
    pub(crate) port: u16,
    /// What it is known by.
    pub(crate) number: u32,
}

impl Opening {
    /// The packet with its IP header: a TCP SYN, an SCTP INIT, an echo request, or a UDP datagram.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let body = match self.protocol {
            Protocol::Port(Transport::Tcp, to) => self.tcp(to),
            Protocol::Port(Transport::Udp, to) => self.udp(to),
            Protocol::Port(Transport::Sctp, to) => self.sctp(to),
            Protocol::Other(_) => self.other(),
        };
        [self.header(body.len()), body].concat()
    }

    fn number_of_protocol(&self) -> u8 {
        match self.protocol {
            Protocol::Port(Transport::Tcp, _) => TCP,
            Protocol::Port(Transport::Udp, _) => UDP,
            Protocol::Port(Transport::Sctp, _) => SCTP,
            Protocol::Other(number) => number,
        }
    }

    fn header(&self, length: usize) -> Vec<u8> {
        let proto = self.number_of_protocol();
        let size = |more: usize| u16::try_from(length + more).unwrap().to_be_bytes();
        let mut header = match self.source {
            // The kernel fills in the checksum. Don't fragment, 64 hops.
            IpAddr::V4(_) => [&[0x45, 0][..], &size(20), &[0, 0, 0x40, 0, 64, proto, 0, 0]].concat(),
            IpAddr::V6(_) => [&[0x60, 0, 0, 0][..], &size(0), &[proto, 64]].concat(),
        };
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        header
    }

    fn trailer(&self) -> [u8; 8] {
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&MARK);
        trailer[4..].copy_from_slice(&self.number.to_be_bytes());
        trailer
    }

    fn ports(&self, to: u16) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.port.to_be_bytes(), to.to_be_bytes());
        [a, b, c, d]
    }

    fn tcp(&self, to: u16) -> Vec<u8> {
        let rest = [0, 0, 0, 0, 5 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0];
        let body = [&self.ports(to)[..], &self.number.to_be_bytes(), &rest, &self.trailer()].concat();
        self.summed(body, 16, true)
    }

    fn udp(&self, to: u16) -> Vec<u8> {
        let body = [&self.ports(to)[..], &[0, 16, 0, 0], &self.trailer()].concat();
        self.summed(body, 6, true)
    }

    fn sctp(&self, to: u16) -> Vec<u8> {
        let init = [1, 0, 0, 28];
        let tag = (self.number | 1).to_be_bytes();
        let rest = [0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1];
        let mut body = [&self.ports(to)[..], &[0; 8], &init, &tag, &rest, &self.trailer()].concat();
        let sum = crc32c::crc32c(&body);
        body[8..12].copy_from_slice(&sum.to_le_bytes());
        body
    }

    /// An echo request, or nothing but the trailer in a protocol of which the kernel knows nothing.
    fn other(&self) -> Vec<u8> {
        let [a, b] = self.port.to_be_bytes();
        let echo = |kind: u8| [&[kind, 0, 0, 0, a, b, 0, 1][..], &self.trailer()].concat();
        match self.number_of_protocol() {
            ICMP => self.summed(echo(8), 2, false),
            ICMPV6 => self.summed(echo(128), 2, true),
            _ => self.trailer().to_vec(),
        }
    }

    /// With the internet checksum at its place, over the addresses too if they belong to it.
    fn summed(&self, mut body: Vec<u8>, place: usize, with_addresses: bool) -> Vec<u8> {
        let mut sum = words(&body);
        if with_addresses {
            sum += words(&octets(self.source)) + words(&octets(self.destination));
            sum += u64::from(self.number_of_protocol()) + body.len() as u64;
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let sum = !u16::try_from(sum).unwrap();
        body[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        body
    }
}

/// The number of the packet, if it is one of ours.
pub(crate) fn number(packet: &[u8]) -> Option<u32> {
    let (rest, number) = packet.split_last_chunk::<4>()?;
    rest.ends_with(&MARK).then(|| u32::from_be_bytes(*number))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The sum of 16-bit words; the bytes are even in number.
fn words(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}
