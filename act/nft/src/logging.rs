//! What is told of packets, and how often, as netlink attributes.

use std::num::NonZeroU32;

use selvedge_ruleset::{Limit, Log, LogPrefix, Per};
use selvedge_wire::{Reader, Writer};

use crate::compile::{meaning, number};

const LOG_GROUP: u16 = 1;
const LOG_PREFIX: u16 = 2;
const LOG_SNAPLEN: u16 = 3;
/// NFTA_LOG_QTHRESHOLD, NFTA_LOG_LEVEL and NFTA_LOG_FLAGS.
const LOG_OTHERS: [u16; 3] = [4, 5, 6];

const LIMIT_RATE: u16 = 1;
const LIMIT_UNIT: u16 = 2;
const LIMIT_BURST: u16 = 3;
const LIMIT_TYPE: u16 = 4;
const LIMIT_FLAGS: u16 = 5;
/// `NFT_LIMIT_PKTS`
const PACKETS: u32 = 0;
/// `NFT_LIMIT_F_INV`
const OVER: u32 = 1;

/// The units in seconds.
const UNITS: [(Per, u64); 5] = [
    (Per::Second, 1),
    (Per::Minute, 60),
    (Per::Hour, 3600),
    (Per::Day, 24 * 3600),
    (Per::Week, 7 * 24 * 3600),
];

pub(crate) fn write_log(log: &Log, data: &mut Writer) {
    data.bytes(LOG_GROUP, &log.group.to_be_bytes());
    if !log.prefix.as_str().is_empty() {
        data.text(LOG_PREFIX, log.prefix.as_str());
    }
    if let Some(bytes) = log.snaplen {
        data.u32_be(LOG_SNAPLEN, bytes.get());
    }
}

/// Only what is told to a group, each packet at once.
pub(crate) fn read_log(data: Reader<'_>) -> Option<Log> {
    if LOG_OTHERS.iter().any(|kind| data.get(*kind).is_some()) {
        return None;
    }
    let group = u16::from_be_bytes(data.get(LOG_GROUP)?.try_into().ok()?);
    let prefix = match data.get(LOG_PREFIX) {
        Some(_) => LogPrefix::new(&data.text(LOG_PREFIX)?)?,
        None => LogPrefix::default(),
    };
    Some(Log { prefix, group, snaplen: data.u32_be(LOG_SNAPLEN).and_then(NonZeroU32::new) })
}

pub(crate) fn write_limit(limit: &Limit, data: &mut Writer) {
    data.u64_be(LIMIT_RATE, limit.rate.get().into());
    data.u64_be(LIMIT_UNIT, number(&UNITS, &limit.per));
    data.u32_be(LIMIT_BURST, limit.burst.get());
    data.u32_be(LIMIT_TYPE, PACKETS);
    data.u32_be(LIMIT_FLAGS, if limit.over { OVER } else { 0 });
}

/// Only limits of packets, not of bytes.
pub(crate) fn read_limit(data: Reader<'_>) -> Option<Limit> {
    let flags = data.u32_be(LIMIT_FLAGS).unwrap_or(0);
    let plain = data.u32_be(LIMIT_TYPE).unwrap_or(PACKETS) == PACKETS && flags & !OVER == 0;
    let rate = NonZeroU32::new(u32::try_from(data.u64_be(LIMIT_RATE)?).ok()?)?;
    let (per, burst) =
        (meaning(&UNITS, &data.u64_be(LIMIT_UNIT)?)?, NonZeroU32::new(data.u32_be(LIMIT_BURST)?)?);
    plain.then_some(Limit { rate, per, burst, over: flags == OVER })
}
