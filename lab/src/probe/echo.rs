//! ICMP echo messages: what a probe sends, and what comes in on a raw socket.

use crate::shape::Family;

/// What a probe carries, so that it is recognised wherever it turns up, whatever was translated on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    /// The run of the matrix, so that a late packet of an earlier run is not taken for one of this.
    pub run: u32,
    /// The probe's number in the run.
    pub shot: u32,
}

impl Ticket {
    /// How many bytes a ticket takes.
    pub(super) const LEN: usize = 8;

    pub(super) fn bytes(self) -> [u8; Self::LEN] {
        ((u64::from(self.run) << 32) | u64::from(self.shot)).to_be_bytes()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (run, rest) = bytes.split_first_chunk::<4>()?;
        let shot = rest.first_chunk::<4>()?;
        Some(Self { run: u32::from_be_bytes(*run), shot: u32::from_be_bytes(*shot) })
    }
}

/// A message that concerns a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// Somebody's request.
    Request(Ticket),
    /// The answer to a request.
    Reply(Ticket),
    /// A router's or host's word that a request could not be delivered (RFC 792, RFC 4443).
    Undeliverable(Ticket),
}

const HEADER: usize = 8;
const IPV6_HEADER: usize = 40;

/// An echo request as it is written to a raw socket (of IPv6 the kernel computes the checksum).
pub(super) fn request(family: Family, ticket: Ticket) -> Vec<u8> {
    let kind = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    // The identifier differs from probe to probe: an address translator tells flows apart by it.
    let [.., high, low] = ticket.shot.wrapping_add(ticket.run).to_be_bytes();
    let mut message = vec![kind, 0, 0, 0, high, low, 0, 1];
    message.extend(ticket.bytes());
    if family == Family::V4 {
        let sum = checksum(&message).to_be_bytes();
        message.splice(2..4, sum);
    }
    message
}

/// What came in on a raw socket, which hands over the IP header with IPv4 only; `None` if it is no probe's.
pub(super) fn parse(family: Family, packet: &[u8]) -> Option<Message> {
    let message = match family {
        Family::V4 => skip_ipv4(packet)?,
        Family::V6 => packet,
    };
    let body = message.get(HEADER..)?;
    match (family, *message.first()?) {
        (Family::V4, 8) | (Family::V6, 128) => Ticket::read(body).map(Message::Request),
        (Family::V4, 0) | (Family::V6, 129) => Ticket::read(body).map(Message::Reply),
        (Family::V4, 3 | 11) => quoted(family, skip_ipv4(body)?),
        (Family::V6, 1..=3) => quoted(family, body.get(IPV6_HEADER..)?),
        _ => None,
    }
}

/// An error about one of our requests, which it quotes.
fn quoted(family: Family, message: &[u8]) -> Option<Message> {
    let request = matches!((family, message.first()?), (Family::V4, 8) | (Family::V6, 128));
    let ticket = Ticket::read(message.get(HEADER..)?)?;
    request.then_some(Message::Undeliverable(ticket))
}

fn skip_ipv4(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}

/// The internet checksum (RFC 1071) of a message of even length whose checksum field is zero.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks_exact(2).filter_map(|pair| pair.first_chunk::<2>());
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = (!(folded + (folded >> 16))).to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: Ticket = Ticket { run: 0xdead_beef, shot: 0x0102_0304 };

    fn in_ipv4(message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x46];
        packet.extend([0; 23]);
        packet.extend(message);
        packet
    }

    #[test]
    fn a_request_is_read_back_in_both_families() {
        let v4 = in_ipv4(&request(Family::V4, TICKET));
        assert_eq!(parse(Family::V4, &v4), Some(Message::Request(TICKET)));
        assert_eq!(parse(Family::V6, &request(Family::V6, TICKET)), Some(Message::Request(TICKET)));
    }

    #[test]
    fn a_request_with_its_checksum_sums_to_zero() {
        assert_eq!(checksum(&request(Family::V4, TICKET)), 0);
    }

    #[test]
    fn an_error_is_tied_to_the_request_that_it_quotes() {
        let mut v4 = vec![3, 1, 0, 0, 0, 0, 0, 0];
        v4.extend(in_ipv4(&request(Family::V4, TICKET)));
        assert_eq!(parse(Family::V4, &in_ipv4(&v4)), Some(Message::Undeliverable(TICKET)));
        let mut v6 = vec![1, 3, 0, 0, 0, 0, 0, 0];
        v6.extend([0; IPV6_HEADER]);
        v6.extend(request(Family::V6, TICKET));
        assert_eq!(parse(Family::V6, &v6), Some(Message::Undeliverable(TICKET)));
    }

    #[test]
    fn short_and_foreign_packets_are_nobodys() {
        let whole = in_ipv4(&request(Family::V4, TICKET));
        for length in 0..whole.len() {
            assert_eq!(parse(Family::V4, &whole[..length]), None, "{length} bytes");
        }
        assert_eq!(parse(Family::V6, &[135, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]), None);
    }
}
