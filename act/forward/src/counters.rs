//! What went through, and what did not.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Makes both structures from one list.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counted since the forwarder started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        /// The counters, of all threads.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Packets that were sent to nodes.
    sent_packets,
    /// Their bytes.
    sent_bytes,
    /// Packets that came from nodes and were given to the device.
    received_packets,
    /// Their bytes.
    received_bytes,
    /// Dropped: no node has the destination, or nothing was told yet.
    dropped_no_peer,
    /// Dropped: longer than the way to the node takes.
    dropped_too_big,
    /// Dropped: the kernel did not send it.
    dropped_not_sent,
    /// Dropped: it is no IP packet, or not what its device says of it.
    dropped_malformed,
    /// Dropped: it came from an address that is no node's.
    dropped_stranger,
    /// Dropped: its source is not behind the node that it came from.
    dropped_source,
    /// Dropped: the device did not take it.
    dropped_device,
    /// Dropped: it waited for a session with its node, and too many came after it or none was made.
    dropped_no_session,
    /// Dropped: no session of ours opens it, or it came before.
    dropped_sealed,
    /// Sessions that we have asked for.
    handshakes_begun,
    /// Sessions that were asked for by nodes, and that we have agreed to.
    handshakes_answered,
    /// Sessions that we have asked for, and that nodes have agreed to.
    handshakes_done,
}

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
