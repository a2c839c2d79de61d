//! Our own key, and what comes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;
use rustix::rand::{GetRandomFlags, getrandom};
use selvedge_model::PublicKey;
use selvedge_wireguard::{SecretKey, key_file};

use crate::error::ForwardError;

/// How many handshakes a second are looked at without a proof of the sender's address. One takes some 0.2 ms.
const HANDSHAKES: u64 = 1000;

/// How many strangers are remembered.
const STRANGERS: usize = 4096;

/// How many numbers there are for tunnels: a session's number has 8 bits more.
const INDICES: u32 = 1 << 24;

/// Our key.
pub(super) struct Own {
    pub(super) secret: x25519::StaticSecret,
    pub(super) public: x25519::PublicKey,
    /// Asked once for each handshake.
    pub(super) limiter: RateLimiter,
    /// For tunnels, which ask again.
    pub(super) unlimited: Arc<RateLimiter>,
    /// Keys that somebody asked for a session with and that are no node's yet.
    strangers: Mutex<BTreeSet<PublicKey>>,
    next_index: AtomicU32,
}

impl Own {
    /// The key of that run directory, which must be the one that was told; what was before if that is the same.
    pub(super) fn of(
        told: PublicKey,
        before: Option<&Arc<Self>>,
        run_dir: &Path,
    ) -> Result<Arc<Self>, ForwardError> {
        let path = key_file(run_dir);
        let Some(key) = SecretKey::read(&path)? else { return Err(ForwardError::NoKey { path, told }) };
        let is = key.public();
        if is != told {
            return Err(ForwardError::OtherKey { path, is, told });
        }
        if let Some(before) = before.filter(|before| before.public.as_bytes() == &told.0) {
            return Ok(Arc::clone(before));
        }
        Ok(Arc::new(Self::new(*key.bytes())))
    }

    pub(super) fn new(secret: [u8; 32]) -> Self {
        let secret = x25519::StaticSecret::from(secret);
        let public = x25519::PublicKey::from(&secret);
        Self {
            secret,
            public,
            limiter: RateLimiter::new(&public, HANDSHAKES),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            strangers: Mutex::default(),
            next_index: AtomicU32::new(first_index()),
        }
    }

    /// A number that no tunnel has.
    pub(super) fn free_index(&self, taken: &BTreeMap<u32, usize>) -> u32 {
        loop {
            let index = self.next_index.fetch_add(1, Ordering::Relaxed) % INDICES;
            if !taken.contains_key(&index) {
                return index;
            }
        }
    }

    /// Remembers that somebody with that key wants a session.
    pub(super) fn knocks(&self, key: PublicKey) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.len() >= STRANGERS {
            strangers.clear();
        }
        strangers.insert(key);
    }

    /// Whether that was so, which is forgotten now.
    pub(super) fn has_knocked(&self, key: &PublicKey) -> bool {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }
}

/// Another one after each start: what nodes still send in the sessions of a forwarder before is in none of ours.
fn first_index() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness it begins at 0, and such packets are those that can't be opened.
    getrandom(&mut bytes, GetRandomFlags::empty()).ok();
    u32::from_ne_bytes(bytes)
}
