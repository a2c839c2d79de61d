//! The system calls that no safe wrapper covers.

#![expect(unsafe_code, reason = "unshare and the namespace ioctl have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::thread::UnshareFlags;

/// f_type of the kernel's namespace file system (NSFS_MAGIC of linux/magic.h).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

/// True if the descriptor is of a network namespace, not of another kind of namespace or of another file.
pub(crate) fn is_network_namespace(fd: BorrowedFd<'_>) -> bool {
    // The file system first: to other files the ioctl's number may mean something else.
    if !rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type == NSFS_MAGIC) {
        return false;
    }
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours; the descriptor is borrowed and open.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}

/// Moves the calling thread into a new network namespace. Call it only on a thread that ends soon after.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: only CLONE_FILES makes unshare unsafe (descriptors of other threads vanish); it is not asked for.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}

/// A path to the open file behind a descriptor of this process.
pub(crate) fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
