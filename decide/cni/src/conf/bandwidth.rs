//! `bandwidth`: rates in bits a second, bursts in bits (CONVENTIONS, "Dynamic plugin specific fields").

use std::num::{NonZeroU32, NonZeroU64};

use selvedge_model::{Bandwidth, RateLimit};

use crate::error::CniError;
use crate::json::Object;

/// What containerd and cri-o send for a pod of which only the rate is known. Taken as a number, half a gigabyte and
/// more would pass before the first packet is held up.
const UNSTATED_BURSTS: [u64; 2] = [(1 << 32) - 1, (1 << 35) - 9];

/// The limits that an object states: `runtimeConfig.bandwidth`, or a configuration by keys of its own.
pub(super) fn limits(object: &Object<'_>) -> Result<Bandwidth, CniError> {
    Ok(Bandwidth {
        ingress: limit(object, "ingressRate", "ingressBurst")?,
        egress: limit(object, "egressRate", "egressBurst")?,
    })
}

/// One direction. 0 counts as absent; a rate without a burst is a mistake, and a burst without a rate.
fn limit(object: &Object<'_>, rate_key: &str, burst_key: &str) -> Result<Option<RateLimit>, CniError> {
    let amount = |key| object.whole(key).map(|amount| amount.and_then(NonZeroU64::new));
    match (amount(rate_key)?, amount(burst_key)?) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(object.need(rate_key)?.wrong(format_args!("goes with no {burst_key}"))),
        (None, Some(_)) => Err(object.need(burst_key)?.wrong(format_args!("goes with no {rate_key}"))),
        (Some(rate), Some(bits)) => {
            let too_great = |_| object.need(burst_key).map_or_else(|e| e, |f| f.wrong("is 4 GiB or more"));
            let bytes = u32::try_from(bits.get() / 8).map_err(too_great)?;
            let stated = !UNSTATED_BURSTS.contains(&bits.get());
            // Less than a byte is not nothing.
            let burst = NonZeroU32::new(bytes).unwrap_or(NonZeroU32::MIN);
            Ok(Some(RateLimit { rate, burst: stated.then_some(burst) }))
        }
    }
}

#[cfg(test)]
mod tests;
