//! The kernel's notices of routes, neighbours and forwarding entries.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use selvedge_netns::Namespace;
use selvedge_wire::{Message, Reader, Socket};

use crate::error::BenchError;

/// `RTNLGRP_NEIGH` and `RTNLGRP_IPV4_ROUTE` of `linux/rtnetlink.h`.
const GROUPS: [u32; 2] = [3, 7];
/// `RTM_NEWROUTE`, `RTM_DELROUTE`, `RTM_NEWNEIGH` and `RTM_DELNEIGH` of the same.
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;
/// `struct rtmsg` and `struct ndmsg`, whose first byte is the family.
const HEADER: usize = 12;
/// `RTA_DST` and `NDA_DST`.
const DESTINATION: u16 = 1;
/// `AF_INET` and `AF_BRIDGE`.
const IPV4: u8 = 2;
const BRIDGE: u8 = 7;
/// A first start announces tens of thousands at once.
const ROOM: usize = 128 << 20;

/// A part of the way to another node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// To this network.
    Route(Ipv4Addr),
    /// Of this address.
    Neighbour(Ipv4Addr),
    /// A forwarding entry to this node.
    Forwarding(Ipv4Addr),
}

/// Hears of every way in a namespace from when it was made.
#[derive(Debug)]
pub(super) struct Ways(Socket);

impl Ways {
    pub(super) fn of(place: &Namespace) -> Result<Self, BenchError> {
        let socket = place.run(|| Socket::open(None, &GROUPS))?.map_err(failed)?;
        socket.set_receive_buffer(ROOM);
        Ok(Self(socket))
    }

    /// When the last of these came; those that didn't in time.
    pub(super) fn wait_for_all(
        &mut self,
        all: &BTreeSet<Way>,
        patience: Duration,
    ) -> Result<Result<Instant, BTreeSet<Way>>, BenchError> {
        self.wait(all, patience, [NEW_ROUTE, NEW_NEIGHBOUR])
    }

    /// When the last of these went; those that didn't in time.
    pub(super) fn wait_until_gone(
        &mut self,
        all: &BTreeSet<Way>,
        patience: Duration,
    ) -> Result<Result<Instant, BTreeSet<Way>>, BenchError> {
        self.wait(all, patience, [DELETE_ROUTE, DELETE_NEIGHBOUR])
    }

    fn wait(
        &mut self,
        all: &BTreeSet<Way>,
        patience: Duration,
        kinds: [u16; 2],
    ) -> Result<Result<Instant, BTreeSet<Way>>, BenchError> {
        let (mut left, deadline) = (all.clone(), Instant::now() + patience);
        loop {
            let time = Timespec::try_from(deadline.saturating_duration_since(Instant::now()));
            let time = time.map_err(|_too_long| failed(Errno::INVAL))?;
            let waiting = poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], Some(&time));
            if waiting.map_err(failed)? == 0 {
                return Ok(Err(left));
            }
            let seen = Instant::now();
            for message in self.0.receive_waiting().map_err(failed)? {
                if kinds.contains(&message.kind) {
                    way(&message).map(|way| left.remove(&way));
                }
            }
            if left.is_empty() {
                return Ok(Ok(seen));
            }
        }
    }
}

fn failed(errno: Errno) -> BenchError {
    BenchError::system("listen to the kernel's notices of routes and neighbours", errno)
}

/// What a notice is of, if it is a way.
fn way(message: &Message<'_>) -> Option<Way> {
    let (header, attributes) = message.payload.split_at_checked(HEADER)?;
    let address: [u8; 4] = Reader(attributes).get(DESTINATION)?.try_into().ok()?;
    let address = Ipv4Addr::from(address);
    match (message.kind, header[0]) {
        (NEW_ROUTE | DELETE_ROUTE, IPV4) => Some(Way::Route(address)),
        (NEW_NEIGHBOUR | DELETE_NEIGHBOUR, IPV4) => Some(Way::Neighbour(address)),
        (NEW_NEIGHBOUR | DELETE_NEIGHBOUR, BRIDGE) => Some(Way::Forwarding(address)),
        _ => None,
    }
}
