//! Checksum offload, which has an ioctl(2) of its own.
#![expect(unsafe_code, reason = "rustix has no ioctl(2) for SIOCETHTOOL")]

use std::os::fd::{AsRawFd, BorrowedFd};

use selvedge_model::IfName;

use crate::error::Refusal;

/// SIOCETHTOOL.
const ETHTOOL: libc::Ioctl = 0x8946;
/// ETHTOOL_GTXCSUM.
const GET: u32 = 0x16;
/// ETHTOOL_STXCSUM.
const SET: u32 = 0x17;

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether a link leaves the checksums of what it sends to others, as far as it can be asked.
pub(crate) fn tx_checksums(socket: BorrowedFd<'_>, link: &IfName) -> Result<bool, Refusal> {
    ask(socket, link, Value { command: GET, data: 0 }).map(|value| value.data != 0)
}

/// Has it do so, or not.
pub(crate) fn set_tx_checksums(socket: BorrowedFd<'_>, link: &IfName, on: bool) -> Result<(), Refusal> {
    ask(socket, link, Value { command: SET, data: u32::from(on) }).map(drop)
}

fn ask(socket: BorrowedFd<'_>, link: &IfName, mut value: Value) -> Result<Value, Refusal> {
    // SAFETY: all zeroes is a valid `struct ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // A name is shorter than its field, so that a zero ends it.
    for (to, from) in request.ifr_name.iter_mut().zip(link.as_str().bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names a value that the kernel reads and writes as `struct ethtool_value`; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) };
    if result == 0 {
        Ok(value)
    } else {
        Err(Refusal::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
    }
}
