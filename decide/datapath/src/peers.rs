//! How this node reaches the pods of every other node.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use selvedge_model::mark::{self, ROUTE_PROTOCOL};
use selvedge_model::transport::{Choice, Transport};
use selvedge_model::{Cluster, IfName, MacAddr, Mtu, Node, NodeName};

use crate::node::{LocalNode, Problem};
use crate::plan::{DesiredLink, DesiredNetwork, DeviceKind, NewDevice};
use crate::state::{
    Address, FdbEntry, Neighbour, ObservedLink, ObservedNetwork, Route, RouteProtocol, Sysctl, Vxlan,
};

/// How a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// By what.
    pub transport: Transport,
    /// What a packet to its pods may measure.
    pub mtu: Mtu,
}

/// Everything that other nodes are the reason of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers {
    /// Devices, routes, forwarding entries, neighbours.
    pub network: DesiredNetwork,
    /// Those that are reached, by name.
    pub peers: Vec<Peer>,
    /// The addresses of nodes to which pods go with their own: on the way of the others, networks may check sources.
    pub direct: BTreeSet<IpAddr>,
    /// What is amiss.
    pub problems: Vec<Problem>,
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
}

/// Decides how each peer is reached.
pub fn decide(cluster: &Cluster, here: Here<'_>) -> Peers {
    let others = || cluster.nodes().values().filter(|peer| peer.name != here.local.name);
    let nodes: BTreeSet<IpAddr> =
        cluster.nodes().values().flat_map(|n| n.addresses.iter().copied()).collect();
    let mut peers = Peers { direct: here.node.addresses.iter().copied().collect(), ..Peers::default() };
    let overlay = Overlay::of(here);
    let mut used = false;
    for peer in others() {
        let transport = here.transport_to(peer);
        if !transport.is_overlay() {
            peers.direct.extend(&peer.addresses);
        }
        used |= transport == Transport::Vxlan;
        let mut reached = false;
        for pod_cidr in &peer.pod_cidrs {
            let way = covered(&nodes, peer, *pod_cidr).and_then(|()| match transport {
                Transport::Native => Ok(DesiredNetwork::default()),
                Transport::Direct => here.direct_route(peer, *pod_cidr).map(routed),
                Transport::Vxlan => overlay.as_ref().map_err(Clone::clone)?.towards(here, peer, *pod_cidr),
                Transport::Udp | Transport::Wireguard => {
                    Err(Problem::NoTransport { node: peer.name.clone(), transport })
                }
            });
            match way {
                Ok(way) => {
                    reached = true;
                    peers.network.merge(way);
                }
                Err(problem) => peers.problems.push(problem),
            }
        }
        if reached {
            let mtu = if transport.is_overlay() { here.overlay_mtu() } else { here.uplink };
            peers.peers.push(Peer { name: peer.name.clone(), transport, mtu });
        }
    }
    match overlay {
        Ok(overlay) if used || here.local.vxlan.there => peers.network.merge(overlay.device(here)),
        _ => {}
    }
    peers.problems.sort();
    peers.problems.dedup();
    peers
}

/// A pod CIDR that covers a node's address would take its packets away.
fn covered(nodes: &BTreeSet<IpAddr>, peer: &Node, pod_cidr: IpNet) -> Result<(), Problem> {
    match nodes.range(pod_cidr.network()..=pod_cidr.broadcast()).next() {
        None => Ok(()),
        Some(&address) => Err(Problem::CoversNode { node: peer.name.clone(), pod_cidr, address }),
    }
}

fn routed(route: Route) -> DesiredNetwork {
    DesiredNetwork { routes: BTreeSet::from([route]), ..DesiredNetwork::default() }
}

impl Here<'_> {
    /// What we and the peer use: an annotation speaks for its Node, and our configuration for those without.
    fn transport_to(&self, peer: &Node) -> Transport {
        let wish = |node: &Node| node.transport.unwrap_or(self.local.transport);
        match wish(self.node).with(wish(peer)) {
            Choice::Of(transport) => transport,
            Choice::Auto if peer.pod_cidrs.iter().all(|net| self.direct_route(peer, *net).is_ok()) => {
                Transport::Direct
            }
            Choice::Auto => Transport::Vxlan,
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

/// Our end of VXLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Overlay {
    device: IfName,
    /// The node's address that it sends from.
    local: IpAddr,
}

impl Overlay {
    fn of(here: Here<'_>) -> Result<Self, Problem> {
        let device = vxlan_device();
        let there = here.network.links.get(&device);
        if there.is_some_and(|link| !mark::is_ours(&link.alias)) {
            return Err(Problem::ForeignOverlay { name: device });
        }
        match here.addresses.first() {
            Some(&local) => Ok(Self { device, local }),
            None => Err(Problem::NoLocalAddress { node: here.local.name.clone() }),
        }
    }

    /// The device, which every peer can send to whatever we send by.
    fn device(self, here: Here<'_>) -> DesiredNetwork {
        let (mac, mtu) = (vtep(&here.node.name), here.overlay_mtu());
        let alias = mark::device_alias(&here.local.network);
        let vxlan = Vxlan {
            vni: here.local.vxlan.vni,
            port: here.local.vxlan.port,
            local: self.local,
            learning: false,
        };
        let link = DesiredLink {
            create: Some(NewDevice { kind: DeviceKind::Vxlan(vxlan), mac, mtu, alias: alias.clone() }),
            mac: Some(mac),
            mtu: Some(mtu),
            alias: Some(alias),
            addresses: own_addresses(here.node).map(|own| Address::global(own.into())).collect(),
            exclusive: true,
            ..DesiredLink::default()
        };
        // Loosely, whatever is set for all: while transports change, what a peer sends comes by another device than
        // what we send it.
        let loosely = sysctls().into_iter().map(|key| (key, "2"));
        DesiredNetwork {
            links: [(self.device, link)].into(),
            sysctls: loosely.collect(),
            ..DesiredNetwork::default()
        }
    }

    /// A route, the neighbour that it goes by, and where that one is.
    fn towards(&self, here: Here<'_>, peer: &Node, pod_cidr: IpNet) -> Result<DesiredNetwork, Problem> {
        let remote = peer
            .address_like(self.local)
            .ok_or_else(|| Problem::NoUnderlay { node: peer.name.clone(), local: self.local })?;
        let mac = vtep(&peer.name);
        let next_hop = next_hop(pod_cidr, mac);
        let device = || self.device.clone();
        let route = Route {
            destination: pod_cidr,
            via: Some(next_hop),
            device: device(),
            source: own_addresses(here.node).find(|own| own.is_ipv4() == next_hop.is_ipv4()),
            mtu: None,
            onlink: next_hop.is_ipv4(),
            protocol: RouteProtocol(ROUTE_PROTOCOL),
        };
        Ok(DesiredNetwork {
            fdb: [FdbEntry { device: device(), mac, remote }].into(),
            neighbours: [Neighbour { device: device(), address: next_hop, mac }].into(),
            ..routed(route)
        })
    }
}

/// The sysctls of overlay devices: whether the kernel compares where a packet comes from with where its answer would go.
pub fn sysctls() -> [Sysctl; 1] {
    [Sysctl::Ipv4Conf(Some(vxlan_device()), "rp_filter")]
}

fn vxlan_device() -> IfName {
    mark::VXLAN_DEVICE.parse().expect("is a valid name")
}

/// The hardware address of a node's VXLAN device, which its name says: nothing has to be published.
fn vtep(node: &NodeName) -> MacAddr {
    MacAddr::of_device(&format!("vtep/{node}"))
}

/// The node's addresses in overlays: the network addresses of its pod CIDRs, which no pod gets. Answers to them come
/// back by the overlay, as those to its own addresses would not.
fn own_addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    node.pod_cidrs.iter().map(IpNet::network)
}

/// What a route into a peer's pod CIDR goes by. IPv4 takes the peer's own address in the overlay and is told that it is
/// on the link. IPv6 would look for a route to that, which may lead elsewhere yet, and takes the link-local address of
/// the peer's device.
fn next_hop(pod_cidr: IpNet, MacAddr([a, b, c, d, e, f]): MacAddr) -> IpAddr {
    match pod_cidr {
        IpNet::V4(net) => net.network().into(),
        IpNet::V6(_) => {
            // The modified EUI-64 format (RFC 4291, appendix A).
            let id = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
            Ipv6Addr::from((0xfe80 << 112) | u128::from(u64::from_be_bytes(id))).into()
        }
    }
}

#[cfg(test)]
mod tests;
