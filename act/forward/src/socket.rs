//! The UDP sockets: one for each queue, all at one address.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, bind, socket_with};

use crate::error::ForwardError;
use crate::kernel::{self, Batch, SocketOption};

/// Holds bursts of large packets while a thread waits for its turn.
const BUFFER: usize = 8 << 20;

/// How often a thread that waits for packets looks whether its socket is still wanted.
const LOOK: Duration = Duration::from_millis(500);

/// One socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// Opens that many at an address.
pub(crate) fn open(address: SocketAddr, count: usize) -> Result<Vec<Socket>, ForwardError> {
    let failed = |source: io::Error| ForwardError::Socket { address, source };
    (0..count).map(|_| Socket::open(address)).collect::<io::Result<_>>().map_err(failed)
}

impl Socket {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let (family, dont_fragment) = match address {
            SocketAddr::V4(_) => (AddressFamily::INET, SocketOption::DontFragment4),
            SocketAddr::V6(_) => (AddressFamily::INET6, SocketOption::DontFragment6),
        };
        let fd = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(LOOK))?;
        // Without the right to it, what the system allows has to do.
        sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER)
            .or_else(|_not_privileged| sockopt::set_socket_recv_buffer_size(&fd, BUFFER))?;
        sockopt::set_socket_send_buffer_size(&fd, BUFFER)?;
        kernel::set(fd.as_fd(), dont_fragment)?;
        // Kernels before 5.0 have none of it: packets come one by one then.
        kernel::set(fd.as_fd(), SocketOption::Gro).ok();
        bind(&fd, &address)?;
        Ok(Self(fd))
    }

    /// Sends the parts as one packet, or as many of `segment` bytes each but the last.
    pub(crate) fn send(
        &self,
        parts: &[IoSlice<'_>],
        segment: Option<u16>,
        to: &SocketAddrAny,
    ) -> io::Result<()> {
        kernel::send(self.0.as_fd(), parts, segment, to)
    }

    /// Waits a while for packets. `None` if none came, or none that could be read.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Batch>> {
        kernel::receive(self.0.as_fd(), buffer)
    }
}
