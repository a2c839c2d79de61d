//! The system calls that no safe wrapper covers: the TUN device's ioctls, and messages with UDP's lengths of segments.
#![expect(unsafe_code, reason = "rustix has no TUN, UDP_SEGMENT, UDP_GRO, nor SO_PEERCRED without a process")]

use std::io::{self, IoSlice};
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void};
use rustix::net::SocketAddrAny;

/// Of linux/if_tun.h.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
/// Of linux/udp.h.
const UDP_SEGMENT: c_int = 103;
const UDP_GRO: c_int = 104;

/// A control message with one number: a header of 16 bytes, then the number. The layout is that of 64-bit systems.
const CONTROL: usize = 24;
const _: () = assert!(size_of::<libc::cmsghdr>() == 16 && offset_of!(libc::cmsghdr, cmsg_type) == 12);

/// An on-off option or a number of a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SocketOption {
    /// Packets of one sender come several at once.
    Gro,
    /// IPv4 packets are never fragmented.
    DontFragment4,
    /// Nor IPv6 packets.
    DontFragment6,
}

/// Makes the open file a queue of that device, which is made if it isn't there.
pub(crate) fn attach(tun: BorrowedFd<'_>, name: &str, flags: c_int) -> io::Result<()> {
    // struct ifreq: a name of 16 bytes, then a union.
    let mut request = [0u8; size_of::<libc::ifreq>()];
    let room = request.get_mut(..name.len()).filter(|room| room.len() < libc::IFNAMSIZ);
    room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
    let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the kernel reads and writes a struct ifreq, which is as long as the array that outlives the call.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF as _, request.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the device stay when its last queue is closed.
pub(crate) fn persist(tun: BorrowedFd<'_>) -> io::Result<()> {
    number(tun, TUNSETPERSIST, 1)
}

/// Says which packets the device may hand out unfinished.
pub(crate) fn offload(tun: BorrowedFd<'_>, features: libc::c_ulong) -> io::Result<()> {
    number(tun, TUNSETOFFLOAD, features)
}

fn number(tun: BorrowedFd<'_>, request: libc::c_ulong, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these requests take a number and touch no memory of ours.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), request as _, value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option of a UDP socket.
pub(crate) fn set(socket: BorrowedFd<'_>, option: SocketOption) -> io::Result<()> {
    let (level, name, value) = match option {
        SocketOption::Gro => (libc::SOL_UDP, UDP_GRO, 1),
        SocketOption::DontFragment4 => (libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        SocketOption::DontFragment6 => (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
    };
    let length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or_default();
    let data = (&raw const value).cast::<c_void>();
    // SAFETY: `data` points to an integer of that length, which outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, data, length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The process at the other end of a connection, as it was when it began to listen; 0 if that is out of our sight.
pub(crate) fn listener(stream: BorrowedFd<'_>) -> io::Result<c_int> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or_default();
    let room = (&raw mut peer).cast::<c_void>();
    // SAFETY: `room` points to a struct ucred of that length, both of which outlive the call.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, room, &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(peer.pid) }
}

/// Sends the parts as one UDP packet, or as many of `segment` bytes each but the last.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    segment: Option<u16>,
    to: &SocketAddrAny,
) -> io::Result<()> {
    let mut control = [0u64; CONTROL / 8];
    // SAFETY: all of the structure may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.addr_len();
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len() as _;
    if let Some(segment) = segment {
        let kind = u64::from(UDP_SEGMENT.cast_unsigned()) << 32 | u64::from(libc::SOL_UDP.cast_unsigned());
        let kind = if cfg!(target_endian = "little") { kind } else { kind.rotate_left(32) };
        control[0] = 16 + size_of::<u16>() as u64;
        control[1] = kind;
        let mut value = [0; 8];
        value[..2].copy_from_slice(&segment.to_ne_bytes());
        control[2] = u64::from_ne_bytes(value);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL as _;
    }
    // SAFETY: all that the message points to lives longer than the call, which writes to none of it: the address, the
    // parts (an IoSlice has the layout of a struct iovec) and the control message, each with its own length.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What came in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Its bytes, from the beginning of the buffer.
    pub(crate) length: usize,
    /// The bytes of each packet in it but the last, which may be shorter.
    pub(crate) segment: usize,
    /// Who sent it.
    pub(crate) from: SocketAddr,
}

/// Receives one UDP packet or several of one sender. `None` for what is not from an IP address or was too long.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Batch>> {
    let mut name = [0u8; size_of::<libc::sockaddr_in6>()];
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all of the structure may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = libc::socklen_t::try_from(name.len()).unwrap_or_default();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the kernel writes to the buffer, the name and the control messages, each no more than its own length,
    // which all outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    let used = message.msg_controllen / 8;
    let segment = control.get(..used).and_then(segment_of).unwrap_or(length);
    if message.msg_flags & libc::MSG_TRUNC != 0 || segment == 0 {
        return Ok(None);
    }
    Ok(sender(&name).map(|from| Batch { length, segment, from }))
}

/// The number in UDP's control message, if there is one: no other is asked for.
fn segment_of(control: &[u64]) -> Option<usize> {
    let [_, kind, value, ..] = control else { return None };
    let kind: [u8; 8] = kind.to_ne_bytes();
    let (level, rest) = kind.split_first_chunk::<4>()?;
    let wanted =
        i32::from_ne_bytes(*level) == libc::SOL_UDP && i32::from_ne_bytes(*rest.first_chunk()?) == UDP_GRO;
    let number = i32::from_ne_bytes(*value.to_ne_bytes().first_chunk()?);
    wanted.then(|| usize::try_from(number).ok()).flatten()
}

/// The address in a struct sockaddr_in or sockaddr_in6; an IPv4 address is one, however it is written.
fn sender(name: &[u8; size_of::<libc::sockaddr_in6>()]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes([name[0], name[1]]));
    let port = u16::from_be_bytes([name[2], name[3]]);
    let address = match family {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*name[4..].first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*name[8..].first_chunk::<16>()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}
