//! The leases while nobody else can change them.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use selvedge_ipam::journal::{self, Header, Operation, Replay, Tail, Writer};
use selvedge_ipam::{ChooseError, Lease, LeaseTable, Leased, Pool, Request};
use selvedge_model::{AttachmentKey, IfName, NetworkName, Owner};

use crate::error::LeaseError;
use crate::file;
use crate::store::{Oracle, boottime_ms, here};

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

/// The leases of a network, with their lock held until this is dropped.
#[derive(Debug)]
pub struct Locked {
    header: Header,
    directory: PathBuf,
    table: LeaseTable,
    writer: Writer,
    journal: File,
    length: u64,
    records: usize,
    recovery: Option<Recovery>,
    _lock: File,
}

impl Locked {
    pub(crate) fn open(
        network: NetworkName,
        directory: PathBuf,
        lock: File,
        oracle: &mut dyn Oracle,
    ) -> Result<Self, LeaseError> {
        let (boot_id, netns) = here()?;
        let path = directory.join("journal");
        // A compaction that was killed left this; the journal beside it is whole.
        fs::remove_file(directory.join("journal.new")).ok();
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(LeaseError::file("read", path)(error)),
        };
        let header = Header { network, boot_id, netns, epoch: 1 };
        let old = match bytes.as_deref().map(journal::replay) {
            Some(Ok(replay)) if replay.tail == Tail::Clean && same_place(&replay.header, &header) => {
                return Self::go_on(replay, directory, lock);
            }
            Some(Ok(replay)) => Old::Readable(Box::new(replay)),
            Some(Err(why)) => Old::Unreadable(why.to_string()),
            None => Old::Missing,
        };
        Self::rebuild(header, old, (directory, lock), oracle)
    }

    fn go_on(replay: Replay, directory: PathBuf, lock: File) -> Result<Self, LeaseError> {
        let path = directory.join("journal");
        let journal = File::options().append(true).open(&path).map_err(LeaseError::file("open", &path))?;
        Ok(Self {
            header: replay.header,
            directory,
            table: replay.table,
            writer: replay.writer,
            journal,
            length: u64::try_from(replay.valid_len).unwrap_or(u64::MAX),
            records: replay.records,
            recovery: None,
            _lock: lock,
        })
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
        let (writer, text) = journal::write(&header, &table);
        let journal = replace(&directory, &text)?;
        let (length, records) = (size(&text), text.lines().count() - 1);
        Ok(Self {
            header,
            directory,
            table,
            writer,
            journal,
            length,
            records,
            recovery: Some(recovery),
            _lock: lock,
        })
    }

    /// The leases.
    pub fn table(&self) -> &LeaseTable {
        &self.table
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
        let chosen = self.table.choose(pool, request, boottime_ms())?;
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
        self.commit(operation).map_err(|error| match error {
            LeaseError::Table(error) => LeaseError::Choose(ChooseError::Table(error)),
            other => other,
        })
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
        let Some(lease) = self.table.lease(key).cloned() else { return Ok(None) };
        self.commit(operation)?;
        // A journal that stays long is slow to read and otherwise as good: the lease is freed either way.
        self.compact_if_long().ok();
        Ok(Some(lease))
    }

    /// Writes the line, and only then takes the change for done.
    fn commit(&mut self, operation: Operation) -> Result<(), LeaseError> {
        self.table.allows(&operation)?;
        let mut writer = self.writer.clone();
        let line = writer.line(&operation);
        let path = self.directory.join("journal");
        file::append(&mut self.journal, self.length, &line).map_err(LeaseError::file("append to", path))?;
        self.table.apply(operation)?;
        self.writer = writer;
        self.length += size(&line);
        self.records += 1;
        Ok(())
    }

    /// Replaces a journal that consists mostly of the past. Resting addresses count as present: during a drain the
    /// leases go down while these go up, and every release would write them all again.
    fn compact_if_long(&mut self) -> Result<(), LeaseError> {
        let present = self.table.leases().len() + self.table.quarantine().len();
        if self.records <= 2 * present + 256 {
            return Ok(());
        }
        self.table.forget_rested(boottime_ms());
        let header = Header { epoch: self.header.epoch + 1, ..self.header.clone() };
        let (writer, text) = journal::write(&header, &self.table);
        self.journal = replace(&self.directory, &text)?;
        self.header = header;
        (self.writer, self.length, self.records) = (writer, size(&text), text.lines().count() - 1);
        Ok(())
    }
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
        table.set_cursor(IpNet::new(*last, subnet.prefix_len()).unwrap_or(*subnet));
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

/// Reads a file; `None` if it isn't there.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Moves a damaged journal out of the way, for somebody to look at.
fn keep_bad(directory: &Path) -> Result<PathBuf, LeaseError> {
    let kept = directory.join(format!("journal.bad.{}", boottime_ms()));
    let path = directory.join("journal");
    fs::rename(&path, &kept).map_err(LeaseError::file("move aside", path))?;
    Ok(kept)
}

/// Puts a new journal in the place of the old one, and returns the very file that now has the journal's name: after
/// the rename nothing can fail any more, so nobody goes on writing to the old one.
fn replace(directory: &Path, text: &str) -> Result<File, LeaseError> {
    let (new, path) = (directory.join("journal.new"), directory.join("journal"));
    let write = || {
        let mut file = File::options().create_new(true).append(true).mode(0o600).open(&new)?;
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
        Ok(file)
    };
    write()
        .inspect_err(|_| fs::remove_file(&new).unwrap_or_default())
        .map_err(LeaseError::file("write", &path))
}

fn size(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}
