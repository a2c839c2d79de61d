//! The forwarder, from its start to its end.

use std::io::{self, Read};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::codec::Codec;
use crate::control::{About, Control};
use crate::device;
use crate::error::ForwardError;
use crate::shared::{End, Shared, start};
use crate::task::{Task, file};
use crate::udp::Udp;
use crate::wireguard::Sessions;

/// More queues than this help nobody.
const QUEUES: usize = 16;

/// Where a forwarder is at work.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory for its socket and its lock, which is there.
    pub run_dir: PathBuf,
    /// The program's version.
    pub version: String,
    /// How many queues the device gets; as many as there are processors where it isn't said.
    pub queues: Option<NonZero<usize>>,
}

/// Forwards over UDP in the network namespace of the calling thread until a signal (SIGTERM, SIGINT) or a client asks
/// for the end. `ready` is called once everything is in place; nothing is forwarded before a client says what.
///
/// # Errors
/// [`ForwardError`] if it can't start, and when the device is deleted.
pub fn udp(options: &Options, ready: impl FnOnce()) -> Result<(), ForwardError> {
    run::<Udp>(options, ready)
}

/// The same in WireGuard. The device is made when a client first says what is to be done, so that another may have its
/// name where nobody ever does; one that a forwarder before left is taken over at once.
///
/// # Errors
/// [`ForwardError`] if it can't start, and when the device is deleted.
pub fn wireguard(options: &Options, ready: impl FnOnce()) -> Result<(), ForwardError> {
    run::<Sessions>(options, ready)
}

fn run<C: Codec>(options: &Options, ready: impl FnOnce()) -> Result<(), ForwardError> {
    let path = file::<C::Task>(&options.run_dir, "lock");
    let (_lock, inode) = lock(&path)?;
    let available = thread::available_parallelism().map_or(1, NonZero::get);
    let queues = options.queues.map_or(available, NonZero::get).clamp(1, QUEUES);
    let (ends, ended) = mpsc::channel();
    let shared = Arc::new(Shared::<C>::new(options.run_dir.clone(), queues, ends.clone()));
    if C::FROM_START || device::is_there(C::Task::DEVICE) {
        match Shared::open(&shared) {
            // Who tells it to use the device hears of it.
            Err(ForwardError::Foreign { .. }) if !C::FROM_START => {}
            opened => opened?,
        }
    }
    hear_signals(ends.clone())?;
    let clock = Arc::clone(&shared);
    start("clock", move || clock.watch_the_clock())?;
    let control = Control::listen(&file::<C::Task>(&options.run_dir, "sock"))?;
    let about = About { lock: (path, inode), version: options.version.clone() };
    start("control", move || {
        control.answer(&shared, &about);
        ends.send(Ok(())).ok();
    })?;
    ready();
    // All threads are gone only when the process is.
    ended.recv().unwrap_or(Ok(()))
}

/// Takes the lock for as long as the process lives; with it comes the number of its file.
fn lock(path: &Path) -> Result<(OwnedFd, u64), ForwardError> {
    let failed = |errno: Errno| ForwardError::File { path: path.to_owned(), source: errno.into() };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let inode = rustix::fs::fstat(&lock).map_err(failed)?.st_ino;
            Ok((lock, inode))
        }
        Err(Errno::WOULDBLOCK) => Err(ForwardError::Occupied { path: path.to_owned() }),
        Err(errno) => Err(failed(errno)),
    }
}

fn hear_signals(ends: Sender<End>) -> Result<(), ForwardError> {
    let registered = || -> io::Result<UnixStream> {
        let (received, signalled) = UnixStream::pair()?;
        pipe::register(SIGTERM, signalled.try_clone()?)?;
        pipe::register(SIGINT, signalled)?;
        Ok(received)
    };
    let mut signals = registered().map_err(|source| ForwardError::Thread { name: "signals", source })?;
    start("signals", move || {
        // Whatever is read, or can't be: there is nothing to go on for.
        signals.read_exact(&mut [0]).ok();
        ends.send(Ok(())).ok();
    })
}
