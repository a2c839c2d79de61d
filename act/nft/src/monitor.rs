//! Notifications of changes to nftables, with who made them.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use selvedge_ruleset::TableId;
use selvedge_wire::Socket;

use crate::error::NftError;
use crate::list::table_of;
use crate::message::{attr, kind};
use crate::socket::{self, Received};

/// `NFNLGRP_NFTABLES`
pub(crate) const GROUP: u32 = 7;
/// What waits while nobody reads: kube-proxy alone can announce thousands of changes at once.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Hears of every change to nftables in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    waiting: std::collections::VecDeque<Received>,
    touched: BTreeSet<TableId>,
}

/// Something happened to nftables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A transaction changed these tables.
    Changed {
        /// The tables.
        tables: BTreeSet<TableId>,
        /// Who did it.
        by: Author,
        /// The number of the generation of rules that it made.
        generation: u32,
    },
    /// There were more notifications than there was room for: look at everything.
    Lost,
}

/// The process that sent a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Its process id, as seen from the initial namespace.
    pub pid: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { tables, by, .. } => {
                let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
                write!(f, "{} changed table {}", by, tables.join(", "))
            }
            Self::Lost => f.write_str("nftables notifications were lost"),
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

impl Monitor {
    /// Begins to listen in the calling thread's network namespace.
    pub fn open() -> Result<Self, NftError> {
        let socket = socket::open(&[GROUP]).map_err(|errno| NftError::Open { source: errno.into() })?;
        socket.set_receive_buffer(RECEIVE_BUFFER);
        Ok(Self { socket, waiting: Default::default(), touched: BTreeSet::new() })
    }

    #[cfg(test)]
    pub(crate) fn limit_buffer(&self) {
        self.socket.set_receive_buffer(1 << 12);
    }

    /// The next event that waits; `None` if there is none. Poll the descriptor to wait for one.
    pub fn next_event(&mut self) -> Result<Option<Event>, NftError> {
        loop {
            while let Some(received) = self.waiting.pop_front() {
                if let Some(event) = self.take(&received) {
                    return Ok(Some(event));
                }
            }
            match socket::notifications(&mut self.socket) {
                Ok(received) => self.waiting.extend(received),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::NOBUFS) => {
                    self.touched.clear();
                    return Ok(Some(Event::Lost));
                }
                Err(errno) => return Err(NftError::Watch { source: errno.into() }),
            }
        }
    }

    /// A transaction's changes come first, then the new generation, with who made it.
    fn take(&mut self, received: &Received) -> Option<Event> {
        if received.kind != kind::NEW_GENERATION {
            self.touched.extend(table_of(received));
            return None;
        }
        let attributes = received.attributes();
        let pid = attributes.u32_be(attr::GENERATION_PID).unwrap_or(0);
        let name = attributes.text(attr::GENERATION_NAME).unwrap_or_default();
        let generation = attributes.u32_be(attr::GENERATION_ID).unwrap_or(0);
        let tables = std::mem::take(&mut self.touched);
        (!tables.is_empty()).then_some(Event::Changed { tables, by: Author { pid, name }, generation })
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
