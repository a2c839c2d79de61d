//! The sockets that are asked and answer.
#![expect(unsafe_code, reason = "no crate at hand has setsockopt(2) for the discovery of path MTUs")]

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use rustix::net::netdevice::name_to_index;
use selvedge_datapath::reach::Seat;
use selvedge_model::IfName;
use socket2::{Domain, Protocol, Socket, Type};

/// A seat that is taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) socket: UdpSocket,
    /// Of the device: one that is made anew is another.
    index: Option<u32>,
}

impl Taken {
    /// Opens the socket of a seat.
    pub(crate) fn at(seat: &Seat, port: u16) -> io::Result<Self> {
        let socket = open(seat, port)?;
        let index = seat.device.as_ref().map(|device| index_of(&socket, device)).transpose()?;
        Ok(Self { socket, index })
    }

    /// True as long as the device of the seat is the one that it was taken on.
    pub(crate) fn holds(&self, seat: &Seat) -> bool {
        let index = seat.device.as_ref().map(|device| index_of(&self.socket, device));
        index.is_none_or(|index| index.ok() == self.index)
    }
}

fn index_of(socket: &UdpSocket, device: &IfName) -> io::Result<u32> {
    Ok(name_to_index(socket, device.as_str())?)
}

fn open(seat: &Seat, port: u16) -> io::Result<UdpSocket> {
    let v4 = seat.address.is_ipv4();
    let socket = Socket::new(if v4 { Domain::IPV4 } else { Domain::IPV6 }, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Several seats have the same address; the one of the device that a packet comes in by gets it.
    socket.set_reuse_port(true)?;
    if let Some(device) = &seat.device {
        socket.bind_device(Some(device.as_str().as_bytes()))?;
    }
    let (level, option) = match v4 {
        true => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        false => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    // Never in fragments, and as long as the device takes whatever was learned of the path.
    set(&socket, level, option, libc::IP_PMTUDISC_PROBE)?;
    socket.bind(&SocketAddr::new(seat.address, port).into())?;
    Ok(socket.into())
}

fn set(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or_default();
    // SAFETY: the pointer is to an integer that outlives the call, and the length is that integer's.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
