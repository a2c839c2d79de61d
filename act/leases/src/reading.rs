//! A journal as far as it has been read: at first without its lock, and then, with it, only what was added since.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use selvedge_ipam::journal::{Replay, Tail, lease_in};
use selvedge_ipam::{Lease, LeaseTable, Occupancy, journal};
use selvedge_model::AttachmentKey;

use crate::file;

/// How much is read at a time.
const PIECE: usize = 64 << 10;

/// The longest line.
const LINE: usize = 4 << 10;

/// A journal that begins as one.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) file: File,
    pub(crate) replay: Replay<Occupancy>,
}

/// What a journal is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Reading,
    Appending,
}

impl Reading {
    /// Reads a journal to its end; `None` if it has no header, or isn't there.
    pub(crate) fn begin(path: &Path, purpose: Purpose) -> io::Result<Option<Self>> {
        let file = match File::options().read(true).append(purpose == Purpose::Appending).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let mut piece = vec![0; LINE];
        let read = read_at(&file, &mut piece, 0)?;
        let Ok(replay) = Replay::begin(&piece[..read], length) else { return Ok(None) };
        let mut reading = Self { file, replay };
        reading.go_on(0)?;
        Ok(Some(reading))
    }

    /// The same reading up to the present end of the file that has the journal's name; `None` if what was read is not
    /// in it. To be called with the lock.
    pub(crate) fn catch_up(mut self, path: &Path) -> io::Result<Option<Self>> {
        Ok((file::is_at(&self.file, path) && self.go_on(Replay::<Occupancy>::MARK)?).then_some(self))
    }

    /// True if every line is whole.
    pub(crate) fn is_clean(&self) -> bool {
        self.replay.tail == Tail::Clean
    }

    /// Reads on, from so far before the end of what was whole that it can be compared; false if it isn't the same.
    fn go_on(&mut self, mark: usize) -> io::Result<bool> {
        let mut piece = Vec::new();
        let mut mark = mark;
        loop {
            let from = self.replay.valid_len - mark;
            let left = self.file.metadata()?.len().saturating_sub(from as u64);
            piece.resize(PIECE.min(usize::try_from(left).unwrap_or(PIECE)).max(mark), 0);
            let read = read_at(&self.file, &mut piece, from)?;
            if mark > 0 && !self.replay.ends_as(&piece[..mark.min(read)]) {
                return Ok(false);
            }
            self.replay.go_on(&piece[mark.min(read)..read]);
            mark = 0;
            if read < PIECE || self.replay.valid_len == from {
                return Ok(true);
            }
        }
    }

    /// The lease that is made in a line.
    pub(crate) fn lease(&self, line: u32) -> io::Result<(AttachmentKey, Lease)> {
        let mut bytes = [0; LINE];
        let read = read_at(&self.file, &mut bytes, usize::try_from(line).unwrap_or(usize::MAX))?;
        lease_in(&bytes[..read])
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a line is not the lease that it was"))
    }

    /// Everything that stands in the whole lines.
    pub(crate) fn leases(&self) -> io::Result<LeaseTable> {
        let mut bytes = vec![0; self.replay.valid_len];
        let read = read_at(&self.file, &mut bytes, 0)?;
        Ok(journal::replay(&bytes[..read]).map(|replay| replay.table).unwrap_or_default())
    }
}

/// Fills a buffer from somewhere in a file; less than that is all there is.
fn read_at(file: &File, buffer: &mut [u8], from: usize) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], (from + read) as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
