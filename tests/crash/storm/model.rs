//! What must be so, after everything that happened.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is known of a pod.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// It has no lease and no interface. -> Attached by ADD, Unsure by one that was killed.
    Gone,
    /// It has what ADD answered. -> Gone by DEL, Unsure by one that was killed.
    Attached(Value),
    /// A call was killed: it may have a lease, and an interface. -> Gone by DEL or GC.
    Unsure,
}

/// Which pod has which address.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<String, usize>);

impl Claims {
    /// A pod has an address, which nobody else may have.
    pub(crate) fn claim(&mut self, pod: usize, address: String) {
        let owner = *self.0.entry(address.clone()).or_insert(pod);
        assert_eq!(owner, pod, "{address} has two owners: web-{owner} and web-{pod}");
    }

    /// A pod is about to lose what it has.
    pub(crate) fn give_back(&mut self, pod: usize) {
        self.0.retain(|_, owner| *owner != pod);
    }
}

/// Numbers without a pattern, the same for the same seed (xorshift64*).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below another.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}
