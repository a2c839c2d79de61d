//! The sockets that probes are sent from and received at. All are non-blocking.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use crate::shape::Family;

/// The port at which every place answers; no service's, so that the lab's own programs may have theirs.
const PORT: u16 = 7473;

/// Longer than any ICMP message of the lab's.
const BUFFER: usize = 512;

/// As much as is read from a connection at once.
const PIECE: usize = 16 * 1024;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// A raw socket on which all ICMP messages of a family come in, echo requests from others among them.
pub(super) fn raw(family: Family) -> Result<OwnedFd, Errno> {
    let protocol = match family {
        Family::V4 => ipproto::ICMP,
        Family::V6 => ipproto::ICMPV6,
    };
    rustix::net::socket_with(domain(family), SocketType::RAW, FLAGS, Some(protocol))
}

/// A socket to connect from. What is written to it goes at once, however short.
pub(super) fn stream(family: Family) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(domain(family), SocketType::STREAM, FLAGS, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// A socket that takes connections to any address of the family.
pub(super) fn listener(family: Family) -> Result<OwnedFd, Errno> {
    let socket = stream(family)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    let any: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => {
            sockopt::set_ipv6_v6only(&socket, true)?;
            Ipv6Addr::UNSPECIFIED.into()
        }
    };
    rustix::net::bind(&socket, &SocketAddr::new(any, PORT))?;
    rustix::net::listen(&socket, 4096)?;
    Ok(socket)
}

/// Begins a connection to a place's listener, or asks how a connection that was begun is getting on.
///
/// `Ok(true)` once it stands, `Ok(false)` while it is under way.
pub(super) fn connect(socket: &OwnedFd, target: IpAddr) -> Result<bool, Errno> {
    match rustix::net::connect(socket, &SocketAddr::new(target, PORT)) {
        Ok(()) | Err(Errno::ISCONN) => Ok(true),
        Err(Errno::INPROGRESS | Errno::ALREADY) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes the next connection that waits, with the address of its other end.
pub(super) fn accept(listener: &OwnedFd) -> Option<(OwnedFd, IpAddr)> {
    let (socket, peer) = rustix::net::acceptfrom_with(listener, FLAGS).ok()?;
    Some((socket, SocketAddr::try_from(peer?).ok()?.ip()))
}

/// Sends an ICMP message.
pub(super) fn send_to(socket: &OwnedFd, message: &[u8], target: IpAddr) -> Result<(), Errno> {
    rustix::net::sendto(socket, message, SendFlags::empty(), &SocketAddr::new(target, 0)).map(drop)
}

/// Takes the next ICMP message that waits, with its sender.
pub(super) fn receive_from(socket: &OwnedFd) -> Option<(Vec<u8>, IpAddr)> {
    let mut buffer = [0; BUFFER];
    let (_, length, sender) = rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::empty()).ok()?;
    let sender = SocketAddr::try_from(sender?).ok()?.ip();
    Some((buffer.get(..length)?.to_vec(), sender))
}

/// Writes to a connection; how much of it went without waiting. A new connection has room for what is short.
pub(super) fn write(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Ok(0),
        other => other,
    }
}

/// Has the other end told that a connection is given up, rather than what is still to be sent tried on and on.
pub(super) fn give_up(socket: OwnedFd) {
    // Without it, it only ends later.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).ok();
}

/// Reads what there is: `Ok(None)` if there is nothing yet, an empty text at the end.
pub(super) fn read(socket: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = [0; PIECE];
    match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
        Ok((_, length)) => Ok(Some(buffer.get(..length).unwrap_or_default().to_vec())),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn domain(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    }
}
