//! What all threads go by: swapped as a whole.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use selvedge_model::Forwarding;
use selvedge_packet::Peers;

use crate::counters::Counters;
use crate::device::Queue;
use crate::error::ForwardError;
use crate::inward;
use crate::socket::{self, Socket};

/// What is in force.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) told: Forwarding,
    pub(crate) peers: Peers,
    /// One for each queue.
    pub(crate) sockets: Arc<Vec<Socket>>,
}

/// The forwarder, as its threads share it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queues: Vec<Queue>,
    pub(crate) counters: Counters,
    active: RwLock<Option<Arc<Active>>>,
    /// Goes up with every change, so that a thread need not look for one at each packet.
    generation: AtomicU64,
}

impl Shared {
    pub(crate) fn new(queues: Vec<Queue>) -> Self {
        Self {
            queues,
            counters: Counters::default(),
            active: RwLock::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// What is in force now.
    pub(crate) fn active(&self) -> Option<Arc<Active>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes by another state from now on; the one before stays if that can't be. Called by one thread at a time.
    pub(crate) fn set(shared: &Arc<Self>, told: Forwarding) -> Result<(), ForwardError> {
        let before = shared.active();
        let peers = Peers::of(&told)?;
        let kept = before.filter(|before| (before.told.local, before.told.port) == (told.local, told.port));
        let address = SocketAddr::new(told.local, told.port);
        let (sockets, fresh) = match kept {
            Some(before) => (Arc::clone(&before.sockets), false),
            None => (Arc::new(socket::open(address, shared.queues.len())?), true),
        };
        let active = Arc::new(Active { told, peers, sockets: Arc::clone(&sockets) });
        *shared.active.write().unwrap_or_else(PoisonError::into_inner) = Some(active);
        shared.generation.fetch_add(1, Ordering::Release);
        if fresh {
            inward::start(shared, &sockets)
                .map_err(|source: io::Error| ForwardError::Thread { name: "inward", source })?;
        }
        Ok(())
    }
}

/// What is in force, as a thread sees it.
#[derive(Debug)]
pub(crate) struct View<'a> {
    shared: &'a Shared,
    seen: u64,
    active: Option<Arc<Active>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, seen: 0, active: None }
    }

    /// What is in force now.
    pub(crate) fn now(&mut self) -> Option<&Active> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.seen {
            self.seen = generation;
            self.active = self.shared.active();
        }
        self.active.as_deref()
    }
}
