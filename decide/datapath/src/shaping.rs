//! What a pod may receive and send, as token buckets.
//!
//! What a pod receives is held up where it leaves the host end. The kernel can hold up only what leaves a link, so what
//! a pod sends is redirected, as it comes in by the host end, through a device of its own (an ifb), held up where it
//! leaves that, and goes on as if it had come straight from the host end. Nothing of it is in the pod's namespace,
//! where the pod could undo it.

use std::fmt;

use selvedge_model::{IfName, Mtu, RateLimit};

/// The largest packet that the kernel handles in one piece, with the headers that it counts for each of the frames
/// that it will become. A queue with less room would never take one.
const LARGEST_PACKET: u64 = 80 << 10;

/// What a frame has beside its MTU: Ethernet's header and a VLAN tag.
const FRAME: u64 = 18;

/// A queue of this length, in parts of a second: long enough to keep TCP going over paths of usual length.
const QUEUE: u64 = 20;

/// A burst for this long, in parts of a second, where none is asked for.
const BURST: u64 = 40;

/// The least burst, in parts of a second: the kernel's timers wake us up no more often than this, when it is busy, and
/// what they miss beyond a burst is lost to the pod.
const LEAST_BURST: u64 = 250;

/// A token bucket (tbf) as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes a second, at least 1.
    pub rate: u64,
    /// How many bytes may pass at once after a pause. Larger packets are divided, where they can be.
    pub burst: u32,
    /// How many bytes wait before more are dropped.
    pub limit: u32,
}

/// A token bucket as the kernel shows it: the burst as the time that it lasts, in the scheduler's ticks of 64 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownBucket {
    /// Bytes a second.
    pub rate: u64,
    /// Ticks, of which the kernel shows 32 bits.
    pub ticks: u32,
    /// Bytes.
    pub limit: u32,
}

/// How a link's traffic is held up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shaping {
    /// What holds up that which leaves it.
    pub bucket: Option<ShownBucket>,
    /// Through which device everything goes first that comes in by it.
    pub redirect: Option<IfName>,
}

impl TokenBucket {
    /// The bucket that holds packets of an MTU to a limit. A burst is raised to what the rate can be kept with.
    pub fn of(limit: &RateLimit, mtu: Mtu) -> Self {
        let rate = limit.rate.get().div_ceil(8);
        let least = (u64::from(mtu.bytes()) + FRAME).max(rate / LEAST_BURST);
        let own = (rate / BURST).max(LARGEST_PACKET);
        let burst = limit.burst.map_or(own, |burst| u64::from(burst.get())).max(least);
        let queue = (rate / QUEUE).max(LARGEST_PACKET);
        let most = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { rate, burst: most(burst), limit: most(queue) }
    }

    /// What the kernel shows of it, by the arithmetic with which it turns bytes into time (`psched_ratecfg`).
    pub fn shown(&self) -> ShownBucket {
        ShownBucket { rate: self.rate, ticks: self.ticks(), limit: self.limit }
    }

    /// How long a burst lasts, in ticks of 64 ns, cut to 32 bits as the kernel does.
    pub fn ticks(&self) -> u32 {
        let mut factor = 1_000_000_000_u64;
        let mut shift = 0;
        let rate = self.rate.max(1);
        while (factor / rate) & (1 << 31) == 0 && factor & (1 << 63) == 0 {
            factor <<= 1;
            shift += 1;
        }
        let multiplier = (factor / rate) & u64::from(u32::MAX);
        let nanoseconds = (u64::from(self.burst) * multiplier) >> shift;
        let [a, b, c, d, ..] = (nanoseconds >> 6).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

impl fmt::Display for TokenBucket {
    /// The words after `tbf`; `bps` is `tc`'s word for bytes a second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate {}bps burst {}b limit {}b", self.rate, self.burst, self.limit)
    }
}

#[cfg(test)]
mod tests;
