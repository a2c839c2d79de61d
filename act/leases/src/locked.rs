//! The leases while nobody else can change them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use selvedge_ipam::journal::{self, Header, Operation, Replay, Tail};
use selvedge_ipam::{
    ChooseError, Conflict, Lease, LeaseTable, Leased, Occupancy, Pool, Refusal, Request, TableError,
};
use selvedge_model::{AttachmentKey, IfName, Owner};

use crate::error::LeaseError;
use crate::file;
use crate::reading::{Purpose, Reading};
use crate::store::{Oracle, boottime_ms};

/// Why a journal was made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// There was none.
    Missing,
    /// It is of another boot, or of another node's namespace.
    OtherBoot,
    /// Its last line was half written.
    Torn,
    /// It was damaged, and is kept under this name.
    Damaged {
        /// What is wrong with it.
        why: String,
        /// Where it is kept.
        kept: PathBuf,
    },
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("made anew: there was none"),
            Self::OtherBoot => f.write_str("made anew: it was of another boot or another network namespace"),
            Self::Torn => f.write_str("made anew: its last line was half written"),
            Self::Damaged { why, kept } => {
                write!(f, "made anew: it was damaged ({why}), and is kept as {}", kept.display())
            }
        }
    }
}

/// The leases of a network, with their lock held until this is dropped.
#[derive(Debug)]
pub struct Locked {
    directory: PathBuf,
    reading: Reading,
    recovery: Option<Recovery>,
    _lock: File,
}

impl Locked {
    /// `ahead` is what was read of the journal before the lock was had, if it could be.
    pub(crate) fn open(
        header: Header,
        (directory, lock): (PathBuf, File),
        ahead: Option<Reading>,
        oracle: &mut dyn Oracle,
    ) -> Result<Self, LeaseError> {
        let path = directory.join(JOURNAL);
        let read = || LeaseError::file("read", &path);
        // A compaction that was killed left this; the journal beside it is whole.
        fs::remove_file(directory.join(NEW_JOURNAL)).ok();
        let caught_up = ahead.map(|ahead| ahead.catch_up(&path)).transpose().map_err(read())?.flatten();
        let reading = match caught_up.filter(Reading::is_clean) {
            // What was read without the lock may have been half written then.
            None => Reading::begin(&path, Purpose::Appending).map_err(read())?,
            caught_up => caught_up,
        };
        if let Some(reading) =
            reading.filter(|reading| reading.is_clean() && same_place(&reading.replay.header, &header))
        {
            return Ok(Self { directory, reading, recovery: None, _lock: lock });
        }
        let old = match fs::read(&path).map(|bytes| journal::replay(&bytes)) {
            Ok(Ok(replay)) => Old::Readable(Box::new(replay)),
            Ok(Err(why)) => Old::Unreadable(why.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Old::Missing,
            Err(error) => return Err(read()(error)),
        };
        Self::rebuild(header, old, (directory, lock), oracle)
    }

    /// Makes a new journal out of what can be trusted: leases of this boot that were read whole, and whatever host
    /// ends the kernel shows.
    fn rebuild(
        mut header: Header,
        old: Old,
        (directory, lock): (PathBuf, File),
        oracle: &mut dyn Oracle,
    ) -> Result<Self, LeaseError> {
        let owners = oracle.owners().map_err(LeaseError::Oracle)?;
        let (mut table, recovery) = old.salvage(&mut header, &directory)?;
        for (veth, owner) in owners {
            if owner.network == header.network {
                adopt(&mut table, veth, owner);
            }
        }
        table.forget_rested(boottime_ms());
        let reading = replace(&directory, &header, &table)?;
        Ok(Self { directory, reading, recovery: Some(recovery), _lock: lock })
    }

    /// Everything that is known of the leases.
    ///
    /// # Errors
    /// [`LeaseError::File`].
    pub fn table(&self) -> Result<LeaseTable, LeaseError> {
        self.reading.leases().map_err(LeaseError::file("read", self.directory.join(JOURNAL)))
    }

    /// True if nobody has a lease.
    pub fn is_empty(&self) -> bool {
        self.taken().is_empty()
    }

    /// The lease of one attachment.
    ///
    /// # Errors
    /// [`LeaseError::File`].
    pub fn lease(&self, key: &AttachmentKey) -> Result<Option<Lease>, LeaseError> {
        let Some(line) = self.taken().line(key) else { return Ok(None) };
        let (owner, lease) = self.lease_at(line)?;
        Ok((owner == key.recorded()).then_some(lease))
    }

    /// Why the journal was made anew just now, if it was.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// Leases one address from each of the pool's sets.
    ///
    /// # Errors
    /// [`LeaseError::Choose`] if none can be had, [`LeaseError::File`] if it can't be written down.
    pub fn reserve(
        &mut self,
        pool: &Pool,
        request: Request<'_>,
        veth: &IfName,
    ) -> Result<Vec<Leased>, LeaseError> {
        if let Some(line) = self.taken().line(request.key) {
            return Err(self.explain(Conflict::Leased(line), request.key));
        }
        let chosen = self.taken().choose(pool, request.addresses, boottime_ms());
        let chosen = chosen.map_err(|refusal| match refusal {
            Refusal::Choose(error) => error.into(),
            Refusal::Conflict(conflict) => self.explain(conflict, request.key),
        })?;
        self.record(request.key, chosen.iter().map(|leased| leased.net).collect(), veth)?;
        Ok(chosen)
    }

    /// Enters addresses that somebody else chose, so that DEL and GC find the attachment.
    ///
    /// # Errors
    /// [`LeaseError::Choose`] if the attachment or one of the addresses is taken, [`LeaseError::File`].
    pub fn record(
        &mut self,
        key: &AttachmentKey,
        addresses: Vec<IpNet>,
        veth: &IfName,
    ) -> Result<(), LeaseError> {
        let lease = Lease { addresses, veth: veth.clone(), since_ms: boottime_ms() };
        let operation = Operation::Allocate(key.recorded(), lease);
        match self.commit(key, &operation) {
            Err(error) if error.is_for_want_of_room() && self.compact().is_ok() => {
                self.commit(key, &operation)
            }
            other => other,
        }
    }

    /// Frees a lease; its addresses rest. `None` if there was none.
    ///
    /// # Errors
    /// [`LeaseError::File`]; the lease stays.
    pub fn release(&mut self, key: &AttachmentKey) -> Result<Option<Lease>, LeaseError> {
        self.take_out(key, Operation::Free(key.recorded(), boottime_ms()))
    }

    /// Takes back a lease whose addresses were never on any link: they needn't rest.
    ///
    /// # Errors
    /// [`LeaseError::File`]; the lease stays.
    pub fn undo(&mut self, key: &AttachmentKey) -> Result<Option<Lease>, LeaseError> {
        self.take_out(key, Operation::Undo(key.recorded()))
    }

    fn take_out(&mut self, key: &AttachmentKey, operation: Operation) -> Result<Option<Lease>, LeaseError> {
        let Some(lease) = self.lease(key)? else { return Ok(None) };
        self.commit(key, &operation)?;
        if self.is_long() {
            // A journal that stays long is slow to read and otherwise as good: the lease is freed either way.
            self.compact().ok();
        }
        Ok(Some(lease))
    }

    /// Writes the line, and only then takes the change for done.
    fn commit(&mut self, key: &AttachmentKey, operation: &Operation) -> Result<(), LeaseError> {
        self.taken().allows_operation(operation).map_err(|conflict| self.explain(conflict, key))?;
        // A disk that is full keeps no lease from being freed.
        let room = match operation {
            Operation::Allocate(..) => room(self.taken().len() + 1),
            Operation::Free(..) | Operation::Undo(_) | Operation::Cursor(_) | Operation::Rest(..) => 0,
        };
        let Reading { file, replay } = &mut self.reading;
        let line = replay.writer.clone().line(operation);
        let appended = file::append(file, replay.valid_len as u64, (&line, room));
        appended.map_err(LeaseError::file("append to", self.directory.join(JOURNAL)))?;
        replay.go_on(line.as_bytes());
        Ok(())
    }

    /// True if the journal consists mostly of the past. Resting addresses count as present: during a drain the leases
    /// go down while these go up, and every release would write them all again.
    fn is_long(&self) -> bool {
        let past = self.reading.replay.records.saturating_sub(256);
        let leases = self.taken().len();
        past > 2 * leases && past > 2 * (leases + self.taken().resting().count())
    }

    /// Replaces the journal by one that says what is.
    fn compact(&mut self) -> Result<(), LeaseError> {
        let mut table = self.table()?;
        table.forget_rested(boottime_ms());
        let header = &self.reading.replay.header;
        let header = Header { epoch: header.epoch + 1, ..header.clone() };
        self.reading = replace(&self.directory, &header, &table)?;
        Ok(())
    }

    fn taken(&self) -> &Occupancy {
        &self.reading.replay.table
    }

    fn lease_at(&self, line: u32) -> Result<(AttachmentKey, Lease), LeaseError> {
        self.reading.lease(line).map_err(LeaseError::file("read", self.directory.join(JOURNAL)))
    }

    /// Says what stands against a change for an attachment.
    fn explain(&self, conflict: Conflict, key: &AttachmentKey) -> LeaseError {
        let present = match conflict {
            Conflict::Leased(line) | Conflict::Owned(_, line) => self.lease_at(line).map(Some),
            Conflict::NoLease => Ok(None),
        };
        match present {
            Ok(present) => {
                let present = present.as_ref().map(|(key, lease)| (key, lease));
                ChooseError::Table(TableError::of(conflict, key, present)).into()
            }
            Err(error) => error,
        }
    }
}

/// The journal's file in its directory, and the one that is about to take its place.
pub(crate) const JOURNAL: &str = "journal";
const NEW_JOURNAL: &str = "journal.new";

/// What a line that frees a lease takes at most, in bytes.
const FREE_LINE: u64 = 128;

/// What must be kept free behind a journal, so that so many leases can be freed though the disk is full.
pub(crate) fn room(leases: usize) -> u64 {
    leases as u64 * FREE_LINE
}

/// What was found in the journal's place.
enum Old {
    Missing,
    Unreadable(String),
    Readable(Box<Replay>),
}

impl Old {
    /// What of it still holds, with the header's epoch moved on.
    fn salvage(self, header: &mut Header, directory: &Path) -> Result<(LeaseTable, Recovery), LeaseError> {
        match self {
            Self::Missing => Ok((LeaseTable::default(), Recovery::Missing)),
            Self::Unreadable(why) => {
                let kept = keep_bad(directory)?;
                Ok((LeaseTable::default(), Recovery::Damaged { why, kept }))
            }
            Self::Readable(replay) => {
                header.epoch = replay.header.epoch + 1;
                if !same_place(&replay.header, header) {
                    return Ok((without_leases(&replay.table), Recovery::OtherBoot));
                }
                let recovery = match replay.tail {
                    Tail::Corrupt { line, why } => {
                        Recovery::Damaged { why: format!("line {line}: {why}"), kept: keep_bad(directory)? }
                    }
                    Tail::Clean | Tail::Torn => Recovery::Torn,
                };
                Ok((replay.table, recovery))
            }
        }
    }
}

fn same_place(one: &Header, other: &Header) -> bool {
    (&one.network, &one.boot_id, one.netns) == (&other.network, &other.boot_id, other.netns)
}

/// Cursors only: resting addresses are stamped with a clock that starts anew with each boot.
fn without_leases(old: &LeaseTable) -> LeaseTable {
    let mut table = LeaseTable::default();
    for (subnet, last) in old.cursors() {
        table.set_cursor(IpNet::new(last, subnet.prefix_len()).unwrap_or(subnet));
    }
    table
}

/// Takes a living host end's record for a lease, in place of whatever contradicts it.
fn adopt(table: &mut LeaseTable, veth: IfName, owner: Owner) {
    let key = owner.key.recorded();
    let lease = Lease { addresses: owner.addresses, veth, since_ms: boottime_ms() };
    let has = |known: &Lease, address: IpAddr| known.addresses.iter().any(|net| net.addr() == address);
    let agrees = |known: &Lease| lease.addresses.iter().all(|net| has(known, net.addr()));
    // The name alone proves nothing: an attachment that came back has the name of its predecessor.
    if table.lease(&key).is_some_and(|known| known.veth == lease.veth && agrees(known)) {
        return;
    }
    let contradicts = |known: &Lease| lease.addresses.iter().any(|net| has(known, net.addr()));
    let wrong = table.leases().iter().filter(|(known, l)| **known == key || contradicts(l));
    let wrong: Vec<AttachmentKey> = wrong.map(|(known, _)| known.clone()).collect();
    for known in wrong {
        drop(table.remove(&known, None));
    }
    // Nothing contradicts it any more.
    drop(table.insert(key, lease));
}

/// Moves a damaged journal out of the way, for somebody to look at.
fn keep_bad(directory: &Path) -> Result<PathBuf, LeaseError> {
    let kept = directory.join(format!("journal.bad.{}", boottime_ms()));
    let path = directory.join(JOURNAL);
    fs::rename(&path, &kept).map_err(LeaseError::file("move aside", path))?;
    Ok(kept)
}

/// Puts a new journal in the place of the old one, and returns the very file that now has the journal's name: after
/// the rename nothing can fail any more, so nobody goes on writing to the old one.
fn replace(directory: &Path, header: &Header, table: &LeaseTable) -> Result<Reading, LeaseError> {
    let (_, text) = journal::write(header, table);
    let (new, path) = (directory.join(NEW_JOURNAL), directory.join(JOURNAL));
    let write = || {
        let replay = Replay::of(text.as_bytes()).map_err(io::Error::other)?;
        let mut file = File::options().create_new(true).read(true).append(true).mode(0o600).open(&new)?;
        file::keep_room(&file, text.len() as u64 + room(table.leases().len()))?;
        file.write_all(text.as_bytes())?;
        let durable = file::is_durable(&file);
        if durable {
            file.sync_all()?;
        }
        fs::rename(&new, &path)?;
        if durable {
            // A rename that a power loss undoes is harmless: the boot after it voids either journal.
            File::open(directory).and_then(|directory| directory.sync_all()).ok();
        }
        Ok(Reading { file, replay })
    };
    write()
        .inspect_err(|_| fs::remove_file(&new).unwrap_or_default())
        .map_err(LeaseError::file("write", &path))
}
