//! What a device holds, as the kernel says it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use selvedge_model::{PublicKey, Wireguard, WireguardPeer};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Device {
    /// The link's.
    pub(crate) index: u32,
    /// Our own key, once it has one.
    pub(crate) key: Option<PublicKey>,
    pub(crate) port: u16,
    pub(crate) peers: BTreeMap<PublicKey, Peer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Peer {
    /// Where it was told to be, or was last heard from.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) nets: BTreeSet<IpNet>,
}

/// Stands for where a peer is that isn't where any could be wanted.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Device {
    /// The same in the form in which it is wanted; `None` without a key. A peer that isn't at our own port, which is
    /// every node's, is at 0.0.0.0, where none is wanted.
    pub(crate) fn shown(&self) -> Option<Wireguard> {
        let key = self.key?;
        let at =
            |peer: &Peer| peer.endpoint.filter(|at| at.port() == self.port).map_or(NOWHERE, |at| at.ip());
        let shown = |(key, peer): (&PublicKey, &Peer)| WireguardPeer {
            key: *key,
            endpoint: at(peer),
            nets: peer.nets.iter().copied().collect(),
        };
        Some(Wireguard { key, port: self.port, peers: self.peers.iter().map(shown).collect() })
    }
}
