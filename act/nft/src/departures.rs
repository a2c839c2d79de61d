//! Rules that go, with what they have counted.

use rustix::io::Errno;
use selvedge_ruleset::TableId;
use selvedge_ruleset::listed::Counted;
use selvedge_wire::Socket;

use crate::error::NftError;
use crate::list::{read_counted, table_of};
use crate::message::kind;
use crate::monitor::GROUP;
use crate::socket;

/// What waits while nobody asks, some thousand rules.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Hears of the rules that go in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Departures {
    socket: Socket,
}

impl Departures {
    /// Begins to listen in the calling thread's network namespace.
    pub fn open() -> Result<Self, NftError> {
        let socket = socket::open(&[GROUP]).map_err(|errno| NftError::Open { source: errno.into() })?;
        socket.set_receive_buffer(RECEIVE_BUFFER);
        Ok(Self { socket })
    }

    /// The rules of a table that count and have gone since it was last asked for, each with all that it has counted.
    /// Some are missing if so many went that there was no room.
    pub fn gone(&mut self, table: &TableId) -> Result<Vec<Counted>, NftError> {
        let mut gone = Vec::new();
        loop {
            match socket::notifications(&mut self.socket) {
                Ok(received) => {
                    let rules = received.iter().filter(|one| one.kind == kind::DELETE_RULE);
                    let ours = rules.filter(|one| table_of(one).as_ref() == Some(table));
                    gone.extend(ours.filter_map(|one| read_counted(table.family, one.attributes())));
                }
                Err(Errno::AGAIN) => return Ok(gone),
                Err(Errno::NOBUFS) => {}
                Err(errno) => return Err(NftError::Watch { source: errno.into() }),
            }
        }
    }
}
