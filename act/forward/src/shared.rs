//! What all threads go by: swapped as a whole.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::{self, Thread};

use crate::codec::Codec;
use crate::counters::Counters;
use crate::device::{self, Queue};
use crate::error::ForwardError;
use crate::socket::{self, Listen, Socket};
use crate::task::Task;
use crate::{inward, outward};

/// What is in force.
pub(crate) struct Active<C: Codec> {
    pub(crate) told: C::Task,
    pub(crate) codec: C,
    listen: Listen,
    /// One for each queue.
    pub(crate) sockets: Arc<Vec<Socket>>,
}

/// How a forwarder ends.
pub(crate) type End = Result<(), ForwardError>;

/// The forwarder, as its threads share it.
pub(crate) struct Shared<C: Codec> {
    pub(crate) counters: Counters,
    run_dir: PathBuf,
    /// How many queues the device gets.
    width: usize,
    queues: OnceLock<Vec<Queue>>,
    ends: Sender<End>,
    active: RwLock<Option<Arc<Active<C>>>>,
    /// Goes up with every change, so that a thread need not look for one at each packet.
    generation: AtomicU64,
    /// Does what is due.
    clock: OnceLock<Thread>,
}

impl<C: Codec> Shared<C> {
    pub(crate) fn new(run_dir: PathBuf, width: usize, ends: Sender<End>) -> Self {
        Self {
            counters: Counters::default(),
            run_dir,
            width,
            queues: OnceLock::new(),
            ends,
            active: RwLock::default(),
            generation: AtomicU64::new(0),
            clock: OnceLock::new(),
        }
    }

    /// The device's queues; none before it is made.
    pub(crate) fn queues(&self) -> &[Queue] {
        self.queues.get().map_or(&[], |queues| queues)
    }

    /// What is in force now.
    pub(crate) fn active(&self) -> Option<Arc<Active<C>>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the device and serves it, if that isn't so. Called by one thread at a time.
    pub(crate) fn open(shared: &Arc<Self>) -> Result<(), ForwardError> {
        if shared.queues.get().is_some() {
            return Ok(());
        }
        let queues = device::open(C::Task::DEVICE, shared.width)?;
        shared.queues.get_or_init(|| queues);
        for index in 0..shared.width {
            let mine = Arc::clone(shared);
            start("outward", move || {
                mine.ends.send(Err(outward::forward(&mine, index))).ok();
            })?;
        }
        Ok(())
    }

    /// Goes by another state from now on; the one before stays if that can't be. Called by one thread at a time.
    pub(crate) fn set(shared: &Arc<Self>, told: C::Task) -> Result<(), ForwardError> {
        let before = shared.active();
        let codec =
            C::of(&told, before.as_deref().map(|before| (&before.told, &before.codec)), &shared.run_dir)?;
        let listen = C::listen(&told);
        let kept = before.as_ref().filter(|before| before.listen == listen);
        let (sockets, fresh) = match kept {
            Some(before) => (Arc::clone(&before.sockets), false),
            None => (Arc::new(socket::open(listen, shared.width)?), true),
        };
        Self::open(shared)?;
        let active = Arc::new(Active { told, codec, listen, sockets: Arc::clone(&sockets) });
        *shared.active.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&active));
        shared.generation.fetch_add(1, Ordering::Release);
        if fresh {
            inward::start(shared, &sockets)
                .map_err(|source: io::Error| ForwardError::Thread { name: "inward", source })?;
        }
        active.codec.begin(before.as_deref().map(|before| &before.codec), &shared.counters);
        if let Some(clock) = shared.clock.get() {
            clock.unpark();
        }
        Ok(())
    }

    /// Does what is due whenever it is; sleeps while nothing is in force.
    pub(crate) fn watch_the_clock(&self) {
        let Some(tick) = C::TICK else { return };
        self.clock.get_or_init(thread::current);
        loop {
            match self.active() {
                Some(active) => {
                    if let Some(socket) = active.sockets.first() {
                        active.codec.tick(socket, &self.counters);
                    }
                    drop(active);
                    thread::park_timeout(tick);
                }
                None => thread::park(),
            }
        }
    }
}

/// Starts a thread, which lives as long as it has something to do.
pub(crate) fn start(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), ForwardError> {
    let started: io::Result<_> = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|source| ForwardError::Thread { name, source })
}

/// What is in force, as a thread sees it.
pub(crate) struct View<'a, C: Codec> {
    shared: &'a Shared<C>,
    seen: u64,
    active: Option<Arc<Active<C>>>,
}

impl<'a, C: Codec> View<'a, C> {
    pub(crate) fn new(shared: &'a Shared<C>) -> Self {
        Self { shared, seen: 0, active: None }
    }

    /// What is in force now.
    pub(crate) fn now(&mut self) -> Option<&Active<C>> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.seen {
            self.seen = generation;
            self.active = self.shared.active();
        }
        self.active.as_deref()
    }
}
