//! The ways to other nodes, measured: whether packets get there and back, and how long they may be.
//!
//! Every agent answers from its node's overlay addresses, at UDP port [`PORT`], what another node's agent asks from
//! one of its own: a datagram comes back as long as it went, so both directions are measured. It goes as pods' packets
//! go, or by one overlay device, never in fragments, and with a checksum that the receiving kernel holds it to.
//!
//! Invariants:
//! - only who is known to be a peer is answered, and never with more bytes than came
//! - nothing is asked or answered as long as a seat is missing that may still come: who answers on some ways and not on
//!   others that aren't made yet would be taken for a node that those don't reach
//! - a measurement takes a few seconds at most, however many ways are measured

mod packet;
mod socket;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use selvedge_datapath::reach::{Measured, Seat, Target};

use crate::packet::Kind;
use crate::socket::Taken;

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

/// How long a seat may be missing before it is said to be, and done without.
const PATIENCE: Duration = Duration::from_secs(30);

/// The seats of this node, the peers that it answers, and what is under way.
#[derive(Debug)]
pub struct Prober {
    taken: BTreeMap<Seat, Taken>,
    /// The seats that could not be taken yet, since when, and why.
    missing: BTreeMap<Seat, (Instant, io::Error)>,
    peers: BTreeSet<IpAddr>,
    number: u64,
    buffer: Vec<u8>,
}

/// A seat could not be taken for long.
#[derive(Debug, thiserror::Error)]
#[error("answer other nodes' probes at {}, UDP port {PORT}: {why}", seat.address)]
pub struct Missing<'a> {
    /// The seat.
    pub seat: &'a Seat,
    /// What the system said.
    pub why: &'a io::Error,
}

impl Default for Prober {
    fn default() -> Self {
        // Answers to an agent before this one are none to this one, and nobody guesses what it begins with.
        let first = RandomState::new().build_hasher().finish();
        Self {
            taken: BTreeMap::new(),
            missing: BTreeMap::new(),
            peers: BTreeSet::new(),
            number: first >> 1,
            buffer: vec![0; 1 << 16],
        }
    }
}

impl Prober {
    /// Takes these seats and leaves others. Those whose address or device isn't there can be taken with a later call.
    pub fn sit(&mut self, seats: &BTreeSet<Seat>) {
        self.taken.retain(|seat, taken| seats.contains(seat) && taken.holds(seat));
        self.missing.retain(|seat, _| seats.contains(seat));
        for seat in seats {
            if self.taken.contains_key(seat) {
                continue;
            }
            match Taken::at(seat, PORT) {
                Ok(taken) => {
                    self.missing.remove(seat);
                    self.taken.insert(seat.clone(), taken);
                }
                Err(why) => {
                    let since = self.missing.get(seat).map_or_else(Instant::now, |(since, _)| *since);
                    self.missing.insert(seat.clone(), (since, why));
                }
            }
        }
    }

    /// Answers these peers from now on.
    pub fn know(&mut self, peers: BTreeSet<IpAddr>) {
        self.peers = peers;
    }

    /// True if every seat is taken, or has been missing for so long that it is done without.
    pub fn is_settled(&self) -> bool {
        self.missing().count() == self.missing.len()
    }

    /// The seats that are done without.
    pub fn missing(&self) -> impl Iterator<Item = Missing<'_>> {
        let long = self.missing.iter().filter(|(_, (since, _))| since.elapsed() >= PATIENCE);
        long.map(|(seat, (_, why))| Missing { seat, why })
    }

    /// Answers for a while, if it is settled.
    pub fn serve(&mut self, until: Instant) {
        self.listen(until, &mut |_, _| false);
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
            self.listen(Instant::now() + ANSWER, &mut |number, from| {
                if let Some(i) = asked.get(&number).filter(|i| ways[**i].target.to == from) {
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
        let seat = Seat { address: target.from, device: target.device.clone() };
        let to = SocketAddr::new(target.to, PORT);
        self.taken.get(&seat).is_some_and(|taken| taken.socket.send_to(&datagram, to).is_ok())
    }

    /// Answers who asks, and shows answers, by their numbers and who gives them, until that says that it is enough.
    fn listen(&mut self, until: Instant, enough: &mut dyn FnMut(u64, IpAddr) -> bool) {
        let settled = self.is_settled();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let mut fds: Vec<PollFd<'_>> =
                self.taken.values().map(|taken| PollFd::new(&taken.socket, PollFlags::IN)).collect();
            if poll(&mut fds, Some(&timeout)).is_err() {
                continue;
            }
            for (seat, Taken { socket, .. }) in &self.taken {
                // Whoever sends without end doesn't keep the others from being heard.
                for _ in 0..TURN {
                    let Ok((length, from)) = socket.recv_from(&mut self.buffer) else { break };
                    let datagram = self.buffer.get(..length).unwrap_or_default();
                    let known = seat.hears_peers_alone() || self.peers.contains(&from.ip());
                    let said = packet::read(datagram).filter(|_| known);
                    if let Some((Kind::Ask, number)) = said.filter(|_| settled) {
                        // Who asked too much for the way back doesn't hear of it, and asks for less.
                        socket.send_to(&packet::write(Kind::Answer, number, length), from).ok();
                    }
                    if matches!(said, Some((Kind::Answer, number)) if enough(number, from.ip())) {
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
