//! WireGuard: an IP packet is encrypted for the node that its destination is behind.
//!
//! Endpoints are what is told: a node that sends from elsewhere is understood, and answered where it is said to be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use selvedge_model::Wireguard;
use selvedge_packet::{Before, KeyedPeers, before};

use crate::codec::{Codec, Lane, Parcel};
use crate::counters::Counters;
use crate::error::ForwardError;
use crate::kernel::Batch;
use crate::socket::{Listen, Socket};

mod clock;
mod inward;
mod outward;
mod own;
mod tunnel;

use own::Own;
use tunnel::Tunnel;

/// Our key, and the nodes with what is agreed upon with each.
pub(crate) struct Sessions {
    own: Arc<Own>,
    nodes: KeyedPeers,
    /// By their numbers.
    peers: Vec<Peer>,
    /// The numbers of the nodes by those of their tunnels.
    tunnels: BTreeMap<u32, usize>,
}

/// Another node.
struct Peer {
    endpoint: SocketAddr,
    tunnel: Arc<Tunnel>,
    before: Before,
}

impl Codec for Sessions {
    type Task = Wireguard;
    type Outward = outward::Room;
    type Inward = inward::Room;
    const FROM_START: bool = false;
    const TICK: Option<Duration> = Some(Duration::from_millis(250));

    fn of(told: &Wireguard, was: Option<(&Wireguard, &Self)>, run_dir: &Path) -> Result<Self, ForwardError> {
        let nodes = KeyedPeers::of(told)?;
        let own = Own::of(told.key, was.map(|(_, sessions)| &sessions.own), run_dir)?;
        let befores = match was {
            Some((was, sessions)) => before(told, (was, &sessions.nodes)),
            None => vec![Before::Unknown; told.peers.len()],
        };
        let kept = |before| match (before, was) {
            (Before::Same(number), Some((_, sessions))) => sessions.peers.get(number),
            _ => None,
        };
        let mut tunnels = BTreeMap::new();
        for (number, before) in befores.iter().enumerate() {
            if let Some(peer) = kept(*before) {
                tunnels.insert(peer.tunnel.index, number);
            }
        }
        let mut peers = Vec::with_capacity(told.peers.len());
        for ((number, peer), before) in told.peers.iter().enumerate().zip(befores) {
            let tunnel = match kept(before) {
                Some(kept) => Arc::clone(&kept.tunnel),
                None => {
                    let index = own.free_index(&tunnels);
                    tunnels.insert(index, number);
                    Arc::new(Tunnel::new(peer.key, index, &own))
                }
            };
            peers.push(Peer { endpoint: SocketAddr::new(peer.endpoint, told.port), tunnel, before });
        }
        Ok(Self { own, nodes, peers, tunnels })
    }

    fn listen(told: &Wireguard) -> Listen {
        Listen::Everywhere(told.port)
    }

    /// Ends the sessions of those that are gone. Whoever has another key now is asked for a session at once, if there was
    /// one before or packets wait; so is who asked for one when we did not know the key.
    fn begin(&self, was: Option<&Self>, counters: &Counters) {
        for (number, peer) in self.peers.iter().enumerate() {
            let mut wanted = self.own.has_knocked(&peer.tunnel.key);
            if let (Before::Other(before), Some(was)) = (peer.before, was)
                && let Some(before) = was.peers.get(before)
            {
                let left = before.tunnel.close();
                wanted |= left.used;
                let here = |packet: &Vec<u8>| self.behind(packet) == Some(number);
                peer.tunnel.inherit(left.waiting.into_iter().filter(here).collect());
            }
            if wanted {
                peer.tunnel.hurry();
            }
        }
        for gone in was.into_iter().flat_map(|was| &was.peers) {
            let stays = self.tunnels.get(&gone.tunnel.index).and_then(|number| self.peers.get(*number));
            if !stays.is_some_and(|peer| Arc::ptr_eq(&peer.tunnel, &gone.tunnel)) {
                counters.dropped_no_peer.add(gone.tunnel.close().waiting.len());
            }
        }
    }

    fn outward(&self, own: &mut outward::Room, lane: &Lane<'_>, parcel: Parcel<'_>) {
        self.send(own, lane, parcel);
    }

    fn inward(&self, own: &mut inward::Room, lane: &Lane<'_>, came: (&mut [u8], Batch)) {
        self.take(own, lane, came);
    }

    fn tick(&self, socket: &Socket, counters: &Counters) {
        self.do_what_is_due(socket, counters);
    }
}
