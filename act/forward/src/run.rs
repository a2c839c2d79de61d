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

use crate::client::SOCKET;
use crate::control::{About, Control};
use crate::error::ForwardError;
use crate::shared::Shared;
use crate::{DEVICE, device, outward};

/// Held by the one forwarder of a run directory.
const LOCK: &str = "tunnel-udp.lock";

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

/// Forwards in the network namespace of the calling thread until a signal (SIGTERM, SIGINT) or a client asks for the
/// end. `ready` is called once everything is in place; nothing is forwarded before a client says what.
///
/// # Errors
/// [`ForwardError`] if it can't start, and when the device is deleted.
pub fn run(options: &Options, ready: impl FnOnce()) -> Result<(), ForwardError> {
    let path = options.run_dir.join(LOCK);
    let (_lock, inode) = lock(&path)?;
    let available = thread::available_parallelism().map_or(1, NonZero::get);
    let queues = options.queues.map_or(available, NonZero::get).clamp(1, QUEUES);
    let shared = Arc::new(Shared::new(device::open(DEVICE, queues)?));
    let (ends, ended) = mpsc::channel();
    hear_signals(ends.clone())?;
    for index in 0..queues {
        let (shared, ends) = (Arc::clone(&shared), ends.clone());
        start("outward", move || {
            ends.send(Err(outward::forward(&shared, index, DEVICE))).ok();
        })?;
    }
    let control = Control::listen(&options.run_dir.join(SOCKET))?;
    let (version, device) = (options.version.clone(), DEVICE.to_owned());
    let about = About { lock: (path, inode), version, device };
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

fn hear_signals(ends: Sender<Result<(), ForwardError>>) -> Result<(), ForwardError> {
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

fn start(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), ForwardError> {
    let started: io::Result<_> = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|source| ForwardError::Thread { name, source })
}
