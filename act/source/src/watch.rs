//! The directory of manifests, read when the kernel says that it changed and, in any case, every half minute.

mod directory;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::manifests::{Manifests, Snapshot};

/// How long the directory must be quiet before it is read.
const QUIET: Duration = Duration::from_millis(20);

/// How long a directory that never gets quiet is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often the directory is read although nothing was heard: changes behind symbolic links are not reported.
const RESCAN: Duration = Duration::from_secs(30);

/// How often a directory that has gone is looked for.
const ABSENT: Duration = Duration::from_millis(200);

/// What is listened for. A write counts when the file is closed, so that a half-written one is seldom read.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The watch can't begin.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The directory isn't there, is no directory, or can't be read.
    #[error("can't read the directory of manifests {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel gives no more inotify instances, descriptors or threads.
    #[error("can't watch the directory of manifests {}", directory.display())]
    Watch {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A directory being watched on a thread of its own, until this is dropped or a snapshot's receiver breaks off.
/// Dropping it waits for that thread.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let woken = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            drop(thread.join());
        }
    }
}

/// Watches a directory: hands over its first snapshot and then each that differs from the one before, all on the
/// watcher's thread, until `deliver` breaks off.
///
/// Read are regular files, and symbolic links to such, named `*.yaml`, `*.yml` or `*.json` and not hidden. A directory
/// that goes away later leaves the last state in force until it is there again.
pub fn spawn(
    directory: &Path,
    mut deliver: impl FnMut(Snapshot) -> ControlFlow<()> + Send + 'static,
) -> Result<Watcher, WatchError> {
    let unreadable = |source| WatchError::Directory { directory: directory.to_owned(), source };
    let unwatched = |source| WatchError::Watch { directory: directory.to_owned(), source };
    let mut watch = Watch::new(directory).map_err(unwatched)?;
    watch.listen().map_err(unreadable)?;
    let first = watch.manifests.update(directory::texts(directory).map_err(unreadable)?);
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let stop = Arc::new(eventfd(0, flags).map_err(|error| unwatched(error.into()))?);
    let stopped = Arc::clone(&stop);
    let thread = thread::Builder::new().name("manifests".to_owned());
    let thread = thread.spawn(move || watch.run(first, &stopped, &mut deliver)).map_err(unwatched)?;
    Ok(Watcher { stop, thread: Some(thread) })
}

struct Watch {
    directory: PathBuf,
    inotify: OwnedFd,
    /// The watch on the directory as it was last found; none if it wasn't.
    watched: Option<i32>,
    manifests: Manifests,
}

impl Watch {
    fn new(directory: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { directory: directory.to_owned(), inotify, watched: None, manifests: Manifests::default() })
    }

    fn run(mut self, first: Snapshot, stop: &OwnedFd, deliver: &mut impl FnMut(Snapshot) -> ControlFlow<()>) {
        let mut last = first.clone();
        let mut next = Some(first);
        loop {
            if next.is_some_and(|snapshot| deliver(snapshot).is_break()) || self.wait(stop).is_break() {
                return;
            }
            self.settle();
            let snapshot = self.look();
            next = (snapshot != last).then(|| snapshot.clone());
            last = snapshot;
        }
    }

    /// Sets the watch on whatever has the directory's name now, so that another directory in its place is followed.
    fn listen(&mut self) -> io::Result<()> {
        let found = inotify::add_watch(&self.inotify, &self.directory, EVENTS);
        let stale = self.watched.take().filter(|old| found != Ok(*old));
        // The kernel has already removed the watch of a directory that is gone.
        let _removed = stale.map(|old| inotify::remove_watch(&self.inotify, old));
        self.watched = Some(found?);
        Ok(())
    }

    /// Listens before it reads, so that a change during the reading is heard and read next.
    fn look(&mut self) -> Snapshot {
        match self.listen().and_then(|()| directory::texts(&self.directory)) {
            Ok(files) => self.manifests.update(files),
            Err(error) => self.manifests.unlisted(&self.directory, &error),
        }
    }

    /// Waits until it is time to look; breaks when it is time to stop.
    fn wait(&self, stop: &OwnedFd) -> ControlFlow<()> {
        let timeout = if self.watched.is_some() { RESCAN } else { ABSENT };
        let mut fds = [PollFd::new(stop, PollFlags::IN), PollFd::new(&self.inotify, PollFlags::IN)];
        // An interrupted wait means only that the directory is looked at too early.
        let _ready = poll(&mut fds, timespec(timeout).as_ref());
        if fds[0].revents().is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Reads events away until none has come for a while. They say nothing that a look at the directory doesn't.
    fn settle(&self) {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            let mut events = [0; 4096];
            while rustix::io::read(&self.inotify, &mut events).is_ok_and(|bytes| bytes > 0) {}
            let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
            if poll(&mut fds, timespec(QUIET).as_ref()) == Ok(0) {
                return;
            }
        }
    }
}

fn timespec(duration: Duration) -> Option<Timespec> {
    Timespec::try_from(duration).ok()
}

#[cfg(test)]
mod tests;
