//! The kernel's notices of what comes into the agent's sets and maps, and goes.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use selvedge_netns::Namespace;
use selvedge_wire::{Message, Reader, Socket};

use crate::error::BenchError;

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES` with `NFT_MSG_NEWSETELEM`.
const NEW_ELEMENT: u16 = 10 << 8 | 12;
/// The same with `NFT_MSG_DELSETELEM`.
const DELETE_ELEMENT: u16 = 10 << 8 | 14;
/// `struct nfgenmsg`, which every message begins with.
const HEADER: usize = 4;
/// `NFTA_SET_ELEM_LIST_SET`
const SET: u16 = 2;
/// A first load announces hundreds of thousands of elements at once.
const ROOM: usize = 256 << 20;

/// What became of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Came,
    Went,
}

/// Hears of every change to nftables in a namespace.
#[derive(Debug)]
pub(crate) struct Notices(Socket);

impl Notices {
    pub(crate) fn of(place: &Namespace) -> Result<Self, BenchError> {
        let socket = place.run(|| Socket::open(Some(NETFILTER), &[GROUP]))?.map_err(failed)?;
        socket.set_receive_buffer(ROOM);
        Ok(Self(socket))
    }

    /// When the next notices come, whatever they are of; `None` if none do for so long.
    pub(crate) fn next(&mut self, patience: Duration) -> Result<Option<Instant>, BenchError> {
        self.take(patience, |_| ())
    }

    /// Forgets what has been announced until now.
    pub(crate) fn forget(&mut self) -> Result<(), BenchError> {
        while self.next(Duration::ZERO)?.is_some() {}
        Ok(())
    }

    /// When an address has come into a set whose name begins like this, or has gone; `None` if that doesn't happen in
    /// time.
    pub(crate) fn wait_for(
        &mut self,
        (turn, set, address): (Turn, &str, [u8; 4]),
        patience: Duration,
    ) -> Result<Option<Instant>, BenchError> {
        let deadline = Instant::now() + patience;
        let kind = match turn {
            Turn::Came => NEW_ELEMENT,
            Turn::Went => DELETE_ELEMENT,
        };
        loop {
            let mut heard = false;
            let left = deadline.saturating_duration_since(Instant::now());
            let seen =
                self.take(left, |message| heard |= message.kind == kind && is_of(message, set, address))?;
            match seen {
                Some(seen) if heard => return Ok(Some(seen)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Shows the messages of the next datagram, and says when it was there.
    fn take(
        &mut self,
        patience: Duration,
        mut show: impl FnMut(&Message<'_>),
    ) -> Result<Option<Instant>, BenchError> {
        let patience = Timespec::try_from(patience).map_err(|_too_long| failed(Errno::INVAL))?;
        let waiting = poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], Some(&patience));
        if waiting.map_err(failed)? == 0 {
            return Ok(None);
        }
        let seen = Instant::now();
        self.0.receive_waiting().map_err(failed)?.for_each(|message| show(&message));
        Ok(Some(seen))
    }
}

fn failed(errno: Errno) -> BenchError {
    BenchError::system("listen to the kernel's notices of nftables", errno)
}

/// Whether an element whose key is this address is in a set of such a name.
fn is_of(message: &Message<'_>, set: &str, address: [u8; 4]) -> bool {
    let attributes = message.payload.get(HEADER..).unwrap_or_default();
    let name = Reader(attributes).text(SET).unwrap_or_default();
    // NFTA_DATA_VALUE of a key: length, type, address.
    let [a, b, c, d] = address;
    let [length, kind] = [8_u16.to_ne_bytes(), 1_u16.to_ne_bytes()];
    let key = [length[0], length[1], kind[0], kind[1], a, b, c, d];
    name.starts_with(set) && attributes.windows(key.len()).any(|window| window == key)
}
