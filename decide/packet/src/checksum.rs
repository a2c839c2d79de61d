//! The Internet checksum (RFC 1071): sums are kept in the host's byte order, which the ones' complement allows.

use std::net::IpAddr;

use crate::ends::Ends;

/// The sum of the words of a part that begins at an even offset, not folded yet. An odd last byte counts as the first
/// of a word.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    // Wide and unrolled, so that the compiler makes vectors of it: every byte of the tunnel passes here.
    let (chunks, rest) = bytes.as_chunks::<64>();
    let mut lanes = [0u64; 16];
    for chunk in chunks {
        let (words, _) = chunk.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (pairs, odd) = rest.as_chunks::<2>();
    let tail: u64 = pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum();
    let last = odd.first().map_or(0, |&byte| u64::from(u16::from_ne_bytes([byte, 0])));
    lanes.iter().sum::<u64>() + tail + last
}

/// The sum of what TCP and UDP count in besides their own bytes.
pub(crate) fn pseudo(ends: &Ends, protocol: u8, length: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    };
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    address(ends.source) + address(ends.destination) + sum(&length) + sum(&[0, protocol])
}

/// A sum in 16 bits, in the host's byte order.
pub(crate) fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The bytes of the checksum that goes with a sum.
pub(crate) fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the RFC has it.
    fn plain(bytes: &[u8]) -> u16 {
        let words =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| u32::from(b)));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn the_wide_sum_is_the_plain_one(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            prop_assert_eq!(fold(sum(&bytes)).to_ne_bytes(), plain(&bytes).to_be_bytes());
        }
    }
}
