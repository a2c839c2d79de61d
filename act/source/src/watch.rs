//! The directory of manifests, and that of keys, read when the kernel says that they changed and, in any case, every half
//! minute, or every few seconds.

mod directory;
mod listener;
mod writing;

use std::ffi::OsStr;
use std::io;
use std::iter;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::manifests::{Manifests, Snapshot};
use directory::{KeyFiles, ManifestFiles};
use listener::Listener;

/// How long a directory must be quiet before it is read again. After such a time of quiet it is read at once: who writes
/// many files makes one change of them but for the first.
const QUIET: Duration = Duration::from_millis(20);

/// How long a directory that never gets quiet is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often the manifests are read although nothing was heard: changes behind symbolic links are not reported.
const RESCAN: Duration = Duration::from_secs(30);

/// The same of keys: what other machines change in a directory that they share is not reported either.
const RESCAN_KEYS: Duration = Duration::from_secs(5);

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

/// The directories that are watched.
#[derive(Debug, Clone, Copy)]
pub struct Directories<'a> {
    /// That of manifests.
    pub manifests: &'a Path,
    /// That of the nodes' keys, if they share any ([`crate::keys`]). Before it is there nobody has published any.
    pub keys: Option<&'a Path>,
}

impl<'a> From<&'a Path> for Directories<'a> {
    fn from(manifests: &'a Path) -> Self {
        Self { manifests, keys: None }
    }
}

/// Watches directories: hands over the first snapshot and then each that differs from the one before, all on the
/// watcher's thread, until `deliver` breaks off.
///
/// Manifests are regular files, and symbolic links to such, named `*.yaml`, `*.yml` or `*.json` and not hidden. A
/// directory that goes away later leaves the last state in force until it is there again.
///
/// # Errors
/// [`WatchError`].
pub fn spawn<'a>(
    directories: impl Into<Directories<'a>>,
    mut deliver: impl FnMut(Snapshot) -> ControlFlow<()> + Send + 'static,
) -> Result<Watcher, WatchError> {
    let Directories { manifests: directory, keys } = directories.into();
    let unreadable = |source| WatchError::Directory { directory: directory.to_owned(), source };
    let unwatched = |source| WatchError::Watch { directory: directory.to_owned(), source };
    let mut watch = Watch::new(directory, keys).map_err(unwatched)?;
    watch.look_at_keys();
    watch.listener.listen().map_err(unreadable)?;
    let first = watch.files.texts(directory, |_| false).map_err(unreadable)?;
    let first = watch.manifests.update_changed(first);
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let stop = Arc::new(eventfd(0, flags).map_err(|error| unwatched(error.into()))?);
    let stopped = Arc::clone(&stop);
    let thread = thread::Builder::new().name("manifests".to_owned());
    let thread = thread.spawn(move || watch.run(first, &stopped, &mut deliver)).map_err(unwatched)?;
    Ok(Watcher { stop, thread: Some(thread) })
}

struct Watch {
    listener: Listener,
    files: ManifestFiles,
    keys: Option<(Listener, KeyFiles)>,
    /// When something was last heard that there was to look at.
    heard: Option<Instant>,
    manifests: Manifests,
}

impl Watch {
    fn new(manifests: &Path, keys: Option<&Path>) -> io::Result<Self> {
        let keys =
            keys.map(|keys| Ok::<_, io::Error>((Listener::new(keys, RESCAN_KEYS)?, KeyFiles::default())));
        let listener = Listener::new(manifests, RESCAN)?;
        let (files, manifests) = (ManifestFiles::default(), Manifests::default());
        Ok(Self { listener, files, keys: keys.transpose()?, heard: None, manifests })
    }

    fn run(mut self, first: Snapshot, stop: &OwnedFd, deliver: &mut impl FnMut(Snapshot) -> ControlFlow<()>) {
        let mut last = first.clone();
        let mut next = Some(first);
        loop {
            if next.is_some_and(|snapshot| deliver(snapshot).is_break()) || self.wait(stop).is_break() {
                return;
            }
            let snapshot = self.look();
            next = (snapshot != last).then(|| snapshot.clone());
            last = snapshot;
        }
    }

    /// Looks where something was heard, or wasn't for long.
    fn look(&mut self) -> Snapshot {
        if self.keys.as_ref().is_some_and(|(listener, _)| listener.is_due()) {
            self.look_at_keys();
        }
        if !self.listener.is_due() {
            return self.manifests.snapshot();
        }
        if self.listener.is_rescan() {
            self.files.forget();
        }
        let directory = &self.listener.directory().to_owned();
        // Listens before it reads, so that a change during the reading is heard and read next.
        let listening = self.listener.listen();
        let is_written = |name: &OsStr| self.listener.is_written(name);
        match listening.and_then(|()| self.files.texts(directory, is_written)) {
            Ok(files) => self.manifests.update_changed(files),
            Err(error) => self.manifests.unlisted(directory, &error),
        }
    }

    fn look_at_keys(&mut self) {
        let Some((listener, files)) = &mut self.keys else { return };
        let directory = &listener.directory().to_owned();
        match listener.listen().and_then(|()| files.texts(directory)) {
            Ok(files) => self.manifests.update_keys(files),
            Err(error) => self.manifests.keys_unlisted(directory, &error),
        }
    }

    fn listeners(&mut self) -> impl Iterator<Item = &mut Listener> {
        iter::once(&mut self.listener).chain(self.keys.as_mut().map(|(listener, _)| listener))
    }

    /// Waits until it is time to look; breaks when it is time to stop. After a while of quiet that is as soon as there is
    /// something to look at, else once nothing more has come for a while.
    fn wait(&mut self, stop: &OwnedFd) -> ControlFlow<()> {
        let (mut quiet_at, mut most) = (None, None);
        loop {
            let due = self.listeners().map(|listener| listener.due()).min();
            let until = [due, quiet_at, most].into_iter().flatten().min();
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
            fds.extend(self.listeners().map(|listener| listener.poll()));
            // An interrupted wait means only that the directory is looked at too early.
            let ready = poll(&mut fds, timeout.and_then(timespec).as_ref());
            if !fds[0].revents().is_empty() {
                return ControlFlow::Break(());
            }
            let now = Instant::now();
            if !ready.is_ok_and(|ready| ready > 0) || most.is_some_and(|most| now >= most) {
                self.listeners().for_each(|listener| listener.give_up(now));
                return ControlFlow::Continue(());
            }
            // All of them listen.
            let look = self.listeners().fold(false, |look, listener| listener.hear(now) | look);
            if !look {
                continue;
            }
            let was_quiet = self.heard.replace(now).is_none_or(|last| now - last >= QUIET);
            if was_quiet && quiet_at.is_none() {
                return ControlFlow::Continue(());
            }
            (quiet_at, most) = (Some(now + QUIET), most.or(Some(now + PATIENCE)));
        }
    }
}

fn timespec(duration: Duration) -> Option<Timespec> {
    Timespec::try_from(duration).ok()
}

#[cfg(test)]
mod tests;
