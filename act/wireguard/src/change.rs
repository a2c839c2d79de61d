//! The least change that makes a device hold what it is to.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipnet::IpNet;
use selvedge_model::{PublicKey, Wireguard};

use crate::device::{Device, Peer};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// It gets our own key, and forgets every session.
    pub(crate) key: bool,
    pub(crate) port: Option<u16>,
    /// In this order: what is new takes over the nets of what goes.
    pub(crate) peers: Vec<PeerChange>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerChange {
    /// It is made, or stays with its session: what isn't given stays too.
    Set { key: PublicKey, endpoint: Option<SocketAddr>, nets: Option<Vec<IpNet>> },
    /// It goes.
    Remove(PublicKey),
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The changes from what is there to what is wanted.
pub(crate) fn changes(now: &Device, wanted: &Wireguard) -> Changes {
    let mut peers = Vec::new();
    let mut stay = BTreeSet::new();
    let (none, wanted_peers) = (Peer::default(), wanted.peers.iter());
    for peer in wanted_peers {
        stay.insert(peer.key);
        let there = now.peers.get(&peer.key);
        let before = there.unwrap_or(&none);
        let endpoint = Some(SocketAddr::new(peer.endpoint, wanted.port));
        let nets: BTreeSet<IpNet> = peer.nets.iter().copied().collect();
        let endpoint = endpoint.filter(|_| before.endpoint != endpoint);
        let nets = (before.nets != nets).then(|| nets.into_iter().collect());
        if there.is_none() || endpoint.is_some() || nets.is_some() {
            peers.push(PeerChange::Set { key: peer.key, endpoint, nets });
        }
    }
    let gone = now.peers.keys().filter(|key| !stay.contains(key));
    peers.extend(gone.copied().map(PeerChange::Remove));
    let port = (now.port != wanted.port).then_some(wanted.port);
    Changes { key: now.key != Some(wanted.key), port, peers }
}

/// The device as the kernel would have it after a change: a net has one peer, the last that was given it.
#[cfg(test)]
pub(crate) fn after(mut device: Device, changes: &Changes, key: PublicKey) -> Device {
    device.key = if changes.key { Some(key) } else { device.key };
    device.port = changes.port.unwrap_or(device.port);
    let peers = &mut device.peers;
    for change in &changes.peers {
        match change {
            PeerChange::Remove(key) => drop(peers.remove(key)),
            PeerChange::Set { key, endpoint, nets } => {
                for other in peers.values_mut() {
                    other.nets.retain(|net| !nets.iter().flatten().any(|given| given == net));
                }
                let peer = peers.entry(*key).or_default();
                peer.endpoint = endpoint.or(peer.endpoint);
                peer.nets =
                    nets.as_ref().map_or_else(|| peer.nets.clone(), |nets| nets.iter().copied().collect());
            }
        }
    }
    device
}

#[cfg(test)]
mod tests;
