//! What leads to every peer, made anew for those only of which something has changed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::mark;
use selvedge_model::{Cluster, IfName, Mtu, Node, NodeName, Nodes, Sorted};

use super::everyone::Everyone;
use super::overlay::Overlay;
use super::udp::Udp;
use super::wireguard::Tunnel;
use super::{Here, Peer, Peers, Scene};
use crate::node::{LocalNode, Problem};
use crate::plan::DesiredNetwork;
use crate::reach::Target;
use crate::state::{Address, FdbEntry, LinkKind, Neighbour, Route};

/// Of so many nodes at most that have changed each is held against all.
const FEW: usize = 64;

/// What is known of all nodes, and what was decided last, with on what account.
#[derive(Debug, Default)]
pub struct Known {
    everyone: Everyone,
    last: Option<(Account, Ways)>,
}

/// What the ways to peers came from.
#[derive(Debug)]
struct Account {
    fixed: Fixed,
    everyone: Everyone,
    /// What the kernel routes by WireGuard's device.
    routed: BTreeSet<IpNet>,
    /// The state of what was measured.
    findings: u64,
}

/// What the way to every peer depends on.
#[derive(Debug, PartialEq, Eq)]
struct Fixed {
    node: Node,
    local: LocalNode,
    addresses: Vec<IpAddr>,
    uplink: Mtu,
    /// The links that may lead to a segment, with whether they are up.
    links: Vec<(IfName, bool, BTreeSet<Address>)>,
    /// The devices of ours that are there.
    devices: Vec<IfName>,
    overlay: Result<Overlay, Problem>,
    udp: Result<Udp, Problem>,
    wireguard: Result<Tunnel, Problem>,
}

/// What leads to all peers, each item by the peer that it is due to.
#[derive(Debug, Clone, Default)]
struct Ways {
    routes: Sorted<Route>,
    fdb: Sorted<FdbEntry>,
    neighbours: Sorted<Neighbour>,
    peers: Sorted<Peer>,
    direct: Sorted<(NodeName, IpAddr)>,
    problems: Sorted<(NodeName, Problem)>,
    targets: Sorted<Target>,
    /// Two nodes claim the same pod CIDR: what is due to the one can't be told from what is due to the other.
    mixed: bool,
}

impl Known {
    /// Takes the cluster as it is now.
    pub(crate) fn follow(&mut self, cluster: &Cluster) {
        self.everyone.follow(cluster.nodes());
    }

    /// What all nodes have.
    pub(super) fn everyone(&self) -> &Everyone {
        &self.everyone
    }

    /// The addresses of all nodes.
    pub(crate) fn addresses(&self) -> &Sorted<IpAddr> {
        &self.everyone.addresses
    }

    /// The pod CIDRs of all nodes, in order.
    pub(crate) fn pod_cidrs(&self) -> impl Iterator<Item = IpNet> {
        self.everyone.pod_cidrs.iter().map(|(net, _)| *net)
    }

    /// True if every node has an IPv4 address.
    pub(crate) fn have_v4(&self) -> bool {
        self.everyone.have_v4()
    }

    /// What leads to every peer.
    pub(super) fn decide(&mut self, scene: &Scene<'_>) -> Peers {
        let account = Account {
            fixed: Fixed::of(scene),
            everyone: scene.everyone.clone(),
            routed: scene.routed.clone(),
            findings: scene.here.findings.state(),
        };
        let ways = match self.last.take() {
            Some((before, ways)) => match before.changed(&account, &ways, scene) {
                Some(changed) => ways.after(&changed, (&before, &account), scene),
                None => Ways::all(scene),
            },
            None => Ways::all(scene),
        };
        let peers = ways.peers(scene.here);
        self.last = Some((account, ways));
        peers
    }
}

impl Fixed {
    fn of(scene: &Scene<'_>) -> Self {
        let here = scene.here;
        let (ours, others): (Vec<_>, Vec<_>) =
            here.network.links.iter().partition(|(_, link)| mark::is_ours(&link.alias));
        let links = others.into_iter().map(|(name, link)| (name.clone(), link.up, link.addresses.clone()));
        let devices = ours.into_iter().filter(|(_, link)| link.kind != LinkKind::Veth);
        Self {
            node: here.node.clone(),
            local: here.local.clone(),
            addresses: here.addresses.to_vec(),
            uplink: here.uplink,
            links: links.collect(),
            devices: devices.map(|(name, _)| name.clone()).collect(),
            overlay: scene.overlay.clone(),
            udp: scene.udp.clone(),
            wireguard: scene.wireguard.clone(),
        }
    }
}

impl Account {
    /// The nodes of which something has changed; none if that can't be told, or if all may be concerned.
    fn changed<'a>(&'a self, now: &'a Self, ways: &Ways, scene: &Scene<'_>) -> Option<BTreeSet<NodeName>> {
        if ways.mixed || self.fixed != now.fixed {
            return None;
        }
        let mut changed: BTreeSet<NodeName> = scene.here.findings.changed_since(self.findings)?;
        let (before, after) = (&self.everyone, &now.everyone);
        let differing = |these: &'a Nodes, others: &'a Nodes| -> Vec<&'a Node> {
            these.difference(others).map(|(_, node)| node).take(FEW + 1).collect()
        };
        let (gone, come) = (differing(&before.nodes, &after.nodes), differing(&after.nodes, &before.nodes));
        if gone.len() + come.len() > FEW {
            return None;
        }
        // A pod CIDR that covers a node's address is no good, whose ever the two are.
        let covered = |address: &IpAddr| before.is_covered(*address) || after.is_covered(*address);
        let contested = |node: &&Node| {
            let mut claimants = node.pod_cidrs.iter().flat_map(|net| after.who_claims(*net));
            claimants.any(|name| *name != node.name)
        };
        let changes = || gone.iter().chain(&come).copied();
        if changes().flat_map(|node| &node.addresses).any(covered) || come.iter().any(contested) {
            return None;
        }
        changed.extend(changes().map(|node| node.name.clone()));
        let rerouted = self.routed.symmetric_difference(&now.routed);
        changed.extend(rerouted.flat_map(|net| after.who_claims(*net)).cloned());
        Some(changed)
    }
}

impl Ways {
    fn all(scene: &Scene<'_>) -> Self {
        let mut all = Parts::default();
        for node in scene.everyone.nodes.values().filter(|node| node.name != scene.here.local.name) {
            all.add(&node.name, Peers::towards(node, scene));
        }
        let claimed = || scene.everyone.pod_cidrs.iter().map(|(net, _)| net);
        Self {
            routes: all.routes.into_iter().collect(),
            fdb: all.fdb.into_iter().collect(),
            neighbours: all.neighbours.into_iter().collect(),
            peers: all.peers.into_iter().collect(),
            direct: all.direct.into_iter().collect(),
            problems: all.problems.into_iter().collect(),
            targets: all.targets.into_iter().collect(),
            mixed: claimed().zip(claimed().skip(1)).any(|(one, next)| one == next),
        }
    }

    /// The same with what is due to some peers made anew.
    fn after(
        mut self,
        changed: &BTreeSet<NodeName>,
        (before, now): (&Account, &Account),
        scene: &Scene<'_>,
    ) -> Self {
        let others = changed.iter().filter(|name| **name != scene.here.local.name);
        for name in others.clone() {
            if let Some(node) = before.everyone.nodes.get(name) {
                self.forget(node, scene);
            }
        }
        for name in others {
            if let Some(node) = now.everyone.nodes.get(name) {
                let mut parts = Parts::default();
                parts.add(name, Peers::towards(node, scene));
                self.add(parts);
            }
        }
        self
    }

    /// Takes out what is due to a peer. Unless it is mixed with another's, that is told by its name and pod CIDRs.
    fn forget(&mut self, node: &Node, scene: &Scene<'_>) {
        for pod_cidr in &node.pod_cidrs {
            self.routes.remove_like(|route| route.key().cmp(pod_cidr));
            if let Ok(overlay) = &scene.overlay
                && let Ok(DesiredNetwork { fdb, neighbours, .. }) =
                    overlay.towards(scene.here, node, *pod_cidr)
            {
                fdb.iter().for_each(|entry| _ = self.fdb.remove(entry));
                neighbours.iter().for_each(|neighbour| _ = self.neighbours.remove(neighbour));
            }
        }
        self.peers.remove_like(|peer| peer.name.cmp(&node.name));
        self.direct.remove_like(|(name, _)| name.cmp(&node.name));
        self.problems.remove_like(|(name, _)| name.cmp(&node.name));
        self.targets.remove_like(|target| target.node.cmp(&node.name));
    }

    fn add(&mut self, parts: Parts) {
        self.routes.extend(parts.routes);
        self.fdb.extend(parts.fdb);
        self.neighbours.extend(parts.neighbours);
        self.peers.extend(parts.peers);
        self.direct.extend(parts.direct);
        self.problems.extend(parts.problems);
        self.targets.extend(parts.targets);
    }

    /// The same without whom each item is due to.
    fn peers(&self, here: Here<'_>) -> Peers {
        let own = here.node.addresses.iter();
        Peers {
            network: DesiredNetwork {
                routes: self.routes.clone(),
                fdb: self.fdb.clone(),
                neighbours: self.neighbours.clone(),
                ..DesiredNetwork::default()
            },
            peers: self.peers.clone(),
            direct: own.chain(self.direct.iter().map(|(_, address)| address)).copied().collect(),
            problems: self.problems.iter().map(|(_, problem)| problem.clone()).collect(),
            mtu: self.peers.iter().map(|peer| here.mtu_by(peer.transport)).max(),
            targets: self.targets.clone(),
            ..Peers::default()
        }
    }
}

/// What is due to peers, in the order of their names.
#[derive(Debug, Default)]
struct Parts {
    routes: Vec<Route>,
    fdb: Vec<FdbEntry>,
    neighbours: Vec<Neighbour>,
    peers: Vec<Peer>,
    direct: Vec<(NodeName, IpAddr)>,
    problems: Vec<(NodeName, Problem)>,
    targets: Vec<Target>,
}

impl Parts {
    fn add(&mut self, name: &NodeName, part: Peers) {
        self.routes.extend(part.network.routes);
        self.fdb.extend(part.network.fdb);
        self.neighbours.extend(part.network.neighbours);
        self.peers.extend(part.peers);
        self.direct.extend(part.direct.into_iter().map(|address| (name.clone(), address)));
        self.problems.extend(part.problems.into_iter().map(|problem| (name.clone(), problem)));
        self.targets.extend(part.targets);
    }
}

#[cfg(test)]
mod tests;
