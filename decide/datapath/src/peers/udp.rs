//! Peers that are reached in plain UDP, through the forwarder's device.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::mark;
use selvedge_model::transport::{Choice, Transport};
use selvedge_model::{Forwarding, ForwardingPeer, IfName};

use super::end::End;
use super::everyone::Everyone;
use super::{Here, covered};
use crate::node::Problem;
use crate::state::LinkKind;

/// An IP and a UDP header.
pub(super) const OVERHEAD: u32 = 28;

/// Our end of the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Udp(pub(super) End);

impl Udp {
    pub(super) fn of(here: Here<'_>) -> Result<Self, Problem> {
        let unmade = (!here.local.udp.there).then_some(Problem::NoForwarder);
        End::made(here, (device(), &[LinkKind::Tun]), unmade).map(Self)
    }

    /// True if the forwarder was needed once: who took another way, or was told to, sooner than a peer does hears of
    /// that peer still.
    pub(super) fn stays(&self, here: Here<'_>) -> bool {
        self.0.is_there(here)
    }

    /// What the forwarder is told: every node that there is a way to, whatever we send it by, for it may send so. A net
    /// that two nodes claim is the first one's.
    pub(super) fn forwarding(&self, everyone: &Everyone, here: Here<'_>) -> Forwarding {
        let mut nets: BTreeMap<IpNet, IpAddr> = BTreeMap::new();
        for peer in everyone.nodes.values().filter(|peer| peer.name != here.local.name) {
            let Ok(endpoint) = self.0.remote(peer) else { continue };
            for pod_cidr in peer.pod_cidrs.iter().filter(|net| covered(everyone, peer, **net).is_ok()) {
                nets.entry(pod_cidr.trunc()).or_insert(endpoint);
            }
        }
        let mut peers: BTreeMap<IpAddr, Vec<IpNet>> = BTreeMap::new();
        for (net, endpoint) in nets {
            peers.entry(endpoint).or_default().push(net);
        }
        let peers = peers.into_iter().map(|(endpoint, nets)| ForwardingPeer { endpoint, nets });
        Forwarding { port: here.local.udp.port, local: self.0.local, peers: peers.collect() }
    }
}

/// Whether anybody may send us anything by it: a peer that wishes for it sends so even before we know of its wish.
pub(super) fn is_wished_for(everyone: &Everyone, here: Here<'_>) -> bool {
    let udp = Choice::Of(Transport::Udp);
    here.local.transport == udp || everyone.wishes_for(udp)
}

pub(super) fn device() -> IfName {
    mark::UDP_DEVICE.parse().expect("is a valid name")
}

#[cfg(test)]
mod tests;
