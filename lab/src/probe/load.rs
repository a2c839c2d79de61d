//! What makes a connection's packets large: after the short words a load each way, of which nothing but its length counts.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::socket;

/// How many bytes a load has: two full packets of the largest MTU that a lab can have, and a dozen of Ethernet's.
pub(super) const LOAD: usize = 18 * 1024;

static NOTHING: [u8; LOAD] = [0; LOAD];

/// A load that is being sent.
#[derive(Debug, Default)]
pub(super) struct Load {
    sent: usize,
}

impl Load {
    /// Sends as much as goes without waiting; true once all is sent.
    pub(super) fn push(&mut self, socket: &OwnedFd) -> Result<bool, Errno> {
        while let Some(rest) = NOTHING.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match socket::write(socket, rest)? {
                0 => return Ok(false),
                sent => self.sent += sent,
            }
        }
        Ok(true)
    }
}
