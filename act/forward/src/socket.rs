//! The UDP sockets: one for each queue, all at one address.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// Where sockets listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// At one address.
    At(SocketAddr),
    /// At all addresses of both families; of IPv4 where there is no other.
    Everywhere(u16),
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    v6: bool,
}

/// Opens that many.
pub(crate) fn open(listen: Listen, count: usize) -> Result<Vec<Socket>, ForwardError> {
    let all = |address: SocketAddr| (0..count).map(|_| Socket::open(address, listen)).collect();
    let (address, opened): (_, io::Result<_>) = match listen {
        Listen::At(address) => (address, all(address)),
        Listen::Everywhere(port) => {
            let (v6, v4) = (Ipv6Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
            let [v6, v4] = [v6.into(), v4.into()].map(|any: IpAddr| SocketAddr::new(any, port));
            match all(v6) {
                Err(why) if why.raw_os_error() == Some(libc::EAFNOSUPPORT) => (v4, all(v4)),
                opened => (v6, opened),
            }
        }
    };
    opened.map_err(|source| ForwardError::Socket { address, source })
}

impl Socket {
    fn open(address: SocketAddr, listen: Listen) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(LOOK))?;
        // Without the right to it, what the system allows has to do.
        sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER)
            .or_else(|_not_privileged| sockopt::set_socket_recv_buffer_size(&fd, BUFFER))?;
        sockopt::set_socket_send_buffer_size(&fd, BUFFER)?;
        let both = address.is_ipv6() && matches!(listen, Listen::Everywhere(_));
        if both {
            sockopt::set_ipv6_v6only(&fd, false)?;
        }
        if address.is_ipv6() {
            kernel::set(fd.as_fd(), SocketOption::DontFragment6)?;
        }
        if address.is_ipv4() || both {
            kernel::set(fd.as_fd(), SocketOption::DontFragment4)?;
        }
        // Kernels before 5.0 have none of it: packets come one by one then.
        kernel::set(fd.as_fd(), SocketOption::Gro).ok();
        bind(&fd, &address)?;
        Ok(Self { fd, v6: address.is_ipv6() })
    }

    /// An address as this socket takes it.
    pub(crate) fn to(&self, address: SocketAddr) -> SocketAddrAny {
        match address.ip() {
            IpAddr::V4(v4) if self.v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()).into(),
            _ => address.into(),
        }
    }

    /// Sends the parts as one packet, or as many of `segment` bytes each but the last.
    pub(crate) fn send(
        &self,
        parts: &[IoSlice<'_>],
        segment: Option<u16>,
        to: &SocketAddrAny,
    ) -> io::Result<()> {
        kernel::send(self.fd.as_fd(), parts, segment, to)
    }

    /// Waits a while for packets. `None` if none came, or none that could be read.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Batch>> {
        kernel::receive(self.fd.as_fd(), buffer)
    }
}
