//! What a TUN device says of a packet besides its bytes (`struct virtio_net_hdr`).

/// VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum is still to be completed.
const NEEDS_CHECKSUM: u8 = 1;
/// VIRTIO_NET_HDR_GSO_ECN: the connection uses ECN, so that only the first of the cut packets may say CWR.
const ECN: u8 = 0x80;

/// How a large packet is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Segmentation {
    /// TCP over IPv4.
    Tcp4 = 1,
    /// TCP over IPv6.
    Tcp6 = 4,
    /// UDP over either.
    Udp = 5,
}

/// The header before each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// Where the part begins that is still to be summed, and where in it the sum goes; `None` where the packet's
    /// checksum is right.
    pub checksum: Option<(u16, u16)>,
    /// How the packet is to be cut, and how much payload each gets; `None` for a packet that stays as it is.
    pub segments: Option<(Segmentation, u16)>,
    /// How much of the packet's beginning is headers, where it is to be cut.
    pub header: u16,
}

impl Offload {
    /// The length of the header.
    pub const LENGTH: usize = 10;

    /// Reads the header, in the host's byte order; `None` if it asks for something that was not agreed upon.
    pub fn read(bytes: &[u8; Self::LENGTH]) -> Option<Self> {
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let checksum = (bytes[0] & NEEDS_CHECKSUM != 0).then(|| (number(6), number(8)));
        let segments = match bytes[1] & !ECN {
            0 => None,
            1 => Some(Segmentation::Tcp4),
            4 => Some(Segmentation::Tcp6),
            5 => Some(Segmentation::Udp),
            _ => return None,
        };
        Some(Self { checksum, segments: segments.map(|kind| (kind, number(4))), header: number(2) })
    }

    /// The header's bytes.
    pub fn bytes(&self) -> [u8; Self::LENGTH] {
        let (start, offset) = self.checksum.unwrap_or_default();
        let (kind, size) = self.segments.map_or((0, 0), |(kind, size)| (kind as u8, size));
        let numbers = [self.header, size, start, offset].map(u16::to_ne_bytes);
        let mut bytes = [0; Self::LENGTH];
        bytes[0] = if self.checksum.is_some() { NEEDS_CHECKSUM } else { 0 };
        bytes[1] = kind;
        bytes[2..].copy_from_slice(numbers.as_flattened());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let offload =
            Offload { checksum: Some((20, 16)), segments: Some((Segmentation::Tcp4, 1400)), header: 52 };
        assert_eq!(Offload::read(&offload.bytes()), Some(offload));
        assert_eq!(Offload::read(&[0; 10]), Some(Offload::default()));
        let mut ecn = offload.bytes();
        ecn[1] |= 0x80;
        assert_eq!(Offload::read(&ecn), Some(offload));
        ecn[1] = 3;
        assert_eq!(Offload::read(&ecn), None, "UFO was never agreed upon");
    }
}
