//! How this node reaches the pods of every other node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::mark::{self, ROUTE_PROTOCOL};
use selvedge_model::transport::{Choice, Transport};
use selvedge_model::{Cluster, Forwarding, IfName, Mtu, Node, NodeName, Sorted};

use self::end::own_addresses;
use self::overlay::Overlay;
use self::udp::Udp;
use crate::node::{LocalNode, Problem};
use crate::plan::DesiredNetwork;
use crate::reach::{Findings, Target, Verdict};
use crate::state::{ObservedLink, ObservedNetwork, Route, RouteProtocol};

mod end;
mod overlay;
mod udp;

pub use self::overlay::sysctls;

/// How a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// By what.
    pub transport: Transport,
    /// What it would be reached by, if that got through.
    pub instead_of: Option<Transport>,
    /// What a packet to its pods may measure.
    pub mtu: Mtu,
    /// What was measured of that.
    pub verdict: Verdict,
}

/// Everything that other nodes are the reason of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers {
    /// Devices, routes, forwarding entries, neighbours.
    pub network: DesiredNetwork,
    /// What a forwarder is to do, where one is needed.
    pub forwarding: Option<Forwarding>,
    /// Those that are reached, by name.
    pub peers: Vec<Peer>,
    /// The addresses of nodes to which pods go with their own: on the way of the others, networks may check sources.
    pub direct: BTreeSet<IpAddr>,
    /// What is amiss.
    pub problems: Vec<Problem>,
    /// The most that a packet to any of them may measure, but for what was measured.
    pub mtu: Option<Mtu>,
    /// The ways that are worth measuring.
    pub targets: Vec<Target>,
    /// From where, and by which device if not by the way that pods' packets take.
    pub seats: BTreeSet<(IpAddr, Option<IfName>)>,
}

/// What of the node itself the way to others depends on.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// Our Node.
    pub node: &'a Node,
    /// What its owner wants.
    pub local: &'a LocalNode,
    /// Links, addresses and routes.
    pub network: &'a ObservedNetwork,
    /// The node's own addresses, as far as they are on its links.
    pub addresses: &'a [IpAddr],
    /// The MTU towards other nodes.
    pub uplink: Mtu,
    /// What was measured.
    pub findings: &'a Findings,
}

/// Decides how each peer is reached.
pub fn decide(cluster: &Cluster, here: Here<'_>) -> Peers {
    let others = || cluster.nodes().values().filter(|peer| peer.name != here.local.name);
    let nodes: BTreeSet<IpAddr> =
        cluster.nodes().values().flat_map(|n| n.addresses.iter().copied()).collect();
    let mut peers = Peers { direct: here.node.addresses.iter().copied().collect(), ..Peers::default() };
    let scene = Scene { here, nodes, overlay: Overlay::of(here), udp: Udp::of(here) };
    for peer in others() {
        peers.reach(peer, &scene);
    }
    let used = peers.peers.iter().any(|peer| peer.transport == Transport::Vxlan);
    match scene.overlay {
        Ok(overlay) if used || here.local.vxlan.there => {
            peers.seats = own_addresses(here.node).map(|own| (own, None)).collect();
            peers.seats.extend(here.addresses.first().map(|own| (*own, None)));
            let by_device = own_addresses(here.node).filter(IpAddr::is_ipv4);
            peers.seats.extend(by_device.map(|own| (own, Some(overlay.0.device.clone()))));
            peers.network.merge(overlay.device(here));
        }
        // Without the device there is nobody to answer.
        _ => {
            peers.targets.clear();
            (peers.network.fdb, peers.network.neighbours) = <_>::default();
        }
    }
    let by_udp = peers.peers.iter().any(|peer| peer.transport == Transport::Udp);
    if let Ok(udp) = scene.udp
        && (by_udp || udp::is_wished_for(cluster, here) || udp.stays(here))
    {
        peers.forwarding = Some(udp.forwarding(cluster, here, &scene.nodes));
        peers.network.merge(udp.network(here));
    }
    peers.problems.sort();
    peers.problems.dedup();
    peers
}

/// What the way to every peer depends on.
struct Scene<'a> {
    here: Here<'a>,
    /// The addresses of all nodes.
    nodes: BTreeSet<IpAddr>,
    overlay: Result<Overlay, Problem>,
    udp: Result<Udp, Problem>,
}

impl Scene<'_> {
    /// What leads into a peer's pod CIDR by the forwarder's device.
    fn by_udp(&self, peer: &Node, pod_cidr: IpNet) -> Result<DesiredNetwork, Problem> {
        let udp = self.udp.as_ref().map_err(Clone::clone)?;
        let mut way = udp.towards(self.here, peer, pod_cidr)?;
        if let (false, Ok(overlay)) = (udp.is_there(self.here), &self.overlay)
            && let Ok(now) = overlay.towards(self.here, peer, pod_cidr)
        {
            // Until the device is there, what leads to the peer leads there still.
            way.merge(DesiredNetwork { routes: Sorted::default(), ..now });
        }
        Ok(way)
    }
}

impl Peers {
    /// Adds what leads to a peer.
    fn reach(&mut self, peer: &Node, scene: &Scene<'_>) {
        let Scene { here, nodes, overlay, .. } = scene;
        let ways = here.ways_to(peer);
        let Some(transport) = here.findings.choose(&peer.name, &ways) else { return };
        if !transport.is_overlay() {
            self.direct.extend(&peer.addresses);
        }
        let verdict = here.findings.verdict(&peer.name, transport);
        let most = here.mtu_by(transport);
        let mtu = match here.findings.mtu(&peer.name, transport) {
            Some(mtu) if mtu < most.bytes() => Mtu::new(mtu).unwrap_or(Mtu::LEAST),
            _ => most,
        };
        let narrower = (mtu < most).then(|| mtu.bytes());
        let mut reached = false;
        for pod_cidr in &peer.pod_cidrs {
            let way = covered(nodes, peer, *pod_cidr).and_then(|()| match transport {
                Transport::Native => Ok(DesiredNetwork::default()),
                Transport::Direct => here.direct_route(peer, *pod_cidr).map(routed),
                Transport::Vxlan => overlay.as_ref().map_err(Clone::clone)?.towards(*here, peer, *pod_cidr),
                Transport::Udp => scene.by_udp(peer, *pod_cidr),
                Transport::Wireguard => Err(Problem::NoTransport { node: peer.name.clone(), transport }),
            });
            match way {
                Ok(way) => {
                    reached = true;
                    let routes =
                        way.routes.into_iter().map(|route| Route { mtu: narrower, ..route }).collect();
                    self.network.merge(DesiredNetwork { routes, ..way });
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        if reached {
            let instead_of = ways.first().copied().filter(|best| *best != transport);
            self.mtu = self.mtu.max(Some(most));
            self.peers.push(Peer { name: peer.name.clone(), transport, instead_of, mtu, verdict });
            self.measure(peer, (&ways, transport), scene);
        }
    }

    /// Adds the ways to a peer that are worth measuring, with what it takes to answer on those that aren't taken.
    fn measure(&mut self, peer: &Node, (ways, taken): (&[Transport], Transport), scene: &Scene<'_>) {
        let Scene { here, overlay, .. } = scene;
        let mut target = |transport, (from, to): (Option<IpAddr>, Option<IpAddr>), device| {
            let mtu =
                if from == here.addresses.first().copied() { here.uplink } else { here.mtu_by(transport) };
            let target = |(from, to)| Target { node: peer.name.clone(), transport, from, to, device, mtu };
            self.targets.extend(from.zip(to).map(target));
        };
        let overlays = |net: Option<&IpNet>| {
            let like = |own: &IpAddr| net.is_some_and(|net| net.addr().is_ipv4() == own.is_ipv4());
            (own_addresses(here.node).find(like), net.map(IpNet::network))
        };
        target(taken, overlays(peer.pod_cidrs.first()), None);
        if taken != Transport::Udp && ways.contains(&Transport::Udp) {
            // There is no forwarder before one is needed: whether UDP gets through is to be seen without it.
            let own = here.addresses.first().copied();
            target(Transport::Udp, (own, own.and_then(|own| peer.address_like(own))), None);
        }
        let four = peer.pod_cidrs.iter().find(|net| net.addr().is_ipv4());
        if let (Ok(overlay), Some(pod_cidr)) = (overlay, four)
            && taken != Transport::Vxlan
            && ways.contains(&Transport::Vxlan)
            && let Ok(known) = overlay.towards(*here, peer, *pod_cidr)
        {
            target(Transport::Vxlan, overlays(four), Some(overlay.0.device.clone()));
            self.network.merge(DesiredNetwork { routes: Sorted::default(), ..known });
        }
    }
}

/// A pod CIDR that covers a node's address would take its packets away.
fn covered(nodes: &BTreeSet<IpAddr>, peer: &Node, pod_cidr: IpNet) -> Result<(), Problem> {
    match nodes.range(pod_cidr.network()..=pod_cidr.broadcast()).next() {
        None => Ok(()),
        Some(&address) => Err(Problem::CoversNode { node: peer.name.clone(), pod_cidr, address }),
    }
}

fn routed(route: Route) -> DesiredNetwork {
    DesiredNetwork { routes: [route].into(), ..DesiredNetwork::default() }
}

impl Here<'_> {
    /// What we and the peer may use, the best first: an annotation speaks for its Node, and our configuration for those
    /// without.
    fn ways_to(&self, peer: &Node) -> Vec<Transport> {
        let wish = |node: &Node| node.transport.unwrap_or(self.local.transport);
        match wish(self.node).with(wish(peer)) {
            Choice::Of(transport) => vec![transport],
            Choice::Auto => {
                let direct = peer.pod_cidrs.iter().all(|net| self.direct_route(peer, *net).is_ok());
                let ways = [
                    (Transport::Direct, direct),
                    (Transport::Vxlan, true),
                    (Transport::Udp, self.local.udp.there),
                ];
                ways.into_iter().filter(|(_, may)| *may).map(|(transport, _)| transport).collect()
            }
        }
    }

    /// What a packet may measure that goes by a transport.
    fn mtu_by(&self, transport: Transport) -> Mtu {
        match transport {
            Transport::Direct | Transport::Native => self.uplink,
            Transport::Vxlan | Transport::Wireguard => self.overlay_mtu(),
            Transport::Udp => udp::mtu(*self),
        }
    }

    fn direct_route(&self, peer: &Node, pod_cidr: IpNet) -> Result<Route, Problem> {
        let node = || peer.name.clone();
        let address = peer.address_like(pod_cidr.addr());
        let address = address.ok_or_else(|| Problem::NoAddress { node: node(), pod_cidr })?;
        let holds = |link: &ObservedLink| {
            link.up && !mark::is_ours(&link.alias) && link.addresses.iter().any(|a| a.net.contains(&address))
        };
        let on_link = self.network.links.iter().find(|(_, link)| holds(link));
        let (device, _) = on_link.ok_or_else(|| Problem::NotOnLink { node: node(), address, pod_cidr })?;
        Ok(Route {
            destination: pod_cidr,
            via: Some(address),
            device: device.clone(),
            source: self.addresses.iter().copied().find(|a| a.is_ipv4() == address.is_ipv4()),
            mtu: None,
            onlink: false,
            protocol: RouteProtocol(ROUTE_PROTOCOL),
        })
    }

    /// The MTU inside VXLAN. Where the underlay has less than IPv6 needs inside, it fragments.
    fn overlay_mtu(&self) -> Mtu {
        let overhead = if self.addresses.first().is_some_and(IpAddr::is_ipv6) { 70 } else { 50 };
        Mtu::new(self.uplink.bytes().saturating_sub(overhead)).unwrap_or(Mtu::LEAST)
    }
}

#[cfg(test)]
mod tests;
