//! From the nodes to the device, decrypted.

use std::net::{IpAddr, SocketAddr};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};
use selvedge_model::PublicKey;
use selvedge_packet::{Ends, Joiner, Message, SEALED};

use super::outward::{ask, flush};
use super::tunnel::{Entered, MESSAGE, Opened};
use super::{Peer, Sessions};
use crate::codec::Lane;
use crate::inward::{BUFFER, deliver};
use crate::kernel::Batch;
use crate::sending::Sending;

/// What a thread works with.
pub(crate) struct Room {
    joiner: Joiner,
    /// Packets, decrypted, one after the other.
    plain: Vec<u8>,
}

impl Default for Room {
    fn default() -> Self {
        Self { joiner: Joiner::default(), plain: vec![0; BUFFER] }
    }
}

/// Packets that came in one session, one after the other.
struct Run<'a> {
    number: usize,
    peer: &'a Peer,
    entered: Entered<'a>,
}

impl Sessions {
    /// Gives the device what was in a batch, and answers to what was no packet.
    pub(super) fn take(&self, room: &mut Room, lane: &Lane<'_>, (buffer, batch): (&mut [u8], Batch)) {
        room.joiner.clear();
        let mut used = 0;
        let mut datagrams = buffer.chunks(batch.segment).peekable();
        while let Some(datagram) = datagrams.next() {
            match Message::of(datagram) {
                Some(message @ Message::Data { receiver }) => {
                    let Some(mut run) = self.run(receiver) else {
                        self.unknown(batch.from.ip(), lane);
                        continue;
                    };
                    used += self.open(room, lane, (&mut run, datagram, used));
                    while let Some(next) = datagrams.next_if(|next| Message::of(next) == Some(message)) {
                        used += self.open(room, lane, (&mut run, next, used));
                    }
                    let sending = lane.sending(run.peer.endpoint);
                    flush(&mut run.entered, &sending);
                }
                Some(_) => self.handshake(lane, batch.from, datagram),
                None => lane.counters.dropped_malformed.add(1),
            }
        }
        deliver(&room.joiner, &mut room.plain, lane);
    }

    fn run(&self, receiver: u32) -> Option<Run<'_>> {
        let number = *self.tunnels.get(&(receiver >> 8))?;
        let peer = self.peers.get(number)?;
        Some(Run { number, peer, entered: peer.tunnel.enter()? })
    }

    /// Opens a packet; how much of the room it takes.
    fn open(
        &self,
        room: &mut Room,
        lane: &Lane<'_>,
        (run, datagram, used): (&mut Run<'_>, &[u8], usize),
    ) -> usize {
        let counters = lane.counters;
        match run.entered.open(datagram, &mut room.plain[used..]) {
            Opened::Packet(length) => {
                let place = used..used + length;
                let Some(ends) = Ends::of(&room.plain[place.clone()]) else {
                    counters.dropped_malformed.add(1);
                    return 0;
                };
                if self.nodes.admit(run.number, &ends).is_err() {
                    counters.dropped_source.add(1);
                    return 0;
                }
                room.joiner.push(&room.plain, place);
                return length;
            }
            Opened::Malformed => counters.dropped_malformed.add(1),
            Opened::Sealed => counters.dropped_sealed.add(1),
            Opened::Unknown => {
                counters.dropped_sealed.add(1);
                if !run.entered.is_open() {
                    ask(&mut run.entered, &lane.sending(run.peer.endpoint));
                }
            }
            Opened::Answer(_) | Opened::Nothing => {}
        }
        0
    }

    /// A packet came in a session that we know nothing of. A node that sends so has not heard that we were started anew:
    /// it is asked for another, or else would go on for a quarter of a minute.
    fn unknown(&self, from: IpAddr, lane: &Lane<'_>) {
        let Some(peer) = self.nodes.at(from).and_then(|number| self.peers.get(number)) else {
            return lane.counters.dropped_stranger.add(1);
        };
        lane.counters.dropped_sealed.add(1);
        if let Some(mut entered) = peer.tunnel.enter()
            && !entered.is_open()
        {
            ask(&mut entered, &lane.sending(peer.endpoint));
        }
    }

    /// Answers to a message about a session.
    fn handshake(&self, lane: &Lane<'_>, from: SocketAddr, datagram: &[u8]) {
        let counters = lane.counters;
        let mut room = [0; MESSAGE];
        let number = match self.own.limiter.verify_packet(Some(from.ip()), datagram, &mut room) {
            Ok(packet) => self.who(&packet),
            Err(TunnResult::WriteToNetwork(cookie)) => return lane.sending(from).message(cookie),
            Err(_not_for_our_key) => None,
        };
        let Some(peer) = number.and_then(|number| self.peers.get(number)) else {
            return counters.dropped_stranger.add(1);
        };
        let Some(mut entered) = peer.tunnel.enter() else { return counters.dropped_stranger.add(1) };
        let to = if from.ip() == peer.endpoint.ip() { from } else { peer.endpoint };
        match entered.open(datagram, &mut room) {
            Opened::Answer(answer) => {
                lane.sending(to).message(answer);
                let asked = Message::of(datagram) == Some(Message::Initiation);
                let counter = if asked { &counters.handshakes_answered } else { &counters.handshakes_done };
                counter.add(1);
            }
            Opened::Malformed | Opened::Sealed | Opened::Unknown => counters.dropped_sealed.add(1),
            Opened::Packet(_) | Opened::Nothing => {}
        }
        flush(&mut entered, &lane.sending(peer.endpoint));
    }

    /// The number of the node that a message about a session is from. Who asks for one and is no node may be one soon.
    fn who(&self, packet: &Packet<'_>) -> Option<usize> {
        let receiver = match packet {
            Packet::HandshakeInit(initiation) => {
                let asks = parse_handshake_anon(&self.own.secret, &self.own.public, initiation).ok()?;
                let key = PublicKey(asks.peer_static_public);
                let number = self.nodes.with_key(&key);
                if number.is_none() {
                    self.own.knocks(key);
                }
                return number;
            }
            Packet::HandshakeResponse(response) => response.receiver_idx,
            Packet::PacketCookieReply(cookie) => cookie.receiver_idx,
            Packet::PacketData(data) => data.receiver_idx,
        };
        self.tunnels.get(&(receiver >> 8)).copied()
    }

    /// The node that a packet is for.
    pub(super) fn behind(&self, packet: &[u8]) -> Option<usize> {
        self.nodes.behind(Ends::of(packet)?.destination)
    }
}

impl<'a> Lane<'a> {
    /// To a node, encrypted.
    fn sending(&self, to: SocketAddr) -> Sending<'a> {
        Sending::new((self.socket, self.counters), to, SEALED)
    }
}
