//! From the device to the nodes, encrypted.

use std::io::IoSlice;

use selvedge_packet::{Cut, SEALED};

use super::tunnel::{Entered, MESSAGE};
use super::{Peer, Sessions};
use crate::codec::{Lane, Parcel};
use crate::sending::{Sending, at_once};

/// The longest packet, encrypted, and what a message needs besides.
const BUFFER: usize = 65_535 + SEALED + MESSAGE;

/// What a thread works with.
pub(crate) struct Room {
    /// Headers of parts.
    headers: Vec<u8>,
    /// One part in one piece.
    part: Vec<u8>,
    /// Parts, encrypted, one after the other.
    sealed: Vec<u8>,
}

impl Default for Room {
    fn default() -> Self {
        Self { headers: Vec::new(), part: Vec::new(), sealed: vec![0; BUFFER] }
    }
}

impl Sessions {
    /// Sends a packet of the device in a session with its node, or has it wait for one.
    pub(super) fn send(&self, room: &mut Room, lane: &Lane<'_>, parcel: Parcel<'_>) {
        let Parcel { packet, offload, ends } = parcel;
        let Some(peer) = self.nodes.behind(ends.destination).and_then(|number| self.peers.get(number)) else {
            return lane.counters.dropped_no_peer.add(1);
        };
        let Ok(cut) = Cut::of(packet, &offload, &mut room.headers) else {
            return lane.counters.dropped_malformed.add(1);
        };
        let at_once = at_once(cut.part() + SEALED);
        for start in (0..cut.count()).step_by(at_once) {
            let end = (start + at_once).min(cut.count());
            room.send(peer, lane, (&cut, packet, start..end));
        }
    }
}

impl Room {
    /// Sends some parts, as many as can be sent at once.
    fn send(
        &mut self,
        peer: &Peer,
        lane: &Lane<'_>,
        (cut, packet, parts): (&Cut, &[u8], std::ops::Range<usize>),
    ) {
        let Some(mut entered) = peer.tunnel.enter() else {
            return lane.counters.dropped_no_peer.add(parts.len());
        };
        let sending = Sending::new((lane.socket, lane.counters), peer.endpoint, SEALED);
        let open = entered.is_open();
        let mut used = 0;
        for index in parts {
            let (header, payload) = cut.place(index);
            let whole = if header.is_empty() {
                &packet[payload]
            } else {
                self.part.clear();
                self.part.extend_from_slice(&self.headers[header]);
                self.part.extend_from_slice(&packet[payload]);
                &self.part
            };
            if open {
                used += entered.seal(whole, &mut self.sealed[used..]).unwrap_or(0);
            } else if entered.wait(whole.to_vec()) {
                lane.counters.dropped_no_session.add(1);
            }
        }
        if open {
            drop(entered);
            let parts: Vec<_> = self.sealed[..used].chunks(cut.part() + SEALED).map(IoSlice::new).collect();
            sending.packets(&parts, 1);
        } else {
            ask(&mut entered, &sending);
        }
    }
}

/// Asks for a session, unless that was done just now.
pub(super) fn ask(entered: &mut Entered<'_>, sending: &Sending<'_>) {
    let mut room = [0; MESSAGE];
    if let Some(message) = entered.ask(&mut room) {
        sending.message(message);
        sending.counters().handshakes_begun.add(1);
    }
}

/// Sends what waited for a session, if there is one now.
pub(super) fn flush(entered: &mut Entered<'_>, sending: &Sending<'_>) {
    while let Some(packet) = entered.next_waiting() {
        let mut room = vec![0; packet.len() + SEALED + MESSAGE];
        if let Some(length) = entered.seal(&packet, &mut room) {
            sending.packets(&[IoSlice::new(&room[..length])], 1);
        }
    }
}
