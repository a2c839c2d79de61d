//! The socket options of `linux/netfilter_ipv4/ip_tables.h` and its IPv6 twin (the numbers are the same).
#![expect(unsafe_code, reason = "no crate has these options; one of them carries a pointer")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_void, socklen_t};

use crate::Family;
use crate::table::Counters;

pub(crate) const GET_INFO: c_int = 64;
pub(crate) const GET_ENTRIES: c_int = 65;
const SET_REPLACE: c_int = 64;
const SET_ADD_COUNTERS: c_int = 65;

/// `struct ipt_replace` in parts.
pub(crate) struct Replacement<'a> {
    /// The structure up to `num_counters`.
    pub(crate) head: Vec<u8>,
    /// The entries.
    pub(crate) blob: &'a [u8],
    /// The number of entries of the table that is to be replaced.
    pub(crate) old_count: usize,
}

// The layouts here and in `entry` are those of 64-bit systems.
const _: () = assert!(size_of::<usize>() == 8 && align_of::<u64>() == 8);

/// Asks with what `buffer` holds and overwrites it with the answer.
pub(crate) fn get(socket: &OwnedFd, family: Family, option: c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    let data = buffer.as_mut_ptr().cast::<c_void>();
    let (fd, level) = (socket.as_raw_fd(), level(family));
    // SAFETY: `data` points to `length` bytes that we may read and write, and both outlive the call.
    let status = unsafe { libc::getsockopt(fd, level, option, data, &raw mut length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `request` is a `struct xt_counters_info` with its counters.
pub(crate) fn add_counters(socket: &OwnedFd, family: Family, request: &[u8]) -> io::Result<()> {
    set(socket, family, SET_ADD_COUNTERS, request)
}

/// Replaces the table and returns the old one's counters.
pub(crate) fn replace(socket: &OwnedFd, family: Family, new: Replacement<'_>) -> io::Result<Vec<Counters>> {
    let count = u32::try_from(new.old_count).map_err(io::Error::other)?;
    let mut counters: Vec<Counters> = vec![[0; 2]; new.old_count];
    let mut request = new.head;
    request.extend(count.to_ne_bytes());
    // The kernel writes `count` counters there, which is what the vector has room for and lives longer than the
    // call; it refuses the request if the table doesn't have that many.
    request.extend(counters.as_mut_ptr().expose_provenance().to_ne_bytes());
    request.extend(new.blob);
    set(socket, family, SET_REPLACE, &request)?;
    Ok(counters)
}

/// Private: with SET_REPLACE the kernel writes to an address that stands in `request`.
fn set(socket: &OwnedFd, family: Family, option: c_int, request: &[u8]) -> io::Result<()> {
    let length = socklen_t::try_from(request.len()).map_err(io::Error::other)?;
    let data = request.as_ptr().cast::<c_void>();
    // SAFETY: `data` points to `length` readable bytes that outlive the call; the pointer that a SET_REPLACE holds is
    // `replace`'s own, to a vector of as many counters as it says.
    let status = unsafe { libc::setsockopt(socket.as_raw_fd(), level(family), option, data, length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn level(family: Family) -> c_int {
    match family {
        Family::Ipv4 => libc::SOL_IP,
        Family::Ipv6 => libc::SOL_IPV6,
    }
}
