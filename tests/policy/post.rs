//! Somebody who sends and hears packets in a namespace.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, eth, ipproto, sockopt,
};
use selvedge_netns::Namespace;

use crate::packet;

/// So large that no burst between two looks fills it.
const ROOM: usize = 8 << 20;

/// The sockets of a namespace.
#[derive(Debug)]
pub(crate) struct Post {
    mouths: [OwnedFd; 2],
    ears: Vec<OwnedFd>,
}

/// Where a namespace hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hears {
    /// Whatever arrives at its links, before the kernel looks at it.
    AtItsLinks,
    /// What its kernel has let pass every hook on the way to a socket.
    BehindItsHooks,
}

impl Post {
    pub(crate) fn open(place: &Namespace, hears: Hears) -> Self {
        let opened = place.run(|| -> Result<Self, Errno> {
            // A socket of that protocol takes whole packets, header and all.
            let mouth = |family| socket(family, SocketType::RAW, ipproto::RAW);
            let mouths = [mouth(AddressFamily::INET)?, mouth(AddressFamily::INET6)?];
            let ears = match hears {
                Hears::AtItsLinks => [eth::IP, eth::IPV6]
                    .into_iter()
                    .map(|kind| socket(AddressFamily::PACKET, SocketType::DGRAM, kind))
                    .collect::<Result<_, _>>()?,
                Hears::BehindItsHooks => behind_hooks()?,
            };
            Ok(Self { mouths, ears })
        });
        let post = opened.unwrap().unwrap();
        post.ears.iter().for_each(|ear| sockopt::set_socket_recv_buffer_size_force(ear, ROOM).unwrap());
        post
    }

    /// Sends a whole packet. What the namespace's own kernel refuses on its way out, or has no room for, is as lost as
    /// any other.
    pub(crate) fn send(&self, packet: &[u8], to: IpAddr) {
        let mouth = &self.mouths[usize::from(to.is_ipv6())];
        match rustix::net::sendto(mouth, packet, SendFlags::empty(), &SocketAddr::new(to, 0)) {
            Ok(_) | Err(Errno::PERM | Errno::AGAIN | Errno::NOBUFS) => {}
            Err(errno) => panic!("send to {to}: {errno}"),
        }
    }

    /// Tells the numbers of the packets that have arrived.
    pub(crate) fn hear(&self, mut told: impl FnMut(u32)) {
        let mut buffer = [0; 256];
        for ear in &self.ears {
            loop {
                match rustix::net::recv(ear, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((_, length)) => packet::number(&buffer[..length]).into_iter().for_each(&mut told),
                    Err(Errno::AGAIN) => break,
                    // An error that somebody reported about what was sent.
                    Err(_) => {}
                }
            }
        }
    }
}

fn behind_hooks() -> Result<Vec<OwnedFd>, Errno> {
    let v4 = [ipproto::TCP, ipproto::UDP, ipproto::SCTP, ipproto::ICMP].map(|of| (AddressFamily::INET, of));
    let v6 =
        [ipproto::TCP, ipproto::UDP, ipproto::SCTP, ipproto::ICMPV6].map(|of| (AddressFamily::INET6, of));
    let all = v4.into_iter().chain(v6);
    all.map(|(family, protocol)| socket(family, SocketType::RAW, protocol)).collect()
}

fn socket(family: AddressFamily, kind: SocketType, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, kind, flags, Some(protocol))
}
