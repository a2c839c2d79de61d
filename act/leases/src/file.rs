//! Locks with a deadline, and writes that are whole or undone.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatfs};
use rustix::io::Errno;

use crate::error::LeaseError;

/// How tmpfs identifies itself (statfs(2)).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The unit in which a file's blocks are counted (stat(2)).
pub(crate) const BLOCK: u64 = 512;

/// How much room is asked for beyond what is needed.
const AHEAD: u64 = 32 << 10;

/// The longest pause between two looks at a lock that is held.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a lock is waited for.
#[derive(Debug, Clone)]
pub struct Wait {
    patience: Duration,
    stop: Option<Arc<AtomicBool>>,
}

impl Wait {
    /// At most so long.
    pub const fn most(patience: Duration) -> Self {
        Self { patience, stop: None }
    }

    /// And no longer than until this is set.
    #[must_use]
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    fn is_over(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

/// Opens a lock file, made if it isn't there, and takes its lock; dropping the file gives it back.
///
/// # Errors
/// [`LeaseError::Busy`] if somebody else held it all the time, [`LeaseError::File`].
pub fn lock_file(path: &Path, wait: &Wait) -> Result<File, LeaseError> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(LeaseError::file("open", path))?;
    let began = Instant::now();
    match lock(&file, wait) {
        Ok(true) => Ok(file),
        Ok(false) => Err(LeaseError::Busy { path: path.to_owned(), waited: began.elapsed() }),
        Err(error) => Err(LeaseError::file("lock", path)(error)),
    }
}

/// Waits until nobody else prepares the node of a run directory, or changes what its pods share: who is guarded, and
/// which ports are published.
///
/// # Errors
/// [`LeaseError::Busy`] if somebody was at it all the time, [`LeaseError::File`].
pub fn lock_node(run_dir: &Path, wait: &Wait) -> Result<File, LeaseError> {
    lock_file(&run_dir.join("node.lock"), wait)
}

/// Takes a lock; false if somebody else held it as long as it was waited for.
pub(crate) fn lock(file: &File, wait: &Wait) -> io::Result<bool> {
    let until = Instant::now() + wait.patience;
    let mut pause = Duration::from_micros(100);
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= until || wait.is_over() {
            return Ok(false);
        }
        std::thread::sleep(pause);
        // Unlike steps keep waiting processes from looking at the same moments.
        pause = (pause + pause / 2 + Duration::from_micros(u64::from(std::process::id() % 97))).min(PAUSE);
    }
}

/// True if a file is what its path leads to. A lock on a file that was removed, or replaced, excludes nobody.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (path.metadata(), file.metadata()) {
        (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
        _ => false,
    }
}

/// True if what is written must be synced to survive a power loss, and is worth it.
pub(crate) fn is_durable(file: &File) -> bool {
    !fstatfs(file).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|magic| magic == TMPFS_MAGIC))
}

/// Appends a line with one write, and sees to it that so much more can be written whatever happens to the disk. If the
/// line doesn't fit as a whole, the file gets its old length back.
///
/// A half line that couldn't be cut off is cut off by the next call: nothing is ever appended to one.
pub(crate) fn append(file: &mut File, length: u64, (line, room): (&str, u64)) -> io::Result<()> {
    cut(file, length)?;
    if room > 0 {
        keep_room(file, length + line.len() as u64 + room)?;
    }
    let written = loop {
        match file.write(line.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    let result = match written {
        Ok(count) if count == line.len() => {
            if is_durable(file) {
                file.sync_data()
            } else {
                return Ok(());
            }
        }
        Ok(_) => Err(Errno::NOSPC.into()),
        Err(error) => Err(error),
    };
    // If even this fails, the half line's checksum tells.
    result.inspect_err(|_| cut(file, length).unwrap_or_default())
}

/// Gives a file its length back. One that has it isn't touched: that would give away the room behind its end.
fn cut(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() == length { Ok(()) } else { file.set_len(length) }
}

/// Has the disk keep room for a file that will be so long, with some more where there is more: a call for each line
/// would be many.
pub(crate) fn keep_room(file: &File, length: u64) -> io::Result<()> {
    let kept = file.metadata()?.blocks() * BLOCK;
    if kept >= length {
        return Ok(());
    }
    // A range that can't be had as a whole is given back as a whole, so it must have nothing of what is kept.
    match allocate(file, kept, length + AHEAD - kept) {
        Err(Errno::NOSPC | Errno::DQUOT) => allocate(file, kept, length - kept)?,
        other => other?,
    }
    Ok(())
}

fn allocate(file: &File, from: u64, length: u64) -> rustix::io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::KEEP_SIZE, from, length) {
            Err(Errno::INTR) => {}
            // Where a file system can't promise it, nobody can.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
            other => return other,
        }
    }
}
