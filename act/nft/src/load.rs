//! Where registers are loaded from, as netlink attributes.

use std::num::NonZeroU32;

use selvedge_wire::{Reader, Writer};

/// `NFT_NG_RANDOM`
const NG_RANDOM: u32 = 1;

/// `enum nft_meta_keys`, those that are used here.
pub(crate) mod meta {
    pub(crate) const PROTOCOL: u32 = 1;
    pub(crate) const MARK: u32 = 3;
    pub(crate) const IIFNAME: u32 = 6;
    pub(crate) const OIFNAME: u32 = 7;
    pub(crate) const NFPROTO: u32 = 15;
    pub(crate) const L4PROTO: u32 = 16;
    pub(crate) const PKTTYPE: u32 = 19;
}

/// `enum nft_ct_keys`, those that are used here.
pub(crate) mod ct {
    pub(crate) const STATE: u32 = 0;
    pub(crate) const STATUS: u32 = 2;
}

/// `enum nft_fib_result` and `enum nft_fib_flags`.
pub(crate) mod fib {
    pub(crate) const OIF: u32 = 1;
    pub(crate) const ADDRTYPE: u32 = 3;
    pub(crate) const F_SADDR: u32 = 1;
    pub(crate) const F_DADDR: u32 = 2;
    pub(crate) const F_IIF: u32 = 8;
    pub(crate) const F_PRESENT: u32 = 32;
}

/// Where a register is loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Meta(u32),
    Ct(u32),
    Fib {
        result: u32,
        flags: u32,
    },
    Payload(Payload),
    /// A number that chance takes, from 0 on.
    Random {
        below: NonZeroU32,
    },
}

/// Bytes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) base: Base,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// The header that an offset counts from: `enum nft_payload_bases`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// Writes what is loaded into a register.
pub(crate) fn write_load(source: Source, register: u32, data: &mut Writer) {
    data.u32_be(1, register);
    match source {
        Source::Meta(key) | Source::Ct(key) => data.u32_be(2, key),
        Source::Fib { result, flags } => {
            data.u32_be(2, result);
            data.u32_be(3, flags);
        }
        Source::Random { below } => {
            data.u32_be(2, below.get());
            data.u32_be(3, NG_RANDOM);
        }
        Source::Payload(Payload { base, offset, length }) => {
            data.u32_be(2, base as u32);
            data.u32_be(3, offset);
            data.u32_be(4, length);
        }
    }
}

/// Reads which bytes of the packet are loaded.
pub(crate) fn read_payload(data: Reader<'_>) -> Option<Source> {
    let base = match data.u32_be(2)? {
        0 => Base::Link,
        1 => Base::Network,
        2 => Base::Transport,
        _ => return None,
    };
    Some(Source::Payload(Payload { base, offset: data.u32_be(3)?, length: data.u32_be(4)? }))
}

/// Reads which number chance takes. One counted from elsewhere than 0 is none of ours.
pub(crate) fn read_random(data: Reader<'_>) -> Option<Source> {
    let ours = data.u32_be(3)? == NG_RANDOM && data.u32_be(4).unwrap_or(0) == 0;
    Some(Source::Random { below: NonZeroU32::new(data.u32_be(2)?).filter(|_| ours)? })
}
