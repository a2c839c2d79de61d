//! A connection to a forwarder's socket that is never waited for, and the end of one that hangs.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::kernel;

/// Connects at once. Where as many wait already as the kernel lets wait, it is `WouldBlock`.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Whether somebody listens there, be it that he doesn't answer.
pub(crate) fn is_listened_at(path: &Path) -> bool {
    connect(path).map_or_else(|why| why.kind() == io::ErrorKind::WouldBlock, |_connected| true)
}

/// Who listens there, unless that is somewhere out of our sight, as in another container.
pub(crate) fn listener(path: &Path) -> Option<Pid> {
    let stream = connect(path).ok()?;
    Pid::from_raw(kernel::listener(stream.as_fd()).ok()?)
}

/// Kills whoever listens there; false if that is somewhere out of our sight.
pub(crate) fn kill(path: &Path) -> io::Result<bool> {
    let Some(pid) = listener(path) else { return Ok(false) };
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // He listened before the process was opened by its number, and does after that: it is his.
    if listener(path) != Some(pid) {
        return Err(io::Error::other("another forwarder has come meanwhile"));
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}
