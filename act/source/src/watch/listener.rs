//! A directory that is listened to.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::writing::Writing;

/// How often a directory that has gone is looked for.
const ABSENT: Duration = Duration::from_millis(200);

/// What is listened for. A write counts when the file is closed, so that a half-written one is seldom read.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

#[derive(Debug)]
pub(super) struct Listener {
    directory: PathBuf,
    /// How often it is looked at although nothing is heard.
    rescan: Duration,
    inotify: OwnedFd,
    /// The watch on the directory as it was last found; none if it wasn't.
    watched: Option<i32>,
    /// When it was last begun to be looked at.
    looked: Instant,
    /// Something was heard since that there is to look at.
    heard: bool,
    writing: Writing,
}

impl Listener {
    pub(super) fn new(directory: &Path, rescan: Duration) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let directory = directory.to_owned();
        let (looked, writing) = (Instant::now(), Writing::default());
        Ok(Self { directory, rescan, inotify, watched: None, looked, heard: false, writing })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sets the watch on whatever has the directory's name now, so that another directory in its place is followed.
    /// What is heard from now on is to be looked at again.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        (self.looked, self.heard) = (Instant::now(), false);
        let found = inotify::add_watch(&self.inotify, &self.directory, EVENTS);
        let stale = self.watched.take().filter(|old| found != Ok(*old));
        // The kernel has already removed the watch of a directory that is gone.
        let _removed = stale.map(|old| inotify::remove_watch(&self.inotify, old));
        self.watched = Some(found?);
        Ok(())
    }

    /// What to wait for.
    pub(super) fn poll(&self) -> PollFd<'_> {
        PollFd::new(&self.inotify, PollFlags::IN)
    }

    /// Takes all events that wait; true if there is something to look at.
    pub(super) fn hear(&mut self, now: Instant) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut look = false;
        while let Ok(event) = events.next() {
            look |= self.writing.hear(&event, now);
        }
        self.heard |= look;
        look
    }

    /// True for a file that is being written.
    pub(super) fn is_written(&self, name: &OsStr) -> bool {
        self.writing.contains(name)
    }

    /// Waits no longer for files to be written whose time has come.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.heard |= self.writing.give_up(now);
    }

    /// When to look again though nothing is heard.
    pub(super) fn due(&self) -> Instant {
        let rescan = self.rescan_at();
        self.writing.until().map_or(rescan, |until| until.min(rescan))
    }

    pub(super) fn is_due(&self) -> bool {
        self.heard || self.is_rescan()
    }

    /// True if everything is to be looked at.
    pub(super) fn is_rescan(&self) -> bool {
        Instant::now() >= self.rescan_at()
    }

    fn rescan_at(&self) -> Instant {
        self.looked + if self.watched.is_some() { self.rescan } else { ABSENT }
    }
}
