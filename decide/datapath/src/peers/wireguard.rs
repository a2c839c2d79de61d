//! Peers that are reached encrypted, through WireGuard's device: the kernel's, or one that a forwarder makes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::mark;
use selvedge_model::transport::{Choice, Transport};
use selvedge_model::{IfName, Node, PublicKey, Wireguard, WireguardPeer};

use super::end::{End, asked_by_device};
use super::everyone::Everyone;
use super::{Here, covered};
use crate::converge::OwnKey;
use crate::node::Problem;
use crate::reach::Verdict;
use crate::state::LinkKind;

/// An IP and a UDP header, WireGuard's own and the tag (32 bytes).
pub(super) const OVERHEAD: u32 = 60;

/// What is wanted of WireGuard on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encrypting {
    /// A key of our own, before anything else.
    Key,
    /// Nothing but what there is: what is in the file of our own key is none.
    AsItIs,
    /// A device that is told all this.
    Device(Wireguard),
}

/// Our end of the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tunnel(pub(super) End);

impl Tunnel {
    pub(super) fn of(here: Here<'_>) -> Result<Self, Problem> {
        let unmade = (!here.local.wireguard.there).then_some(Problem::NoWireguard);
        End::made(here, (device(), &[LinkKind::Wireguard, LinkKind::Tun]), unmade).map(Self)
    }

    /// What the device is told: every node that has published a key, whatever we send it by, for it may send so. A net
    /// or a key that two nodes claim is the first one's; with it come those who claim the key of another.
    pub(super) fn told(&self, everyone: &Everyone, here: Here<'_>) -> (Encrypting, Vec<Problem>) {
        let key = match &here.local.wireguard.key {
            OwnKey::Missing => return (Encrypting::Key, Vec::new()),
            OwnKey::Broken(why) => {
                return (Encrypting::AsItIs, vec![Problem::BrokenKey { why: why.clone() }]);
            }
            OwnKey::There(key) => *key,
        };
        let mut owners = BTreeMap::from([(key, &here.local.name)]);
        let mut same = Vec::new();
        let mut peers: BTreeMap<PublicKey, WireguardPeer> = BTreeMap::new();
        let mut taken: BTreeSet<IpNet> = BTreeSet::new();
        for peer in everyone.nodes.values().filter(|peer| peer.name != here.local.name) {
            let (Some(theirs), Ok(endpoint)) = (peer.wireguard, self.0.remote(peer)) else { continue };
            if let Some(other) = owners.get(&theirs) {
                same.push(Problem::SameKey { node: peer.name.clone(), other: (*other).clone() });
                continue;
            }
            owners.insert(theirs, &peer.name);
            let nets = peer.pod_cidrs.iter().filter(|net| covered(everyone, peer, **net).is_ok());
            let asked = Some(asked_by_device(peer)).filter(IpAddr::is_ipv6).map(IpNet::from);
            let nets = nets.map(IpNet::trunc).chain(asked);
            let nets: BTreeSet<IpNet> = nets.filter(|net| taken.insert(*net)).collect();
            let nets = nets.into_iter().collect();
            peers.insert(theirs, WireguardPeer { key: theirs, endpoint, nets });
        }
        let peers = peers.into_values().collect();
        (Encrypting::Device(Wireguard { key, port: here.local.wireguard.port, peers }), same)
    }
}

/// Whether there is to be a device: where anybody wishes for it, and where there has been one, for whoever still sends
/// by it.
pub(super) fn is_wanted(everyone: &Everyone, here: Here<'_>) -> bool {
    let wireguard = Choice::Of(Transport::Wireguard);
    let ours = here.network.links.get(&device()).is_some_and(|link| mark::is_ours(&link.alias));
    ours || here.local.wireguard.strict || here.local.transport == wireguard || everyone.wishes_for(wireguard)
}

/// True if what goes to a peer goes encrypted, and stays so: nothing that somebody keeps from getting through brings it
/// back to a way in the clear.
pub(super) fn is_taken(here: Here<'_>, peer: &Node, routed: &BTreeSet<IpNet>) -> bool {
    let through =
        || matches!(here.findings.verdict(&peer.name, Transport::Wireguard), Verdict::Through { .. });
    let is_routed = || peer.pod_cidrs.iter().any(|net| routed.contains(net));
    peer.wireguard.is_some() && (is_routed() || through())
}

/// What the kernel routes by the device.
pub(super) fn routed(here: Here<'_>) -> BTreeSet<IpNet> {
    let device = device();
    let by_device = here.network.routes.iter().filter(|route| route.device == device);
    by_device.map(|route| route.destination).collect()
}

/// The name of the device.
pub fn device() -> IfName {
    mark::WIREGUARD_DEVICE.parse().expect("is a valid name")
}

#[cfg(test)]
mod tests;
