//! Whether another lease could be written down, found out without writing.

use std::os::unix::fs::MetadataExt;

use rustix::fs::{Access, FsWord, PROC_SUPER_MAGIC, StatFs, access, statfs};
use rustix::io::Errno;

use crate::error::LeaseError;
use crate::file::BLOCK;
use crate::locked::{JOURNAL, room};
use crate::store::Store;

/// How sysfs identifies itself (statfs(2)). Like procfs, it lets nobody make a directory.
const SYSFS_MAGIC: FsWord = 0x6265_6572;

/// What a lease's line has room in.
const ALLOCATE_LINE: u64 = 1024;

impl Store {
    /// Fails where another lease could not be written down: the directory can't be made, nothing in it can be changed,
    /// or the disk is full. Changes nothing and waits for nobody.
    ///
    /// # Errors
    /// [`LeaseError::File`].
    pub fn takes_more(&self) -> Result<(), LeaseError> {
        let mut place = self.directory();
        let disk = loop {
            // What is no directory has no `.` in it.
            match (statfs(place.join(".")), place.parent()) {
                (Err(Errno::NOENT), Some(parent)) => place = parent,
                (disk, _) => break disk,
            }
        };
        let judge = |disk: StatFs| {
            if [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&disk.f_type) {
                return Err(Errno::PERM);
            }
            access(place, Access::WRITE_OK | Access::EXEC_OK)?;
            let full = |all: u64, free: u64| all > 0 && free == 0;
            let for_names = full(disk.f_files, disk.f_ffree);
            let for_lines = full(disk.f_blocks, disk.f_bfree) && !self.has_kept_room();
            if for_names || for_lines { Err(Errno::NOSPC) } else { Ok(()) }
        };
        disk.and_then(judge).map_err(|errno| LeaseError::file("write in", place)(errno.into()))
    }

    /// True if the disk keeps room for another lease behind the journal's end.
    fn has_kept_room(&self) -> bool {
        let Ok(leases) = self.taken().map(|taken| taken.len()) else { return false };
        let needed = ALLOCATE_LINE + room(leases + 1);
        let journal = self.directory().join(JOURNAL).metadata();
        journal.is_ok_and(|file| file.blocks() * BLOCK >= file.len() + needed)
    }
}
