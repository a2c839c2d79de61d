//! Packets that follow one another in a TCP connection, as one large packet.

use std::ops::Range;

use crate::checksum::{finish, fold, pseudo, sum};
use crate::cut::be16;
use crate::ends::{Ends, IPV4_HEADER, IPV6_HEADER};
use crate::offload::{Offload, Segmentation};

const TCP: u8 = 6;
const FLAGS: usize = 13;
const PSH: u8 = 8;
const ACK: u8 = 16;
/// Don't fragment, and not a fragment.
const WHOLE: [u8; 2] = [0x40, 0];
/// The longest packet that there is.
const LONGEST: usize = 65_535;

/// Joins the packets in a buffer, which are pushed in their order. Only neighbours are joined: packets of a connection
/// keep their order, whatever becomes of them.
#[derive(Debug, Default)]
pub struct Joiner {
    /// The whole first packet of each run, then the payload of each that follows.
    pieces: Vec<Range<usize>>,
    runs: Vec<Run>,
}

/// Packets that are to be one.
#[derive(Debug)]
struct Run {
    /// Where its pieces begin.
    start: usize,
    /// What its first packet is in TCP; `None` for what is never joined.
    first: Option<Segment>,
    /// The length of the whole.
    length: usize,
    /// The sequence number that follows.
    next: u32,
    /// The last one was shorter, or says that there is an end.
    closed: bool,
    /// The last one's flags.
    flags: u8,
}

/// A packet to be written to a TUN device: what stands before it, and where its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined<'a> {
    /// The device's header.
    pub offload: Offload,
    /// Its parts in the buffer.
    pub pieces: &'a [Range<usize>],
}

/// A TCP packet that could be joined with others.
#[derive(Debug, Clone, Copy)]
struct Segment {
    ends: Ends,
    /// Where TCP's header begins, and where the payload.
    transport: usize,
    header: usize,
    payload: usize,
    sequence: u32,
    flags: u8,
}

impl Joiner {
    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.runs.clear();
    }

    /// Takes in the packet at a place in the buffer.
    pub fn push(&mut self, buffer: &[u8], place: Range<usize>) {
        let segment = Segment::of(&buffer[place.clone()]);
        if let (Some(segment), Some(run)) = (&segment, self.runs.last_mut())
            && run.follows(segment, (buffer, &self.pieces[run.start], &place))
        {
            run.length += segment.payload;
            run.next = run.next.wrapping_add(length32(segment.payload));
            run.flags = segment.flags;
            run.closed =
                segment.flags & PSH != 0 || run.first.is_some_and(|first| segment.payload < first.payload);
            self.pieces.push(place.start + segment.header..place.end);
            return;
        }
        let next = segment.map_or(0, |segment| segment.sequence.wrapping_add(length32(segment.payload)));
        self.runs.push(Run {
            start: self.pieces.len(),
            first: segment,
            length: place.len(),
            next,
            closed: segment.is_none_or(|segment| segment.flags & PSH != 0),
            flags: segment.map_or(0, |segment| segment.flags),
        });
        self.pieces.push(place);
    }

    /// Makes the joined packets' headers right, in the buffer, and calls `write` with each packet.
    pub fn finish(&self, buffer: &mut [u8], mut write: impl FnMut(&[u8], Joined<'_>)) {
        for (index, run) in self.runs.iter().enumerate() {
            let end = self.runs.get(index + 1).map_or(self.pieces.len(), |next| next.start);
            let pieces = &self.pieces[run.start..end];
            let offload = match run.first {
                Some(first) if pieces.len() > 1 => first.lead(&mut buffer[pieces[0].clone()], run),
                _ => Offload::default(),
            };
            write(buffer, Joined { offload, pieces });
        }
    }
}

impl Run {
    /// Whether a packet continues the run. The buffer comes with the places of the first packet and of this one.
    fn follows(
        &self,
        segment: &Segment,
        (buffer, first, place): (&[u8], &Range<usize>, &Range<usize>),
    ) -> bool {
        let Some(lead) = self.first else { return false };
        !self.closed
            && segment.sequence == self.next
            && segment.payload <= lead.payload
            && self.length + segment.payload <= LONGEST
            && alike((&buffer[first.clone()], &lead), (&buffer[place.clone()], segment))
            // The first one's is looked at when a second comes: most packets that stay alone are not summed here.
            && (self.next != lead.sequence.wrapping_add(length32(lead.payload)) || lead.is_right(&buffer[first.clone()]))
            && segment.is_right(&buffer[place.clone()])
    }
}

/// Whether two packets differ in nothing but what joining makes good.
fn alike((a, one): (&[u8], &Segment), (b, other): (&[u8], &Segment)) -> bool {
    let same = |range: Range<usize>| a[range.clone()] == b[range];
    let (tcp, header) = (one.transport, one.header);
    let network = if one.ends.source.is_ipv4() {
        // Not the length, the identification and the checksum.
        same(0..2) && same(6..10) && same(12..20)
    } else {
        same(0..4) && same(6..40)
    };
    network
        && (tcp, header) == (other.transport, other.header)
        // Not the sequence number, the flags and the checksum.
        && same(tcp..tcp + 4)
        && same(tcp + 8..tcp + FLAGS)
        && same(tcp + FLAGS + 1..tcp + 16)
        && same(tcp + 18..header)
}

impl Segment {
    /// Reads a packet; `None` for all but whole TCP packets with payload that say nothing out of the ordinary.
    fn of(packet: &[u8]) -> Option<Self> {
        let ends = Ends::of(packet)?;
        let (transport, length) = if ends.source.is_ipv4() {
            if packet[0] != 0x45 || packet[9] != TCP || packet[6..8] != WHOLE {
                return None;
            }
            (IPV4_HEADER, usize::from(u16::from_be_bytes([packet[2], packet[3]])))
        } else {
            if packet[6] != TCP {
                return None;
            }
            (IPV6_HEADER, IPV6_HEADER + usize::from(u16::from_be_bytes([packet[4], packet[5]])))
        };
        let tcp: &[u8; 20] = packet.get(transport..)?.first_chunk()?;
        let header = transport + usize::from(tcp[12] >> 4) * 4;
        let flags = tcp[FLAGS];
        if length != packet.len() || header < transport + 20 || header >= length || flags & !PSH != ACK {
            return None;
        }
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        Some(Self { ends, transport, header, payload: length - header, sequence, flags })
    }

    /// Whether the packet's checksums are right.
    fn is_right(&self, packet: &[u8]) -> bool {
        let tcp = &packet[self.transport..];
        let network = !self.ends.source.is_ipv4() || fold(sum(&packet[..IPV4_HEADER])) == 0xffff;
        network && fold(pseudo(&self.ends, TCP, tcp.len()) + sum(tcp)) == 0xffff
    }

    /// Makes the first packet's header that of the whole run.
    fn lead(&self, packet: &mut [u8], run: &Run) -> Offload {
        let kind = if self.ends.source.is_ipv4() {
            packet[2..4].copy_from_slice(&be16(run.length));
            packet[10..12].fill(0);
            let checksum = finish(sum(&packet[..IPV4_HEADER]));
            packet[10..12].copy_from_slice(&checksum);
            Segmentation::Tcp4
        } else {
            packet[4..6].copy_from_slice(&be16(run.length - IPV6_HEADER));
            Segmentation::Tcp6
        };
        // Only the last can have said it: after that, nothing is joined.
        packet[self.transport + FLAGS] = run.flags;
        let part = pseudo(&self.ends, TCP, run.length - self.transport);
        let checksum = self.transport + 16;
        packet[checksum..checksum + 2].copy_from_slice(&fold(part).to_ne_bytes());
        Offload {
            checksum: Some((length16(self.transport), 16)),
            segments: Some((kind, length16(self.payload))),
            header: length16(self.header),
        }
    }
}

fn length16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
