//! The directory of a network's leases.

use std::error::Error;
use std::fs::{self, DirBuilder, File, ReadDir};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use selvedge_ipam::{Header, Lease, LeaseTable, Occupancy};
use selvedge_model::{AttachmentKey, IfName, NetworkName, Owner};
use sha2::{Digest, Sha256};

use crate::attachment::AttachmentGuard;
use crate::error::LeaseError;
use crate::file::{self, Wait};
use crate::locked::{JOURNAL, Locked};
use crate::reading::{Purpose, Reading};

/// How long a lock is waited for, unless [`Store::with_patience`] says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a lock is held by someone who only removes what was left of it, on a busy machine.
const AN_INSTANT: Duration = Duration::from_millis(100);

/// What an [`Oracle`] may fail with.
pub type OracleError = Box<dyn Error + Send + Sync>;

/// Knows which host ends live on this node, with their owner records. Asked only when the journal can't be trusted.
pub trait Oracle {
    /// The host ends of all networks of ours.
    ///
    /// # Errors
    /// Whatever keeps the kernel from being asked; then nothing is leased.
    fn owners(&mut self) -> Result<Vec<(IfName, Owner)>, OracleError>;
}

/// A network's leases on disk.
#[derive(Debug)]
pub struct Store {
    network: NetworkName,
    run_dir: PathBuf,
    directory: PathBuf,
    wait: Wait,
}

/// The time in milliseconds that leases are stamped with: it goes on while the machine sleeps and never jumps.
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let milliseconds = i128::from(now.tv_sec) * 1000 + i128::from(now.tv_nsec) / 1_000_000;
    u64::try_from(milliseconds).unwrap_or(0)
}

impl Store {
    /// The store of a network; nothing is made yet.
    pub fn new(run_dir: &Path, network: &NetworkName) -> Self {
        let directory = run_dir.join("ipam").join(network.as_str());
        let wait = Wait::most(PATIENCE);
        Self { network: network.clone(), run_dir: run_dir.to_owned(), directory, wait }
    }

    /// The same store for a caller that can wait for each lock only so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { wait: Wait::most(patience), ..self }
    }

    /// The same store for a caller that waits for no lock any more once this is set.
    #[must_use]
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { wait: self.wait.until(stop), ..self }
    }

    /// The networks that have a store below a run directory.
    ///
    /// # Errors
    /// [`LeaseError::File`] if the directory is there and can't be read.
    pub fn networks(run_dir: &Path) -> Result<Vec<NetworkName>, LeaseError> {
        let path = run_dir.join("ipam");
        let entries = match list(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(LeaseError::file("list", &path))?,
        };
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        Ok(entries.flatten().filter_map(name).collect())
    }

    /// True if anything has ever been leased here since the directory was last emptied.
    ///
    /// # Errors
    /// [`LeaseError::File`] if that can't be seen.
    pub fn exists(&self) -> Result<bool, LeaseError> {
        self.directory.try_exists().map_err(LeaseError::file("look for", &self.directory))
    }

    /// True if there is a journal, whatever it is worth: without one, only the kernel knows who has an address.
    pub fn has_journal(&self) -> bool {
        self.journal().exists()
    }

    /// The run directory that it is in.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The directory of the network's leases.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// How long it waits for a lock.
    pub fn wait(&self) -> &Wait {
        &self.wait
    }

    /// The network.
    pub fn network(&self) -> &NetworkName {
        &self.network
    }

    /// Waits until nobody else is at work on an attachment.
    ///
    /// # Errors
    /// [`LeaseError::Busy`] if somebody was all the time, [`LeaseError::File`].
    pub fn lock_attachment(&self, key: &AttachmentKey) -> Result<AttachmentGuard, LeaseError> {
        let path = self.attachment_path(key)?;
        let began = Instant::now();
        let guard = AttachmentGuard::take(path.clone(), &self.wait)?;
        guard.ok_or_else(|| LeaseError::Busy { path, waited: began.elapsed() })
    }

    /// The same without waiting for long; `None` if somebody is at work on it, and not just removing what was left of a
    /// lock.
    ///
    /// # Errors
    /// [`LeaseError::File`].
    pub fn try_lock_attachment(&self, key: &AttachmentKey) -> Result<Option<AttachmentGuard>, LeaseError> {
        AttachmentGuard::take(self.attachment_path(key)?, &Wait::most(AN_INSTANT))
    }

    /// Removes the lock files that killed calls have left; those of calls at work stay.
    ///
    /// # Errors
    /// [`LeaseError::File`].
    pub fn forget_idle_attachments(&self) -> Result<(), LeaseError> {
        let directory = self.directory.join("att");
        let entries = match list(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(LeaseError::file("list", &directory))?,
        };
        for entry in entries.flatten() {
            // Whoever gets a lock removes its file when letting go.
            drop(AttachmentGuard::take(entry.path(), &Wait::most(Duration::ZERO))?);
        }
        Ok(())
    }

    fn attachment_path(&self, key: &AttachmentKey) -> Result<PathBuf, LeaseError> {
        let directory = self.directory.join("att");
        make(&directory)?;
        let hash = Sha256::digest(key.recorded().to_string().as_bytes());
        Ok(directory.join(data_encoding::HEXLOWER.encode(&hash[..16])))
    }

    /// Locks the leases for a change and reads them; a journal that can't be trusted is rebuilt first.
    ///
    /// Most is read before the lock is had, so that many at once read at the same time.
    ///
    /// # Errors
    /// [`LeaseError::Busy`], [`LeaseError::File`], [`LeaseError::Oracle`].
    pub fn lock(&self, oracle: &mut dyn Oracle) -> Result<Locked, LeaseError> {
        let (boot_id, netns) = here()?;
        let header = Header { network: self.network.clone(), boot_id, netns, epoch: 1 };
        loop {
            make(&self.directory)?;
            // What can't be read now is read again with the lock.
            let ahead = Reading::begin(&self.journal(), Purpose::Appending).unwrap_or_default();
            // Somebody may have removed the whole store while we waited for a lock in it.
            if let Some(lock) = self.open_lock()? {
                return Locked::open(header, (self.directory.clone(), lock), ahead, oracle);
            }
        }
    }

    /// The leases as they are, without changing or rebuilding anything: an empty table if there is no journal, and what
    /// stands before the damage if it is damaged.
    ///
    /// No lock is waited for: a journal is replaced as a whole, and a line that is just being appended is none yet.
    ///
    /// # Errors
    /// [`LeaseError::File`].
    pub fn read(&self) -> Result<LeaseTable, LeaseError> {
        let table = self.look()?.map_or_else(|| Ok(LeaseTable::default()), |reading| reading.leases());
        table.map_err(LeaseError::file("read", self.journal()))
    }

    /// The lease of one attachment, as [`Self::read`] has it, in a fraction of the time.
    ///
    /// # Errors
    /// [`LeaseError::File`].
    pub fn lease(&self, key: &AttachmentKey) -> Result<Option<Lease>, LeaseError> {
        let Some(reading) = self.look()? else { return Ok(None) };
        let Some(line) = reading.replay.table.line(key) else { return Ok(None) };
        let (owner, lease) = reading.lease(line).map_err(LeaseError::file("read", self.journal()))?;
        Ok((owner == key.recorded()).then_some(lease))
    }

    /// What is taken, in a fraction of the time as well.
    ///
    /// # Errors
    /// [`LeaseError::File`].
    pub fn taken(&self) -> Result<Occupancy, LeaseError> {
        Ok(self.look()?.map(|reading| reading.replay.table).unwrap_or_default())
    }

    /// Reads the journal without changing anything; `None` if there is none. What was read of it stays as it is: lines
    /// are only ever added to a file.
    fn look(&self) -> Result<Option<Reading>, LeaseError> {
        Reading::begin(&self.journal(), Purpose::Reading).map_err(LeaseError::file("read", self.journal()))
    }

    fn journal(&self) -> PathBuf {
        self.directory.join(JOURNAL)
    }

    /// Opens and takes the lock; `None` if it has been removed in the meantime.
    fn open_lock(&self) -> Result<Option<File>, LeaseError> {
        let path = self.directory.join("lock");
        let file = match File::options().create(true).truncate(false).read(true).write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(LeaseError::file("open", &path))?,
        };
        let began = Instant::now();
        match file::lock(&file, &self.wait) {
            Ok(true) => Ok(file::is_at(&file, &path).then_some(file)),
            Ok(false) => Err(LeaseError::Busy { path, waited: began.elapsed() }),
            Err(error) => Err(LeaseError::file("lock", path)(error)),
        }
    }
}

/// Opens a directory for listing; the system's own function gives up where a signal comes in between.
fn list(path: &Path) -> io::Result<ReadDir> {
    loop {
        match fs::read_dir(path) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn make(directory: &Path) -> Result<(), LeaseError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(LeaseError::file("make", directory))
}

/// What a journal of this boot and this namespace must say in its header.
pub(crate) fn here() -> Result<(String, u64), LeaseError> {
    let boot_id = "/proc/sys/kernel/random/boot_id";
    let boot = fs::read_to_string(boot_id).map_err(LeaseError::file("read", boot_id))?;
    let netns = "/proc/thread-self/ns/net";
    let inode = fs::metadata(netns).map_err(LeaseError::file("stat", netns))?.ino();
    Ok((boot.trim().to_owned(), inode))
}
