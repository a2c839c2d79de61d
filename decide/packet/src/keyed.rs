//! Which node a packet is encrypted for, and what each node may send, where nodes are told by their keys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::{PublicKey, Wireguard, WireguardPeer};

use crate::ends::Ends;
use crate::nets::Nets;
use crate::peers::Unwelcome;

/// The nodes of a WireGuard device, made once and looked up for every packet. They are numbered as they were told.
#[derive(Debug, Default)]
pub struct KeyedPeers {
    nets: Nets,
    keys: BTreeMap<PublicKey, usize>,
    endpoints: BTreeMap<IpAddr, usize>,
}

/// Keys or nets that were given twice: nothing of it is in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyContradiction {
    /// One net is behind two nodes.
    #[error("peers: {net} is behind both {one} and {other}")]
    Net {
        /// The net.
        net: IpNet,
        /// One node's key.
        one: PublicKey,
        /// The other's.
        other: PublicKey,
    },
    /// A key is there twice.
    #[error("peers: {0} is there twice")]
    Twice(PublicKey),
    /// A peer has our own key.
    #[error("peers: {0} is this node's own key")]
    Own(PublicKey),
}

/// What a peer was before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// The same, with that number: its sessions go on.
    Same(usize),
    /// With that number it had another key, or we had: there are sessions to be made anew.
    Other(usize),
    /// Nothing.
    Unknown,
}

impl KeyedPeers {
    /// The nodes that a device is told of.
    ///
    /// # Errors
    /// [`KeyContradiction`] if it can't all be true.
    pub fn of(told: &Wireguard) -> Result<Self, KeyContradiction> {
        let mut peers = Self::default();
        for (number, peer) in told.peers.iter().enumerate() {
            if peer.key == told.key {
                return Err(KeyContradiction::Own(peer.key));
            }
            if peers.keys.insert(peer.key, number).is_some() {
                return Err(KeyContradiction::Twice(peer.key));
            }
            peers.endpoints.entry(peer.endpoint).or_insert(number);
            for net in &peer.nets {
                if let Some(before) = peers.nets.insert(*net, number) {
                    let one = told.peers[before].key;
                    return Err(KeyContradiction::Net { net: *net, one, other: peer.key });
                }
            }
        }
        Ok(peers)
    }

    /// The node that an address is behind.
    pub fn behind(&self, address: IpAddr) -> Option<usize> {
        self.nets.number(address)
    }

    /// The node with that key.
    pub fn with_key(&self, key: &PublicKey) -> Option<usize> {
        self.keys.get(key).copied()
    }

    /// The node with that address on the underlay; the first of them if there are two.
    pub fn at(&self, endpoint: IpAddr) -> Option<usize> {
        self.endpoints.get(&endpoint).copied()
    }

    /// Whether a packet may have come from that node.
    ///
    /// # Errors
    /// [`Unwelcome::Source`] if not.
    pub fn admit(&self, number: usize, ends: &Ends) -> Result<(), Unwelcome> {
        if self.behind(ends.source) == Some(number) { Ok(()) } else { Err(Unwelcome::Source) }
    }
}

/// What each peer was before: by its key, or where that is new, by where it is or what is behind it. Who is still there
/// with its key was nobody else.
pub fn before(told: &Wireguard, (was, peers): (&Wireguard, &KeyedPeers)) -> Vec<Before> {
    let stays: BTreeSet<_> = told.peers.iter().map(|peer| peer.key).collect();
    let gone = |number: &usize| was.peers.get(*number).is_some_and(|peer| !stays.contains(&peer.key));
    let one = |peer: &WireguardPeer| {
        if let Some(number) = peers.with_key(&peer.key) {
            return if was.key == told.key { Before::Same(number) } else { Before::Other(number) };
        }
        let mut behind = peer.nets.iter().filter_map(|net| peers.behind(net.network()));
        let other = peers.at(peer.endpoint).filter(gone).or_else(|| behind.find(gone));
        other.map_or(Before::Unknown, Before::Other)
    };
    told.peers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(key: u8, endpoint: &str, nets: &[&str]) -> WireguardPeer {
        let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
        WireguardPeer { key: PublicKey([key; 32]), endpoint: endpoint.parse().unwrap(), nets }
    }

    fn told(own: u8, peers: Vec<WireguardPeer>) -> Wireguard {
        Wireguard { key: PublicKey([own; 32]), port: 51820, peers }
    }

    #[test]
    fn the_longest_prefix_says_whose_key_and_who_may_send() {
        let near = peer(2, "10.0.0.2", &["10.244.0.0/16", "fd00:1::/64"]);
        let peers = KeyedPeers::of(&told(1, vec![near, peer(3, "fd09::3", &["10.244.3.0/24"])])).unwrap();
        assert_eq!(peers.behind("10.244.1.1".parse().unwrap()), Some(0));
        assert_eq!(peers.behind("10.244.3.1".parse().unwrap()), Some(1));
        assert_eq!(peers.behind("fd00:1::9".parse().unwrap()), Some(0));
        assert_eq!(peers.behind("10.245.0.1".parse().unwrap()), None);
        assert_eq!(peers.with_key(&PublicKey([3; 32])), Some(1));
        assert_eq!(peers.with_key(&PublicKey([1; 32])), None);
        assert_eq!(peers.at("fd09::3".parse().unwrap()), Some(1));
        let from = |source: &str| {
            let destination = "10.244.9.1".parse().unwrap();
            Ends { source: source.parse().unwrap(), destination }
        };
        assert_eq!(peers.admit(0, &from("10.244.2.1")), Ok(()));
        assert_eq!(peers.admit(0, &from("10.244.3.1")), Err(Unwelcome::Source), "a longer prefix");
        assert_eq!(peers.admit(1, &from("10.244.3.1")), Ok(()));
        assert_eq!(peers.admit(1, &from("192.0.2.1")), Err(Unwelcome::Source));
    }

    #[test]
    fn what_can_not_all_be_true_is_refused() {
        let refused = |peers| KeyedPeers::of(&told(1, peers)).unwrap_err();
        let (two, three) = (PublicKey([2; 32]), PublicKey([3; 32]));
        let net = "10.244.1.0/24";
        let twice = vec![peer(2, "10.0.0.2", &[net]), peer(3, "10.0.0.3", &[net])];
        let wrong = KeyContradiction::Net { net: net.parse().unwrap(), one: two, other: three };
        assert_eq!(refused(twice), wrong);
        let twice = vec![peer(2, "10.0.0.2", &[]), peer(2, "10.0.0.3", &[])];
        assert_eq!(refused(twice), KeyContradiction::Twice(two));
        assert_eq!(refused(vec![peer(1, "10.0.0.2", &[])]), KeyContradiction::Own(PublicKey([1; 32])));
        assert!(KeyedPeers::of(&told(1, vec![peer(2, "10.0.0.2", &[net, net])])).is_ok());
    }

    #[test]
    fn sessions_go_on_where_both_keys_stay_and_are_made_anew_where_one_changed() {
        let was =
            told(1, vec![peer(2, "10.0.0.2", &["10.244.2.0/24"]), peer(3, "10.0.0.3", &["10.244.3.0/24"])]);
        let peers = KeyedPeers::of(&was).unwrap();
        let now = |own, told_peers| before(&told(own, told_peers), (&was, &peers));
        // Others stand before it now, and it is elsewhere with something else behind it.
        let moved = || vec![peer(9, "10.0.0.9", &[]), peer(3, "10.0.0.8", &["10.244.8.0/24"])];
        assert_eq!(now(1, moved()), [Before::Unknown, Before::Same(1)]);
        assert_eq!(now(7, moved()), [Before::Unknown, Before::Other(1)], "our own key changed");
        let rotated = vec![peer(8, "10.0.0.3", &["10.244.3.0/24"])];
        assert_eq!(now(1, rotated), [Before::Other(1)], "its key changed");
        let replaced = vec![peer(8, "10.0.0.8", &["10.244.2.0/24"])];
        assert_eq!(now(1, replaced), [Before::Other(0)], "another node has the net");
        let moved_in = vec![peer(2, "10.0.0.9", &["10.244.2.0/24"]), peer(8, "10.0.0.2", &["10.244.8.0/24"])];
        assert_eq!(
            now(1, moved_in.clone()),
            [Before::Same(0), Before::Unknown],
            "only its address is another's"
        );
        assert_eq!(now(7, moved_in), [Before::Other(0), Before::Unknown]);
    }
}
