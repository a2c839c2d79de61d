//! One large packet as the many that fit the network.

use std::ops::Range;

use crate::checksum::{finish, pseudo, sum};
use crate::ends::{Ends, IPV6_HEADER};
use crate::offload::{Offload, Segmentation};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// TCP's flags, by their place in the header.
const FLAGS: usize = 13;
const FIN: u8 = 1;
const PSH: u8 = 8;
const CWR: u8 = 0x80;

/// A packet that is not what its device says, and is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packet that is not what its device says of it")]
pub struct Malformed;

/// Where the parts of a packet are: each part's own header followed by its share of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The length of each part's header; 0 where the packet is its only part.
    header: usize,
    /// The payload's place in the packet.
    payload: Range<usize>,
    /// How much of it each part gets, less the last.
    size: usize,
}

impl Cut {
    /// Cuts up a packet as its device asks, with right checksums. The parts' headers are written to `headers`; a packet
    /// that stays whole is completed where it is.
    ///
    /// # Errors
    /// [`Malformed`] if what the device says does not fit the packet.
    pub fn of(packet: &mut [u8], offload: &Offload, headers: &mut Vec<u8>) -> Result<Self, Malformed> {
        headers.clear();
        let Some((kind, size)) = offload.segments else {
            complete(packet, offload).ok_or(Malformed)?;
            return Ok(Self { header: 0, payload: 0..packet.len(), size: packet.len().max(1) });
        };
        let large = Large::of(packet, offload, kind).ok_or(Malformed)?;
        let size = usize::from(size);
        if size == 0 || large.header >= packet.len() {
            return Err(Malformed);
        }
        let cut = Self { header: large.header, payload: large.header..packet.len(), size };
        headers.reserve(cut.count() * large.header);
        for index in 0..cut.count() {
            large.write(&packet[cut.range(index)], (index, cut.count(), size), headers);
        }
        Ok(cut)
    }

    /// How many parts there are.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size)
    }

    /// The length of every part but the last, which may be shorter.
    pub fn part(&self) -> usize {
        self.header + self.size
    }

    /// Where a part's header is in what was written, and its payload in the packet.
    pub fn place(&self, index: usize) -> (Range<usize>, Range<usize>) {
        (self.header * index..self.header * (index + 1), self.range(index))
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = self.payload.start + index * self.size;
        start..(start + self.size).min(self.payload.end)
    }
}

/// Completes the checksum of a packet that stays as it is.
fn complete(packet: &mut [u8], offload: &Offload) -> Option<()> {
    let Some((start, offset)) = offload.checksum else { return Some(()) };
    let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
    let total = sum(packet.get(start..)?);
    // The sum of the pseudo header is in the checksum's place already. UDP's zero stands for none.
    let mut bytes = finish(total);
    if bytes == [0, 0] {
        bytes = [0xff, 0xff];
    }
    packet.get_mut(at..at + 2)?.copy_from_slice(&bytes);
    Some(())
}

/// What all parts of a large packet have in common.
struct Large {
    /// Headers of the whole, with the fields at zero that each part sums for itself.
    template: Vec<u8>,
    ends: Ends,
    kind: Segmentation,
    /// Where TCP's or UDP's header begins, and where the payload.
    transport: usize,
    header: usize,
    identification: u16,
    sequence: u32,
}

impl Large {
    fn of(packet: &[u8], offload: &Offload, kind: Segmentation) -> Option<Self> {
        let ends = Ends::of(packet)?;
        let transport = usize::from(offload.checksum?.0);
        let shortest = if ends.source.is_ipv4() { usize::from(packet[0] & 0xf) * 4 } else { IPV6_HEADER };
        if transport < shortest {
            return None;
        }
        let header = transport
            + match kind {
                Segmentation::Udp => 8,
                Segmentation::Tcp4 | Segmentation::Tcp6 => {
                    usize::from(packet.get(transport + 12)? >> 4).max(5) * 4
                }
            };
        let mut template = packet.get(..header)?.to_vec();
        let sequence = u32::from_be_bytes(*template.get(transport + 4..)?.first_chunk()?);
        let identification = u16::from_be_bytes([template[4], template[5]]);
        let checksum = transport + if kind == Segmentation::Udp { 6 } else { 16 };
        template.get_mut(checksum..checksum + 2)?.fill(0);
        if ends.source.is_ipv4() {
            template[10..12].fill(0);
        }
        Some(Self { template, ends, kind, transport, header, identification, sequence })
    }

    /// Writes the header of one part, which is given by its payload, its number, how many there are and the payload of
    /// those before it.
    fn write(&self, payload: &[u8], (index, count, size): (usize, usize, usize), headers: &mut Vec<u8>) {
        let start = headers.len();
        headers.extend(&self.template);
        let header = &mut headers[start..];
        let length = self.header - self.transport + payload.len();
        if self.ends.source.is_ipv4() {
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            header[2..4].copy_from_slice(&be16(self.header + payload.len()));
            header[4..6].copy_from_slice(&self.identification.wrapping_add(number).to_be_bytes());
            let checksum = finish(sum(&header[..usize::from(header[0] & 0xf) * 4]));
            header[10..12].copy_from_slice(&checksum);
        } else {
            header[4..6].copy_from_slice(&be16(self.header + payload.len() - IPV6_HEADER));
        }
        let transport = &mut header[self.transport..];
        if self.kind == Segmentation::Udp {
            transport[4..6].copy_from_slice(&be16(length));
            let total = pseudo(&self.ends, UDP, length) + sum(transport) + sum(payload);
            let checksum = finish(total);
            transport[6..8].copy_from_slice(if checksum == [0, 0] { &[0xff, 0xff] } else { &checksum });
            return;
        }
        let before = u32::try_from(index * size).unwrap_or(u32::MAX);
        transport[4..8].copy_from_slice(&self.sequence.wrapping_add(before).to_be_bytes());
        if index + 1 < count {
            transport[FLAGS] &= !(FIN | PSH);
        }
        if index > 0 {
            transport[FLAGS] &= !CWR;
        }
        let total = pseudo(&self.ends, TCP, length) + sum(transport) + sum(payload);
        transport[16..18].copy_from_slice(&finish(total));
    }
}

/// A length as headers have it. No packet is longer.
pub(crate) fn be16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}
