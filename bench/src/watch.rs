//! The kernel's notices of new routes.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::error::BenchError;

/// RTMGRP_IPV4_ROUTE of `linux/rtnetlink.h`.
const ROUTES: u32 = 0x40;
/// RTA_GATEWAY of the same.
const GATEWAY: u8 = 5;

/// Sees the IPv4 routes that appear in the namespace where it was opened.
#[derive(Debug)]
pub(crate) struct RouteWatch(OwnedFd);

impl RouteWatch {
    /// Listens from now on, and waits for at most `patience` each time.
    pub(crate) fn open(patience: Duration) -> Result<Self, BenchError> {
        let failed = |errno: Errno| BenchError::system("listen to the kernel's route notices", errno);
        // Protocol 0 is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(failed)?;
        bind(&socket, &SocketAddrNetlink::new(0, ROUTES)).map_err(failed)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(patience)).map_err(failed)?;
        Ok(Self(socket))
    }

    /// When a route through a gateway that no route had before is there; `None` if it never comes.
    pub(crate) fn wait_for(&self, gateway: Ipv4Addr) -> Result<Option<Instant>, BenchError> {
        let attribute = attribute(gateway);
        let mut notice = [0; 8192];
        loop {
            let length = match recv(&self.0, &mut notice, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(BenchError::system("read the kernel's route notices", errno)),
            };
            let seen = Instant::now();
            if notice[..length].windows(attribute.len()).any(|window| window == attribute) {
                return Ok(Some(seen));
            }
        }
    }
}

/// The gateway as a notice carries it: length, type, address.
fn attribute(gateway: Ipv4Addr) -> [u8; 8] {
    let [length, kind] = [8_u16.to_ne_bytes(), u16::from(GATEWAY).to_ne_bytes()];
    let [a, b, c, d] = gateway.octets();
    [length[0], length[1], kind[0], kind[1], a, b, c, d]
}
