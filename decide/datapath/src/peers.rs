//! How this node reaches the pods of every other node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::mark::{self, ROUTE_PROTOCOL};
use selvedge_model::transport::{Choice, Transport};
use selvedge_model::{Cluster, Forwarding, IfName, Mtu, Node, NodeName, Sorted};

use self::end::{asked_by_device, own_addresses};
use self::everyone::Everyone;
use self::overlay::Overlay;
use self::udp::Udp;
use self::wireguard::Tunnel;
pub use self::wireguard::{Encrypting, device as wireguard_device};
use crate::node::{LocalNode, Problem};
use crate::plan::DesiredNetwork;
use crate::reach::{Findings, Seat, Target, Verdict};
use crate::state::{ObservedLink, ObservedNetwork, Route, RouteProtocol};

mod end;
mod everyone;
mod overlay;
mod udp;
mod ways;
mod wireguard;

pub use self::overlay::sysctls;
pub use self::ways::Known;

/// How a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// By what.
    pub transport: Transport,
    /// What it would be reached by, if that got through.
    pub instead_of: Option<Transport>,
    /// It has published no key, by which it could be reached encrypted.
    pub keyless: bool,
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
    /// What is wanted of WireGuard, where anybody wishes for it.
    pub encryption: Option<Encrypting>,
    /// What nothing goes to but encrypted.
    pub encrypted: BTreeSet<IpNet>,
    /// Those that are reached, by name.
    pub peers: Sorted<Peer>,
    /// The addresses of nodes to which pods go with their own: on the way of the others, networks may check sources.
    pub direct: BTreeSet<IpAddr>,
    /// What is amiss.
    pub problems: Vec<Problem>,
    /// The most that a packet to any of them may measure, but for what was measured.
    pub mtu: Option<Mtu>,
    /// The ways that are worth measuring.
    pub targets: Sorted<Target>,
    /// From where.
    pub seats: BTreeSet<Seat>,
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
    decide_after(&mut Known::default(), cluster, here)
}

/// The same, by what was decided last on account of the same findings as they were then.
pub fn decide_after(known: &mut Known, cluster: &Cluster, here: Here<'_>) -> Peers {
    known.follow(cluster);
    let wireguard = Tunnel::of(here);
    let routed = wireguard::routed(here);
    let everyone = known.everyone().clone();
    let scene = Scene { here, everyone, overlay: Overlay::of(here), udp: Udp::of(here), wireguard, routed };
    let mut peers = known.decide(&scene);
    if here.local.wireguard.strict {
        let others = cluster.nodes().values().filter(|peer| peer.name != here.local.name);
        peers.encrypted = others.flat_map(|peer| peer.pod_cidrs.iter().map(IpNet::trunc)).collect();
    }
    peers.add_devices(scene);
    peers.problems.sort();
    peers.problems.dedup();
    peers
}

/// What the way to every peer depends on.
struct Scene<'a> {
    here: Here<'a>,
    /// What all nodes have.
    everyone: Everyone,
    overlay: Result<Overlay, Problem>,
    udp: Result<Udp, Problem>,
    wireguard: Result<Tunnel, Problem>,
    /// What the kernel routes by WireGuard's device.
    routed: BTreeSet<IpNet>,
}

impl Scene<'_> {
    /// What leads into a peer's pod CIDR by the forwarder's device.
    fn by_udp(&self, peer: &Node, pod_cidr: IpNet) -> Result<DesiredNetwork, Problem> {
        let udp = self.udp.as_ref().map_err(Clone::clone)?;
        let mut way = udp.0.towards(self.here, peer, pod_cidr)?;
        if let (false, Ok(overlay)) = (udp.0.is_there(self.here), &self.overlay)
            && let Ok(now) = overlay.towards(self.here, peer, pod_cidr)
        {
            // Until the device is there, what leads to the peer leads there still.
            way.merge(DesiredNetwork { routes: Sorted::default(), ..now });
        }
        Ok(way)
    }

    /// What leads into a peer's pod CIDR by WireGuard's device, though nothing goes through before the peer is known.
    fn by_wireguard(&self, peer: &Node, pod_cidr: IpNet) -> Result<DesiredNetwork, Problem> {
        self.wireguard.as_ref().map_err(Clone::clone)?.0.towards(self.here, peer, pod_cidr)
    }
}

impl Peers {
    /// What leads to one peer.
    fn towards(peer: &Node, scene: &Scene<'_>) -> Self {
        let mut alone = Self::default();
        alone.reach(peer, scene);
        alone
    }

    /// Adds what leads to a peer.
    fn reach(&mut self, peer: &Node, scene: &Scene<'_>) {
        let Scene { here, everyone, overlay, .. } = scene;
        let ways = here.ways_to(peer, &scene.routed);
        let Some(transport) = here.findings.choose(&peer.name, open(&ways)) else { return };
        if transport == Transport::Wireguard && peer.wireguard.is_none() {
            self.problems.push(Problem::NoKey { node: peer.name.clone() });
        }
        if !transport.is_overlay() {
            self.direct.extend(&peer.addresses);
        }
        let verdict = here.findings.verdict(&peer.name, transport);
        let most = here.mtu_by(transport);
        let mtu = match here.findings.mtu(&peer.name, transport) {
            Some(mtu) if mtu < most.bytes() => Mtu::new(mtu).unwrap_or_else(|_| {
                self.problems.push(Problem::Narrow { node: peer.name.clone(), transport, mtu });
                Mtu::LEAST
            }),
            _ => most,
        };
        let narrower = (mtu < most).then(|| mtu.bytes());
        let mut reached = false;
        for pod_cidr in &peer.pod_cidrs {
            let way = covered(everyone, peer, *pod_cidr).and_then(|()| match transport {
                Transport::Native => Ok(DesiredNetwork::default()),
                Transport::Direct => here.direct_route(peer, *pod_cidr).map(routed),
                Transport::Vxlan => overlay.as_ref().map_err(Clone::clone)?.towards(*here, peer, *pod_cidr),
                Transport::Udp => scene.by_udp(peer, *pod_cidr),
                Transport::Wireguard => scene.by_wireguard(peer, *pod_cidr),
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
            let (name, keyless) = (peer.name.clone(), peer.wireguard.is_none());
            self.peers.insert(Peer { name, transport, instead_of, keyless, mtu, verdict });
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
        let (own, theirs) = (asked_by_device(here.node), asked_by_device(peer));
        if own.is_ipv4() != theirs.is_ipv4() {
            return;
        }
        let by_device = (Some(own), Some(theirs));
        let like = peer.pod_cidrs.iter().find(|net| net.addr().is_ipv4() == own.is_ipv4());
        if let (Ok(overlay), Some(pod_cidr)) = (overlay, like)
            && taken != Transport::Vxlan
            && ways.contains(&Transport::Vxlan)
            && let Ok(known) = overlay.towards(*here, peer, *pod_cidr)
        {
            target(Transport::Vxlan, by_device, Some(overlay.0.device.clone()));
            self.network.merge(DesiredNetwork { routes: Sorted::default(), ..known });
        }
        if let Ok(tunnel) = &scene.wireguard
            && taken != Transport::Wireguard
            && ways.contains(&Transport::Wireguard)
            && peer.wireguard.is_some()
            && tunnel.0.is_there(*here)
        {
            target(Transport::Wireguard, by_device, Some(tunnel.0.device.clone()));
        }
    }

    /// Adds our ends of the overlays, and what they are told.
    fn add_devices(&mut self, scene: Scene<'_>) {
        let Scene { here, everyone, .. } = scene;
        let used = |peers: &Self, transport| peers.peers.iter().any(|peer| peer.transport == transport);
        let mut answering = Vec::new();
        match scene.overlay {
            Ok(overlay) if used(self, Transport::Vxlan) || here.local.vxlan.there => {
                answering.push(overlay.0.device.clone());
                self.network.merge(overlay.device(here));
            }
            _ => (self.network.fdb, self.network.neighbours) = <_>::default(),
        }
        if let Ok(udp) = scene.udp
            && (used(self, Transport::Udp) || udp::is_wished_for(&everyone, here) || udp.stays(here))
        {
            self.forwarding = Some(udp.forwarding(&everyone, here));
            self.network.merge(udp.0.network(here, here.mtu_by(Transport::Udp)));
        }
        if let Ok(tunnel) = scene.wireguard
            && wireguard::is_wanted(&everyone, here)
        {
            answering.extend(tunnel.0.is_there(here).then(|| tunnel.0.device.clone()));
            let (encryption, problems) = tunnel.told(&everyone, here);
            self.encryption = Some(encryption);
            self.problems.extend(problems);
            self.network.merge(tunnel.0.network(here, here.mtu_by(Transport::Wireguard)));
        }
        self.take_seats(here, &answering);
    }

    /// Adds where this node answers those who measure the ways to it, by these devices among others.
    fn take_seats(&mut self, here: Here<'_>, devices: &[IfName]) {
        // Without a device nobody has the addresses to answer from.
        if devices.is_empty() {
            self.targets = Sorted::default();
            return;
        }
        let own = own_addresses(here.node).chain(here.addresses.first().copied());
        self.seats = own.map(|address| Seat { address, device: None }).collect();
        let address = asked_by_device(here.node);
        self.seats.extend(devices.iter().map(|device| Seat { address, device: Some(device.clone()) }));
    }
}

/// Those of several ways that may be taken: all but WireGuard where there are others, for it didn't get through yet.
fn open(ways: &[Transport]) -> &[Transport] {
    match ways {
        [Transport::Wireguard, others @ ..] if !others.is_empty() => others,
        ways => ways,
    }
}

/// A pod CIDR that covers a node's address would take its packets away.
fn covered(everyone: &Everyone, peer: &Node, pod_cidr: IpNet) -> Result<(), Problem> {
    match everyone.address_in(pod_cidr) {
        None => Ok(()),
        Some(address) => Err(Problem::CoversNode { node: peer.name.clone(), pod_cidr, address }),
    }
}

fn routed(route: Route) -> DesiredNetwork {
    DesiredNetwork { routes: [route].into(), ..DesiredNetwork::default() }
}

impl Here<'_> {
    /// What we and the peer may use, the best first: an annotation speaks for its Node, and our configuration for those
    /// without.
    fn ways_to(&self, peer: &Node, routed: &BTreeSet<IpNet>) -> Vec<Transport> {
        let wish = |node: &Node| node.transport.unwrap_or(self.local.transport);
        match wish(self.node).with(wish(peer)) {
            _ if self.local.wireguard.strict => vec![Transport::Wireguard],
            Choice::Of(Transport::Wireguard) if !wireguard::is_taken(*self, peer, routed) => {
                [Transport::Wireguard].into_iter().chain(self.ways_in_the_clear(peer)).collect()
            }
            Choice::Of(transport) => vec![transport],
            Choice::Auto => self.ways_in_the_clear(peer).collect(),
        }
    }

    fn ways_in_the_clear(&self, peer: &Node) -> impl Iterator<Item = Transport> {
        let direct = peer.pod_cidrs.iter().all(|net| self.direct_route(peer, *net).is_ok());
        let ways =
            [(Transport::Direct, direct), (Transport::Vxlan, true), (Transport::Udp, self.local.udp.there)];
        ways.into_iter().filter(|(_, may)| *may).map(|(transport, _)| transport)
    }

    /// What a packet may measure that goes by a transport.
    fn mtu_by(&self, transport: Transport) -> Mtu {
        match transport {
            Transport::Direct | Transport::Native => self.uplink,
            Transport::Vxlan => self.mtu_inside(overlay::OVERHEAD),
            Transport::Udp => self.mtu_inside(udp::OVERHEAD),
            Transport::Wireguard => self.mtu_inside(wireguard::OVERHEAD),
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

    /// What a packet may measure inside others that add so much to it over IPv4, and over IPv6 by as much more as its
    /// header is longer. Where the underlay has less than IPv6 needs inside, the kernel's devices have it fragment; forwarders
    /// don't, and what they lose is measured.
    fn mtu_inside(&self, overhead: u32) -> Mtu {
        let longer = if self.addresses.first().is_some_and(IpAddr::is_ipv6) { 20 } else { 0 };
        Mtu::new(self.uplink.bytes().saturating_sub(overhead + longer)).unwrap_or(Mtu::LEAST)
    }
}

#[cfg(test)]
mod tests;
