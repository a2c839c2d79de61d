//! Packets that rules tell of, by groups of the netfilter log.

use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use selvedge_ruleset::{Headers, Logged};
use selvedge_wire::flag::ACK;
use selvedge_wire::{Reader, Request, Socket};

use crate::error::NftError;
use crate::socket::{self, Received, ask, header};

const SUBSYSTEM: u16 = 4 << 8;
/// A packet.
pub(crate) const PACKET: u16 = SUBSYSTEM;
const CONFIGURE: u16 = SUBSYSTEM | 1;

const COMMAND: u16 = 1;
const MODE: u16 = 2;
const TIMEOUT: u16 = 4;
const THRESHOLD: u16 = 5;
/// `NFULNL_CFG_CMD_BIND`
const BIND: u8 = 1;
/// `NFULNL_COPY_PACKET`
const COPY_PACKET: u8 = 2;

const MARK: u16 = 2;
const IIF: u16 = 4;
const OIF: u16 = 5;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;

/// How much of each packet is asked for: the longest headers of IPv4, or those of IPv6 with some between, and ports.
const BYTES: u32 = 100;
/// How long the kernel may wait for more packets before it tells of one, in hundredths of a second.
const PATIENCE: u32 = 5;
/// With how many packets it waits no longer.
const TOGETHER: u32 = 32;
/// What waits while nobody reads, some thousand packets.
const RECEIVE_BUFFER: usize = 2 << 20;

/// Hears of the packets that rules tell to one group, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct PacketLog {
    socket: Socket,
    waiting: std::collections::VecDeque<Received>,
}

/// What is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A packet.
    Packet(Logged),
    /// There were more packets than there was room for: some are not told of.
    Lost,
}

impl PacketLog {
    /// Begins to listen to a group in the calling thread's network namespace. A group has one listener.
    pub fn open(group: u16) -> Result<Self, NftError> {
        let mut socket = socket::open(&[]).map_err(|errno| NftError::Open { source: errno.into() })?;
        socket.set_receive_buffer(RECEIVE_BUFFER);
        // All at once: nothing is told before it is said how.
        let request = Request::new(CONFIGURE, ACK, &header(0, 0, group), |w| {
            w.bytes(COMMAND, &[BIND]);
            let [a, b, c, d] = BYTES.to_be_bytes();
            w.bytes(MODE, &[a, b, c, d, COPY_PACKET, 0]);
            w.u32_be(TIMEOUT, PATIENCE);
            w.u32_be(THRESHOLD, TOGETHER);
        });
        ask(&mut socket, &request).map_err(|errno| NftError::PacketLog { group, source: errno.into() })?;
        Ok(Self { socket, waiting: Default::default() })
    }

    #[cfg(test)]
    pub(crate) fn limit_buffer(&self) {
        self.socket.set_receive_buffer(1 << 12);
    }

    /// What is heard next; `None` if nothing waits. Poll the descriptor to wait for more.
    pub fn next_heard(&mut self) -> Result<Option<Heard>, NftError> {
        loop {
            while let Some(received) = self.waiting.pop_front() {
                if received.kind == PACKET {
                    return Ok(Some(Heard::Packet(read(received.attributes()))));
                }
            }
            match socket::notifications(&mut self.socket) {
                Ok(received) => self.waiting.extend(received),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::NOBUFS) => return Ok(Some(Heard::Lost)),
                Err(errno) => return Err(NftError::Packets { source: errno.into() }),
            }
        }
    }
}

impl AsFd for PacketLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads what is told of a packet.
pub(crate) fn read(packet: Reader<'_>) -> Logged {
    let interface = |kind| packet.u32_be(kind).and_then(NonZeroU32::new);
    Logged {
        prefix: packet.text(PREFIX).unwrap_or_default(),
        iif: interface(IIF),
        oif: interface(OIF),
        mark: packet.u32_be(MARK).unwrap_or(0),
        headers: packet.get(PAYLOAD).and_then(Headers::read),
    }
}
