//! A connection as its caller sees it: it says the ticket and sends a load, and hears its address and another load.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::echo::Ticket;
use super::load::{LOAD, Load};
use super::sender::{Answer, Shot, refusal};
use super::socket;
use crate::matrix::Reason;
use crate::shape::Family;

/// A connection under way.
pub(super) struct Call<'a> {
    shot: &'a Shot,
    socket: OwnedFd,
    stage: Stage,
    /// What the receiver said, up to the end of its line.
    answer: Vec<u8>,
    /// How much of the receiver's load has come.
    heard: usize,
}

#[derive(Debug)]
enum Stage {
    /// The connection does not stand yet.
    Connecting,
    /// Our load is being sent; of the receiver there may be something to hear.
    Sending(Load),
    /// All is said, and the receiver is heard to its end.
    Hearing,
}

impl<'a> Call<'a> {
    /// Begins to connect.
    pub(super) fn begin(shot: &'a Shot) -> Result<Self, Errno> {
        let socket = socket::stream(Family::of(shot.target))?;
        socket::connect(&socket, shot.target)?;
        Ok(Self { shot, socket, stage: Stage::Connecting, answer: Vec::new(), heard: 0 })
    }

    /// Whose call it is.
    pub(super) fn ticket(&self) -> Ticket {
        self.shot.ticket
    }

    /// What has to come before it can go on.
    pub(super) fn awaited(&self) -> PollFd<'_> {
        let flags = match self.stage {
            Stage::Connecting => PollFlags::OUT,
            Stage::Sending(_) => PollFlags::IN | PollFlags::OUT,
            Stage::Hearing => PollFlags::IN,
        };
        PollFd::new(&self.socket, flags)
    }

    /// Goes on as far as it can without waiting; the answer once there is one.
    pub(super) fn step(&mut self) -> Option<Answer> {
        self.advance().unwrap_or_else(|errno| Some(Err(refusal(errno))))
    }

    /// Ends it before its time, and says why there is no answer.
    pub(super) fn give_up(self) -> Reason {
        socket::give_up(self.socket);
        match (self.answer.ends_with(b"\n"), self.heard) {
            (false, _) => Reason::TimedOut,
            (true, 0) => Reason::LargeLostThere,
            (true, after) => Reason::LargeLostBack { after },
        }
    }

    fn advance(&mut self) -> Result<Option<Answer>, Errno> {
        if matches!(self.stage, Stage::Connecting) {
            if !socket::connect(&self.socket, self.shot.target)? {
                return Ok(None);
            }
            socket::write(&self.socket, &self.shot.ticket.bytes())?;
            self.stage = Stage::Sending(Load::default());
        }
        if let Stage::Sending(load) = &mut self.stage
            && load.push(&self.socket)?
        {
            self.stage = Stage::Hearing;
        }
        while let Some(bytes) = socket::read(&self.socket)? {
            if bytes.is_empty() {
                let whole = self.heard == LOAD;
                return Ok(Some(self.seen_source().filter(|_| whole).map(Some).ok_or(Reason::Garbled)));
            }
            self.hear(&bytes);
        }
        Ok(None)
    }

    fn hear(&mut self, bytes: &[u8]) {
        let line = if self.answer.ends_with(b"\n") {
            0
        } else {
            bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1)
        };
        let (line, load) = bytes.split_at(line);
        self.answer.extend(line);
        self.heard += load.len();
    }

    /// The address in the answer, if it is one of the place that was called.
    fn seen_source(&self) -> Option<IpAddr> {
        let (place, address) = std::str::from_utf8(&self.answer).ok()?.trim_end().rsplit_once(' ')?;
        if place == self.shot.to.to_string() { address.parse().ok() } else { None }
    }
}
