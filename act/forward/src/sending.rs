//! Packets on their way to a node, several with one system call where they have one length.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use rustix::net::SocketAddrAny;

use crate::counters::Counters;
use crate::socket::Socket;

/// How many segments a kernel sends at once (UDP_MAX_SEGMENTS, before 6.9).
const SEGMENTS: usize = 64;
/// How many bytes a UDP packet has room for, over IPv4 and IPv6.
const PAYLOAD: usize = 65_535 - 20 - 8;

/// How many packets of that length can be sent at once.
pub(crate) fn at_once(length: usize) -> usize {
    (PAYLOAD / length.max(1)).clamp(1, SEGMENTS)
}

/// To whom packets go, and how they are counted.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    socket: &'a Socket,
    counters: &'a Counters,
    to: SocketAddrAny,
    /// How many bytes of each packet are not its own.
    overhead: usize,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(
        (socket, counters): (&'a Socket, &'a Counters),
        to: SocketAddr,
        overhead: usize,
    ) -> Self {
        Self { socket, counters, to: socket.to(to), overhead }
    }

    pub(crate) fn counters(&self) -> &'a Counters {
        self.counters
    }

    /// Sends packets of `each` parts, which have the same length but for the last, which may be shorter. There are no
    /// more than can be sent at once.
    pub(crate) fn packets(&self, parts: &[IoSlice<'_>], each: usize) {
        let count = parts.len() / each;
        let length = |parts: &[IoSlice<'_>]| parts.iter().map(|part| part.len()).sum::<usize>();
        let first = parts.get(..each).map_or(0, length);
        let segment = if count > 1 { u16::try_from(first).ok() } else { None };
        match self.socket.send(parts, segment, &self.to) {
            Ok(()) => self.sent(count, length(parts)),
            // Where the device below has no checksums (EIO), or the kernel no segments (EINVAL).
            Err(why) if segment.is_some() && is_about_segments(&why) => {
                for part in parts.chunks(each) {
                    self.outcome(self.socket.send(part, None, &self.to), (1, length(part)));
                }
            }
            failed => self.outcome(failed, (count, length(parts))),
        }
    }

    /// Sends a message that is no packet. One that gets lost is sent again by who misses its answer.
    pub(crate) fn message(&self, message: &[u8]) {
        self.socket.send(&[IoSlice::new(message)], None, &self.to).ok();
    }

    fn outcome(&self, outcome: io::Result<()>, (count, bytes): (usize, usize)) {
        match outcome {
            Ok(()) => self.sent(count, bytes),
            Err(why) if why.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.counters.dropped_too_big.add(count);
            }
            Err(_refused) => self.counters.dropped_not_sent.add(count),
        }
    }

    fn sent(&self, count: usize, bytes: usize) {
        self.counters.sent_packets.add(count);
        self.counters.sent_bytes.add(bytes.saturating_sub(count * self.overhead));
    }
}

fn is_about_segments(why: &io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}
