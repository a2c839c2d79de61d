//! Whom a packet is from and for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The length of an IPv4 header without options.
pub(crate) const IPV4_HEADER: usize = 20;
/// The length of IPv6's first header.
pub(crate) const IPV6_HEADER: usize = 40;

/// The addresses of a packet, both of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Who sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
}

impl Ends {
    /// The ends of a packet; `None` if it is none, or less than what its header says.
    pub fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
                let whole = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let length = usize::from(header[0] & 0xf) * 4;
                if length < IPV4_HEADER || whole < length || packet.len() < whole {
                    return None;
                }
                let at = |from: usize| Some(Ipv4Addr::from(*header.get(from..)?.first_chunk::<4>()?).into());
                Some(Self { source: at(12)?, destination: at(16)? })
            }
            6 => {
                let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
                if packet.len() < IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]])) {
                    return None;
                }
                let at = |from: usize| Some(Ipv6Addr::from(*header.get(from..)?.first_chunk::<16>()?).into());
                Some(Self { source: at(8)?, destination: at(24)? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ends_are_read_of_both_families() {
        let mut v4 = vec![0x45, 0, 0, 21, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 7];
        let ends = Ends::of(&v4).unwrap();
        assert_eq!(
            (ends.source.to_string(), ends.destination.to_string()),
            ("10.0.0.1".into(), "10.0.0.2".into())
        );
        assert_eq!(Ends::of(&v4[..20]), None, "cut short");
        v4[0] = 0x44;
        assert_eq!(Ends::of(&v4), None, "a header shorter than any");
        let mut v6 = vec![0; 40];
        v6[0] = 0x60;
        v6[23] = 1;
        v6[39] = 2;
        let ends = Ends::of(&v6).unwrap();
        assert_eq!((ends.source.to_string(), ends.destination.to_string()), ("::1".into(), "::2".into()));
        v6[5] = 1;
        assert_eq!(Ends::of(&v6), None, "cut short");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            Ends::of(&bytes);
        }
    }
}
