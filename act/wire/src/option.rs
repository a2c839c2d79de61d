//! The options of a netlink socket.
#![expect(unsafe_code, reason = "rustix has no setsockopt(2) for netlink's own options")]

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// An option that is off until it is switched on.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(crate) enum SocketOption {
    /// Refusals come with a sentence.
    Explanations = libc::NETLINK_EXT_ACK,
    /// Refusals repeat the request's header only.
    ShortRefusals = libc::NETLINK_CAP_ACK,
    /// Dump requests are checked, and filter (Linux 4.20).
    StrictDumps = libc::NETLINK_GET_STRICT_CHK,
}

/// Switches an option on.
pub(crate) fn switch_on(socket: BorrowedFd<'_>, option: SocketOption) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the pointer is to an integer that outlives the call, and the length is that integer's.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            option as libc::c_int,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
