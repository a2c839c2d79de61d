//! What is agreed upon with one node, and what waits for that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use selvedge_model::PublicKey;

use super::own::Own;

/// How many packets wait for a session. One more takes the place of the first.
const WAITING: usize = 128;

/// Room for every message that is no packet.
pub(super) const MESSAGE: usize = 148;

/// A node's tunnel.
pub(super) struct Tunnel {
    pub(super) key: PublicKey,
    /// The highest bits of the numbers of its sessions.
    pub(super) index: u32,
    own: Arc<Own>,
    state: Mutex<State>,
}

/// What changes.
#[derive(Default)]
struct State {
    /// Made when it is first needed: most of many nodes are never spoken to.
    noise: Option<Box<Tunn>>,
    /// Packets without a session.
    waiting: VecDeque<Vec<u8>>,
    /// A session is to be asked for at once.
    hurry: bool,
    /// The node is gone.
    closed: bool,
}

/// What a tunnel leaves when it is closed.
pub(super) struct Left {
    /// Whether there was a session, or one was wanted.
    pub(super) used: bool,
    pub(super) waiting: VecDeque<Vec<u8>>,
}

impl Tunnel {
    pub(super) fn new(key: PublicKey, index: u32, own: &Arc<Own>) -> Self {
        Self { key, index, own: Arc::clone(own), state: Mutex::default() }
    }

    /// The tunnel for one thread. `None` when it is closed.
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (!state.closed).then_some(Entered { tunnel: self, state })
    }

    /// Ends all sessions for good.
    pub(super) fn close(&self) -> Left {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        let open = state.noise.take().is_some_and(|noise| is_open(&noise));
        let waiting = std::mem::take(&mut state.waiting);
        Left { used: open || !waiting.is_empty(), waiting }
    }

    /// Takes over what waited for a session with the node's other key.
    pub(super) fn inherit(&self, waiting: VecDeque<Vec<u8>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = std::mem::replace(&mut state.waiting, waiting);
        state.waiting.extend(since);
    }

    /// Has a session asked for when next it is looked what is due.
    pub(super) fn hurry(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).hurry = true;
    }
}

fn is_open(noise: &Tunn) -> bool {
    noise.time_since_last_handshake().is_some()
}

/// A tunnel that no other thread is in.
pub(super) struct Entered<'a> {
    tunnel: &'a Tunnel,
    state: MutexGuard<'a, State>,
}

/// What was in a message.
pub(super) enum Opened<'a> {
    /// A packet, of that length.
    Packet(usize),
    /// Something to be sent back.
    Answer(&'a [u8]),
    /// Nothing that need be looked at.
    Nothing,
    /// No packet of IP.
    Malformed,
    /// It is of a session that there is none of (any more).
    Unknown,
    /// It can't be opened, or came before.
    Sealed,
}

/// What is due.
pub(super) enum Due<'a> {
    /// A message is to be sent.
    Message(&'a [u8]),
    /// Nobody answered for a long time: so many packets need not wait any more.
    Forlorn(usize),
    /// Nothing.
    Nothing,
}

impl Entered<'_> {
    fn noise(&mut self) -> &mut Tunn {
        let tunnel = self.tunnel;
        self.state.noise.get_or_insert_with(|| {
            let (secret, key) = (tunnel.own.secret.clone(), x25519::PublicKey::from(tunnel.key.0));
            let limiter = Arc::clone(&tunnel.own.unlimited);
            Box::new(Tunn::new(secret, key, None, None, tunnel.index, Some(limiter)))
        })
    }

    /// Whether there is a session to send packets in.
    pub(super) fn is_open(&self) -> bool {
        self.state.noise.as_deref().is_some_and(is_open)
    }

    /// Encrypts a packet; its length then. There must be a session, and room for [`MESSAGE`] and for the packet with
    /// what encryption adds.
    pub(super) fn seal(&mut self, packet: &[u8], room: &mut [u8]) -> Option<usize> {
        match self.noise().encapsulate(packet, room) {
            TunnResult::WriteToNetwork(sealed) => Some(sealed.len()),
            _ => None,
        }
    }

    /// Keeps a packet until there is a session; true if another one was dropped for it.
    pub(super) fn wait(&mut self, packet: Vec<u8>) -> bool {
        let full = self.state.waiting.len() >= WAITING;
        if full {
            self.state.waiting.pop_front();
        }
        self.state.waiting.push_back(packet);
        full
    }

    /// The next packet that waited and need not any more.
    pub(super) fn next_waiting(&mut self) -> Option<Vec<u8>> {
        if self.state.waiting.is_empty() || !self.is_open() { None } else { self.state.waiting.pop_front() }
    }

    /// A message that asks for a session, unless one was asked for just now.
    pub(super) fn ask<'r>(&mut self, room: &'r mut [u8; MESSAGE]) -> Option<&'r [u8]> {
        match self.noise().format_handshake_initiation(room, false) {
            TunnResult::WriteToNetwork(message) => Some(message),
            _ => None,
        }
    }

    /// Opens a message. There must be room for [`MESSAGE`], or for a packet and what proves it.
    pub(super) fn open<'r>(&mut self, message: &[u8], room: &'r mut [u8]) -> Opened<'r> {
        match self.noise().decapsulate(None, message, room) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Opened::Packet(packet.len())
            }
            TunnResult::WriteToNetwork(answer) => Opened::Answer(answer),
            TunnResult::Done => Opened::Nothing,
            TunnResult::Err(WireGuardError::InvalidPacket) => Opened::Malformed,
            TunnResult::Err(WireGuardError::NoCurrentSession | WireGuardError::WrongIndex) => Opened::Unknown,
            TunnResult::Err(_) => Opened::Sealed,
        }
    }

    /// What is due now.
    pub(super) fn due<'r>(&mut self, room: &'r mut [u8; MESSAGE]) -> Due<'r> {
        if std::mem::take(&mut self.state.hurry) {
            return match self.noise().format_handshake_initiation(room, true) {
                TunnResult::WriteToNetwork(message) => Due::Message(message),
                _ => Due::Nothing,
            };
        }
        let Some(noise) = &mut self.state.noise else { return Due::Nothing };
        match noise.update_timers(room) {
            TunnResult::WriteToNetwork(message) => Due::Message(message),
            TunnResult::Err(_expired) => Due::Forlorn(std::mem::take(&mut self.state.waiting).len()),
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
