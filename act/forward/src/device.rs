//! The TUN device: made with as many queues as there are threads to serve them.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

use crate::error::ForwardError;
use crate::kernel;

/// Of linux/if_tun.h.
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;
const TUN_F_TSO_ECN: libc::c_ulong = 0x08;
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;

/// One queue of the device.
#[derive(Debug)]
pub(crate) struct Queue(OwnedFd);

/// Makes the device, or takes over the one that a forwarder before left, with that many queues.
pub(crate) fn open(name: &str, queues: usize) -> Result<Vec<Queue>, ForwardError> {
    let failed = |source: io::Error| {
        let name = name.to_owned();
        match source.raw_os_error() {
            Some(libc::EINVAL) if is_there(&name) => ForwardError::Foreign { name },
            _ => ForwardError::Device { name, source },
        }
    };
    (0..queues).map(|_| queue(name)).collect::<io::Result<_>>().map_err(failed)
}

/// Whether there is a link of that name, of whatever kind.
pub(crate) fn is_there(name: &str) -> bool {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
    socket.and_then(|socket| rustix::net::netdevice::name_to_index(&socket, name)).is_ok()
}

fn queue(name: &str) -> io::Result<Queue> {
    let tun = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    kernel::attach(tun.as_fd(), name, flags)?;
    let always = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    // Kernels before 6.2 know nothing of UDP's segments.
    kernel::offload(tun.as_fd(), always | TUN_F_USO4 | TUN_F_USO6)
        .or_else(|_older| kernel::offload(tun.as_fd(), always))?;
    kernel::persist(tun.as_fd())?;
    Ok(Queue(tun))
}

impl Queue {
    /// Waits for a packet, with the device's header before it. `None` when the device is gone.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.0, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::BADFD | Errno::FAULT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the device a packet, with its header before it.
    pub(crate) fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        rustix::io::writev(&self.0, parts)?;
        Ok(())
    }
}
