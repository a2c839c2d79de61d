//! The udp transport: an IP packet is the payload of a UDP packet as it is.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use selvedge_model::Forwarding;
use selvedge_packet::{Cut, Ends, Joiner, Peers, Unwelcome};

use crate::codec::{Codec, Lane, Parcel};
use crate::counters::Counters;
use crate::error::ForwardError;
use crate::inward::deliver;
use crate::kernel::Batch;
use crate::sending::{Sending, at_once};
use crate::socket::{Listen, Socket};

/// Who the nodes are.
#[derive(Debug)]
pub(crate) struct Udp {
    port: u16,
    peers: Peers,
}

impl Codec for Udp {
    type Task = Forwarding;
    /// Room for the headers of parts.
    type Outward = Vec<u8>;
    type Inward = Joiner;
    const FROM_START: bool = true;
    const TICK: Option<Duration> = None;

    fn of(
        told: &Forwarding,
        _before: Option<(&Forwarding, &Self)>,
        _run_dir: &Path,
    ) -> Result<Self, ForwardError> {
        Ok(Self { port: told.port, peers: Peers::of(told)? })
    }

    fn listen(told: &Forwarding) -> Listen {
        Listen::At(SocketAddr::new(told.local, told.port))
    }

    fn begin(&self, _before: Option<&Self>, _counters: &Counters) {}

    fn outward(&self, headers: &mut Vec<u8>, lane: &Lane<'_>, parcel: Parcel<'_>) {
        let Parcel { packet, offload, ends } = parcel;
        let Some(endpoint) = self.peers.endpoint(ends.destination) else {
            return lane.counters.dropped_no_peer.add(1);
        };
        let Ok(cut) = Cut::of(packet, &offload, headers) else {
            return lane.counters.dropped_malformed.add(1);
        };
        let to = SocketAddr::new(endpoint, self.port);
        let sending = Sending::new((lane.socket, lane.counters), to, 0);
        let at_once = at_once(cut.part());
        for start in (0..cut.count()).step_by(at_once) {
            let end = (start + at_once).min(cut.count());
            let mut parts = Vec::with_capacity(2 * (end - start));
            for index in start..end {
                let (header, payload) = cut.place(index);
                parts.push(IoSlice::new(&headers[header]));
                parts.push(IoSlice::new(&packet[payload]));
            }
            sending.packets(&parts, 2);
        }
    }

    fn inward(&self, joiner: &mut Joiner, lane: &Lane<'_>, (buffer, batch): (&mut [u8], Batch)) {
        let counters = lane.counters;
        joiner.clear();
        for start in (0..buffer.len()).step_by(batch.segment) {
            let place: Range<usize> = start..(start + batch.segment).min(buffer.len());
            let Some(ends) = Ends::of(&buffer[place.clone()]) else {
                counters.dropped_malformed.add(1);
                continue;
            };
            match self.peers.admit(batch.from.ip(), &ends) {
                Ok(()) => joiner.push(buffer, place),
                Err(Unwelcome::Stranger) => counters.dropped_stranger.add(1),
                Err(Unwelcome::Source) => counters.dropped_source.add(1),
            }
        }
        deliver(joiner, buffer, lane);
    }

    fn tick(&self, _socket: &Socket, _counters: &Counters) {}
}
