//! What is wanted of the node, for those who ask.

use std::collections::BTreeSet;
use std::net::IpAddr;

use selvedge_datapath::converge::Desired;
use selvedge_datapath::node::{Attach, DesiredNode};
use selvedge_datapath::peers::Peer;
use selvedge_datapath::reach::Verdict;
use selvedge_model::{IfName, mark};
use selvedge_reconcile::Deferred;
use selvedge_reconcile::status::{Found, PeerStatus, Wanted};

use crate::config::Config;

/// The same in numbers and names. Of peers there may be thousands: their lines are made when they are asked for.
pub(super) fn of(config: &Config, node: &DesiredNode, desired: &Desired) -> Deferred<Wanted> {
    let pods: BTreeSet<IfName> = node.attachments.iter().map(|(name, _)| name.clone()).collect();
    let attachment = |(name, owner): &(IfName, mark::Owner)| {
        let nets: Vec<String> = owner.addresses.iter().map(ToString::to_string).collect();
        format!("{name} {} {}", owner.key, nets.join(","))
    };
    let all_but_peers = Wanted {
        pod_cidrs: texts(&node.pod_cidrs),
        addresses: texts::<IpAddr>(&node.addresses),
        attach: match config.attach {
            Attach::Routed => "routed".to_owned(),
            Attach::Bridge => format!("bridge {}", config.bridge),
        },
        mtu: node.mtu.bytes(),
        routes: Vec::new(),
        peers: Vec::new(),
        attachments: node.attachments.iter().map(attachment).collect(),
        tables: desired.tables.keys().map(ToString::to_string).collect(),
    };
    let (routes, peers) = (desired.network.routes.clone(), node.peers.clone());
    Deferred::until_asked(move || Wanted {
        routes: routes
            .iter()
            .filter(|route| !pods.contains(&route.device))
            .map(ToString::to_string)
            .collect(),
        peers: peers.iter().map(peer_status).collect(),
        ..all_but_peers.clone()
    })
}

fn peer_status(peer: &Peer) -> PeerStatus {
    let (node, transport) = (peer.name.as_str().to_owned(), peer.transport.to_string());
    let measured = match peer.verdict {
        Verdict::Unknown => Found::Unmeasured,
        Verdict::Through { .. } => Found::Ok,
        Verdict::Silent => Found::Silent,
    };
    let instead_of = peer.instead_of.map(|better| better.to_string());
    PeerStatus { node, transport, instead_of, path_mtu: peer.mtu.bytes(), measured }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
