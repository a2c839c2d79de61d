//! The ways to other nodes, measured: whether packets get there and back, and how long they may be.
//!
//! Every agent answers from its node's overlay addresses, at UDP port [`PORT`], what another node's agent asks from
//! one of its own: a datagram comes back as long as it went, so both directions are measured. It goes as pods' packets
//! go, or by one overlay device, never in fragments, and with a checksum that the receiving kernel holds it to.
//!
//! Invariants:
//! - only who is known to be a peer is answered, and never with more bytes than came
//! - a measurement takes a few seconds at most, however many ways are measured

mod packet;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use selvedge_datapath::reach::{Measured, Target};

pub use socket::Seat;

use crate::packet::Kind;

/// The UDP port at which agents answer each other.
pub const PORT: u16 = 9764;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(400);

/// How many datagrams are taken of one socket before the next one's turn.
const TURN: usize = 64;

/// How often what was not answered is asked again.
const TRIES: u32 = 2;

/// What IPv4 promises to carry anywhere (RFC 1122 section 3.3.3), which no underlay of ours has less than.
const SMALL: u32 = 576;

/// The seats of this node, the peers that it answers, and what is under way.
#[derive(Debug)]
pub struct Prober {
    sockets: BTreeMap<Seat, UdpSocket>,
    peers: BTreeSet<IpAddr>,
    number: u64,
    buffer: Vec<u8>,
}

/// A seat could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("answer other nodes' probes at {}, UDP port {PORT}", seat.address)]
pub struct SeatError {
    /// The seat.
    pub seat: Seat,
    /// What the system said.
    pub source: io::Error,
}

impl Default for Prober {
    fn default() -> Self {
        // Answers to an agent before this one are none to this one.
        let started = std::process::id();
        Self {
            sockets: BTreeMap::new(),
            peers: BTreeSet::new(),
            number: u64::from(started) << 32,
            buffer: vec![0; 1 << 16],
        }
    }
}

impl Prober {
    /// Takes these seats and leaves others, and answers these peers from now on. One error for each seat that can't be
    /// taken; it is tried again with the next call.
    pub fn sit(&mut self, seats: &BTreeSet<Seat>, peers: BTreeSet<IpAddr>) -> Vec<SeatError> {
        self.peers = peers;
        self.sockets.retain(|seat, _| seats.contains(seat));
        let mut errors = Vec::new();
        for seat in seats {
            if self.sockets.contains_key(seat) {
                continue;
            }
            match socket::open(seat, PORT) {
                Ok(socket) => drop(self.sockets.insert(seat.clone(), socket)),
                Err(source) => errors.push(SeatError { seat: seat.clone(), source }),
            }
        }
        errors
    }

    /// Answers for a while.
    pub fn serve(&mut self, until: Instant) {
        self.listen(until, &mut |_| false);
    }

    /// Measures ways, all at once; one result each, in order.
    pub fn measure(&mut self, targets: &[Target]) -> Vec<Measured> {
        let mut ways: Vec<Way> = targets.iter().map(Way::new).collect();
        // Whether anything gets through comes first, then whether everything does, then what does.
        self.ask_all(&mut ways);
        while ways.iter().any(|way| way.next().is_some()) {
            self.ask_all(&mut ways);
        }
        self.doubt(&mut ways);
        ways.iter().map(Way::measured).collect()
    }

    /// Asks once more for the most where less was found: a peer that was away for a moment, its agent starting anew,
    /// has answered what was short before and after, and not what was long meanwhile.
    fn doubt(&mut self, ways: &mut [Way]) {
        let mut narrow: Vec<&mut Way> = ways.iter_mut().filter(|way| way.is_narrow()).collect();
        let mut again: Vec<Way> = narrow.iter().map(|way| way.again()).collect();
        self.ask_all(&mut again);
        for (way, asked) in narrow.iter_mut().zip(again) {
            if !asked.is_narrow() {
                **way = asked;
            }
        }
    }

    /// Asks on every way that isn't known yet, and enters which of them answered.
    fn ask_all(&mut self, ways: &mut [Way]) {
        let mut open: BTreeMap<usize, u32> =
            ways.iter().enumerate().filter_map(|(i, way)| Some((i, way.next()?))).collect();
        for _ in 0..TRIES {
            let mut asked: BTreeMap<u64, usize> = BTreeMap::new();
            for (&i, &length) in &open {
                self.number += 1;
                if self.ask(ways[i].target, length) {
                    asked.insert(self.number, i);
                }
            }
            let mut waiting: BTreeSet<usize> = asked.values().copied().collect();
            self.listen(Instant::now() + ANSWER, &mut |number| {
                if let Some(i) = asked.get(&number) {
                    waiting.remove(i);
                }
                waiting.is_empty()
            });
            for i in asked.values().filter(|i| !waiting.contains(i)) {
                if let Some(length) = open.remove(i) {
                    ways[*i].through = length;
                }
            }
            if open.is_empty() {
                return;
            }
        }
        for (i, length) in open {
            ways[i].beyond = length;
        }
    }

    /// Sends a datagram that makes a packet of that length; false if that can't be.
    fn ask(&self, target: &Target, length: u32) -> bool {
        let headers = if target.to.is_ipv4() { 28 } else { 48 };
        let payload = usize::try_from(length.saturating_sub(headers)).unwrap_or_default();
        let datagram = packet::write(Kind::Ask, self.number, payload);
        let sits = |seat: &&Seat| {
            let device = seat.device.as_ref().map(|(name, _)| name);
            device == target.device.as_ref() && seat.address == target.from
        };
        let socket = self.sockets.iter().find(|(seat, _)| sits(seat)).map(|(_, socket)| socket);
        socket.is_some_and(|socket| socket.send_to(&datagram, SocketAddr::new(target.to, PORT)).is_ok())
    }

    /// Answers who asks, and shows the numbers of answers until that says that it is enough.
    fn listen(&mut self, until: Instant, enough: &mut dyn FnMut(u64) -> bool) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let mut fds: Vec<PollFd<'_>> =
                self.sockets.values().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            if poll(&mut fds, Some(&timeout)).is_err() {
                continue;
            }
            for (seat, socket) in &self.sockets {
                // Whoever sends without end doesn't keep the others from being heard.
                for _ in 0..TURN {
                    let Ok((length, from)) = socket.recv_from(&mut self.buffer) else { break };
                    let datagram = self.buffer.get(..length).unwrap_or_default();
                    let known = seat.hears_peers_alone() || self.peers.contains(&from.ip());
                    let said = packet::read(datagram).filter(|_| known);
                    if let Some((Kind::Ask, number)) = said {
                        // Who asked too much for the way back doesn't hear of it, and asks for less.
                        socket.send_to(&packet::write(Kind::Answer, number, length), from).ok();
                    }
                    if matches!(said, Some((Kind::Answer, number)) if enough(number)) {
                        return;
                    }
                }
            }
        }
    }
}

/// A way under measurement: the longest packet that got through so far, and the shortest that did not.
struct Way<'a> {
    target: &'a Target,
    through: u32,
    beyond: u32,
}

impl<'a> Way<'a> {
    fn new(target: &'a Target) -> Self {
        Self { target, through: 0, beyond: target.mtu.bytes() + 1 }
    }

    /// True if something got through, and not as much as should.
    fn is_narrow(&self) -> bool {
        self.through > 0 && self.through < self.target.mtu.bytes()
    }

    /// The same as it was before anything long was asked.
    fn again(&self) -> Self {
        Self { through: SMALL, ..Self::new(self.target) }
    }

    /// What to ask next; nothing once it is known.
    fn next(&self) -> Option<u32> {
        let most = self.target.mtu.bytes();
        match (self.through, self.beyond) {
            (_, SMALL) => None,
            (0, _) => Some(SMALL),
            (through, _) if through >= most => None,
            (SMALL, beyond) if beyond > most => Some(most),
            (through, beyond) if beyond - through <= 1 => None,
            (through, beyond) => Some(through.midpoint(beyond)),
        }
    }

    fn measured(&self) -> Measured {
        if self.through == 0 { Measured::Silent } else { Measured::Through { mtu: self.through } }
    }
}

#[cfg(test)]
mod tests;
