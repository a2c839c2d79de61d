//! How much a pod may receive and send.

use std::num::{NonZeroU32, NonZeroU64};

/// The limit of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Bits a second, everything counted that is in a frame.
    pub rate: NonZeroU64,
    /// How many bytes may pass at once after a pause; none leaves it to us.
    pub burst: Option<NonZeroU32>,
}

/// The limits of a pod, named as the pod sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// What it receives.
    pub ingress: Option<RateLimit>,
    /// What it sends.
    pub egress: Option<RateLimit>,
}
