//! A connection as the place that was called sees it: a ticket comes and is answered with the caller's address, then a load
//! comes and another goes back.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::echo::Ticket;
use super::load::{LOAD, Load};
use super::socket;
use crate::plan::Place;

/// Who called, and what has come of it so far.
pub(super) struct Visit {
    peer: IpAddr,
    ticket: Vec<u8>,
    answered: bool,
    heard: usize,
    load: Option<Load>,
}

/// How far a visit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It goes on.
    Open,
    /// It goes on, and all that the caller has to say is here.
    Heard(Ticket),
    /// Nothing is left to do.
    Over,
}

impl Visit {
    /// A visit from this address.
    pub(super) fn from(peer: IpAddr) -> Self {
        Self { peer, ticket: Vec::new(), answered: false, heard: 0, load: None }
    }

    /// The address that it is from.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// True if it is to send, so that what it waits for is room.
    pub(super) fn is_sending(&self) -> bool {
        self.load.is_some()
    }

    /// Goes on as far as it can without waiting. A caller who is gone finds out for itself.
    pub(super) fn step(&mut self, place: &Place, socket: &OwnedFd) -> Stage {
        self.advance(place, socket).unwrap_or(Stage::Over)
    }

    fn advance(&mut self, place: &Place, socket: &OwnedFd) -> Result<Stage, Errno> {
        if let Some(load) = &mut self.load {
            return Ok(if load.push(socket)? { Stage::Over } else { Stage::Open });
        }
        while let Some(bytes) = socket::read(socket)? {
            if bytes.is_empty() {
                return Ok(Stage::Over);
            }
            self.hear(&bytes);
        }
        let Some(ticket) = Ticket::read(&self.ticket) else { return Ok(Stage::Open) };
        if !self.answered {
            self.answered = true;
            socket::write(socket, format!("{place} {}\n", self.peer).as_bytes())?;
        }
        if self.heard < LOAD {
            return Ok(Stage::Open);
        }
        self.load = Some(Load::default());
        Ok(Stage::Heard(ticket))
    }

    fn hear(&mut self, bytes: &[u8]) {
        let of_ticket = bytes.len().min(Ticket::LEN - self.ticket.len());
        let (ticket, load) = bytes.split_at(of_ticket);
        self.ticket.extend(ticket);
        self.heard += load.len();
    }
}
