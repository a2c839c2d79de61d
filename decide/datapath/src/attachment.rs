//! What one pod's attachment wants of the node's namespace and of the pod's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use selvedge_model::link::VethEnd;
use selvedge_model::mark::{self, ROUTE_PROTOCOL};
use selvedge_model::{
    AttachmentKey, Bandwidth, Gather, IfName, MacAddr, Mtu, NetworkName, Owner, PodTag, RateLimit,
    shaper_name,
};

use crate::plan::{DesiredLink, DesiredNetwork, DeviceKind, NewDevice};
use crate::shaping::TokenBucket;
use crate::state::{
    Address, LinkKind, ObservedLink, ObservedNetwork, Port, Route, RouteProtocol, Scope, Sysctl,
};
use crate::step::{NetStep, VethPair};

/// The IPv4 next hop of every routed pod: each host end carries it and answers for it.
pub const ROUTED_GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The IPv6 next hop of every routed pod.
pub const ROUTED_GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// How pods are attached to their node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A /32 or /128 in the pod, a host route to it on the node, no bridge.
    Routed,
    /// A port of a bridge that carries the subnet's gateway address.
    Bridge(IfName),
}

/// One address of a pod, as it was leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodAddress {
    /// The address with its subnet's prefix length.
    pub net: IpNet,
    /// The gateway of its subnet, used where the pod is bridged.
    pub gateway: Option<IpAddr>,
}

/// A route that the configuration wants inside the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodRoute {
    /// The destination.
    pub destination: IpNet,
    /// The next hop, where it isn't the pod's gateway. Routed pods have one next hop and no other.
    pub via: Option<IpAddr>,
}

/// A pod's attachment to a network, complete: everything in the kernel follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network.
    pub network: NetworkName,
    /// The container and the interface in it.
    pub key: AttachmentKey,
    /// Which Pod it is, where an agent has to know.
    pub pod: Option<PodTag>,
    /// The host end's name.
    pub host: IfName,
    /// How it is attached.
    pub mode: Mode,
    /// The pod's addresses; at least one.
    pub addresses: Vec<PodAddress>,
    /// The pod's end's hardware address.
    pub mac: MacAddr,
    /// The MTU of both ends.
    pub mtu: Mtu,
    /// The routes inside the pod; none means a default route per family.
    pub routes: Vec<PodRoute>,
    /// The addresses that the node itself uses towards its routed pods.
    pub node_addresses: Vec<IpAddr>,
    /// Whether br_netfilter is in force on the node ([`bridge_netfilter`]).
    pub bridge_netfilter: bool,
    /// How much it may receive and send.
    pub bandwidth: Bandwidth,
    /// Set where the container has routes by another interface that this one must not take ([`Attachment::is_beside`]).
    pub further: Option<Further>,
}

impl Attachment {
    /// The pod's addresses with the prefix length that they have inside the pod.
    pub fn pod_nets(&self) -> Vec<IpNet> {
        let as_attached = |a: &PodAddress| match self.mode {
            Mode::Routed => IpNet::from(a.net.addr()),
            Mode::Bridge(_) => a.net,
        };
        self.addresses.iter().map(as_attached).collect()
    }

    /// The owner record for the host end's ifalias.
    pub fn owner(&self) -> Owner {
        Owner::new(self.network.clone(), &self.key, self.pod_nets()).of_pod(self.pod.clone())
    }

    /// The next hop for one of the pod's addresses.
    pub fn gateway(&self, address: &PodAddress) -> Option<IpAddr> {
        match (&self.mode, address.net) {
            (Mode::Routed, IpNet::V4(_)) => Some(ROUTED_GATEWAY4.into()),
            (Mode::Routed, IpNet::V6(_)) => Some(ROUTED_GATEWAY6.into()),
            (Mode::Bridge(_), _) => address.gateway,
        }
    }

    /// The host end's hardware address.
    pub fn host_mac(&self) -> MacAddr {
        let first = self.addresses.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.net.addr());
        MacAddr::of_pod(first, VethEnd::Host)
    }

    /// The pair that the plugin makes.
    pub fn veth(&self) -> VethPair {
        VethPair {
            host: self.host.clone(),
            host_mac: self.host_mac(),
            alias: self.owner().to_string(),
            master: match &self.mode {
                Mode::Routed => None,
                Mode::Bridge(bridge) => Some(bridge.clone()),
            },
            pod: self.key.ifname.clone(),
            pod_mac: self.mac,
            mtu: self.mtu,
        }
    }

    /// What is wanted in the node's namespace for this pod alone.
    pub fn host(&self) -> DesiredNetwork {
        let on = NodeSide { addresses: &self.node_addresses, bridge_netfilter: self.bridge_netfilter };
        let mut host = host_end(&self.host, &self.owner(), &self.mode, on);
        if let Some(end) = host.links.get_mut(&self.host) {
            end.bucket = self.bandwidth.ingress.map(|limit| TokenBucket::of(&limit, self.mtu));
            end.redirect = self.bandwidth.egress.map(|_| shaper_name(&self.host));
        }
        let shaper = self.bandwidth.egress.map(|limit| (shaper_name(&self.host), self.shaper(&limit)));
        host.links.extend(shaper);
        host
    }

    /// The device that what the pod sends goes through.
    fn shaper(&self, limit: &RateLimit) -> DesiredLink {
        let alias = self.owner().to_string();
        let (kind, mac, mtu) = (DeviceKind::Ifb, MacAddr::of_device(&alias), self.mtu);
        DesiredLink {
            alias: Some(alias.clone()),
            create: Some(NewDevice { kind, mac, mtu, alias }),
            bucket: Some(TokenBucket::of(limit, mtu)),
            ..DesiredLink::default()
        }
    }

    /// What is wanted in the pod's namespace: `lo` up, the interface with its addresses, and the routes.
    pub fn pod(&self) -> DesiredNetwork {
        let nets = self.pod_nets();
        let address = |net: IpNet| Address {
            noprefixroute: matches!(self.mode, Mode::Bridge(_)),
            ..Address::global(net)
        };
        let link = DesiredLink {
            mac: Some(self.mac),
            mtu: Some(self.mtu),
            addresses: nets.into_iter().map(address).gather(),
            ..DesiredLink::default()
        };
        let mut pod = DesiredNetwork::default();
        match &self.further {
            None => pod.routes = self.pod_routes().into_values().gather(),
            Some(further) => pod.tables = further.tables(self),
        }
        pod.links.insert(self.key.ifname.clone(), link);
        pod.links.insert(loopback(), DesiredLink::default());
        pod
    }

    /// The routes that ADD reports, with the next hop of each.
    pub fn result_routes(&self) -> Vec<PodRoute> {
        let default = |a: &PodAddress| {
            let destination = match a.net {
                IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
                IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
            };
            self.gateway(a).map(|via| PodRoute { destination, via: Some(via) })
        };
        if !self.routes.is_empty() {
            let with_gateway = |route: &PodRoute| {
                let like = |a: &&PodAddress| a.net.addr().is_ipv4() == route.destination.addr().is_ipv4();
                let gateway = || self.addresses.iter().find(like).and_then(|a| self.gateway(a));
                // Nobody else answers on a routed pod's link, whatever gateway the bridged network's IPAM names.
                let via = route.via.filter(|_| self.mode != Mode::Routed).or_else(gateway);
                PodRoute { destination: route.destination, via }
            };
            return self.routes.iter().map(with_gateway).collect();
        }
        let mut routes: Vec<PodRoute> = Vec::new();
        for route in self.addresses.iter().filter_map(default) {
            if !routes.iter().any(|have| have.destination == route.destination) {
                routes.push(route);
            }
        }
        routes
    }

    fn pod_route(&self, destination: IpNet, via: Option<IpAddr>) -> Route {
        let device = self.key.ifname.clone();
        let protocol = RouteProtocol(ROUTE_PROTOCOL);
        Route { destination, via, device, source: None, mtu: None, onlink: false, protocol }
    }

    /// The routes inside the pod, one to each destination.
    fn pod_routes(&self) -> BTreeMap<IpNet, Route> {
        let route = |destination: IpNet, via| (destination, self.pod_route(destination, via));
        let wanted = self.result_routes();
        // The next hop is on no prefix of the pod's, so it needs a route of its own; fe80::/64 has one.
        let hops = wanted.iter().filter_map(|wanted| wanted.via);
        let hops = hops.filter(|via| *via != IpAddr::V6(ROUTED_GATEWAY6));
        let mut routes: BTreeMap<_, _> = hops.map(|via| route(IpNet::from(via), None)).gather();
        for PodRoute { destination, via } in wanted {
            let (destination, route) = route(destination.trunc(), via);
            routes.entry(destination).or_insert(route);
        }
        routes
    }

    /// Whether the attachment is one beside others in a container in which routes lead to these destinations: there is
    /// a default route, or one that it would make in the main table itself.
    pub fn is_beside(&self, destinations: &[IpNet]) -> bool {
        let ours = self.pod_routes();
        destinations.iter().any(|there| there.prefix_len() == 0 || ours.contains_key(there))
    }

    /// The node's namespace as it is once the pair has been made, as far as this pod is concerned; nothing is read.
    pub fn fresh_host(&self) -> ObservedNetwork {
        let mut fresh = ObservedNetwork::default();
        fresh.apply(&NetStep::CreateVeth(self.veth()), &mut BTreeMap::new());
        fresh
    }

    /// The pod's namespace as it is once the pair has been made; nothing is read.
    pub fn fresh_pod(&self) -> ObservedNetwork {
        let mut fresh = ObservedNetwork::default();
        let end = |kind| ObservedLink::new(kind, self.mac, self.mtu, "");
        fresh.links.insert(self.key.ifname.clone(), end(LinkKind::Veth));
        fresh.links.insert(loopback(), end(LinkKind::Loopback));
        fresh
    }
}

mod further;
pub use further::Further;

fn loopback() -> IfName {
    #[expect(clippy::unwrap_used, reason = "a constant that is a valid name")]
    "lo".parse().unwrap()
}

/// How an existing attachment is attached, read from its owner record: a routed pod's addresses are whole.
pub fn mode_of(owner: &Owner, bridge: &IfName) -> Mode {
    if owner.is_bridged() { Mode::Bridge(bridge.clone()) } else { Mode::Routed }
}

/// What of the node a host end depends on.
#[derive(Debug, Clone, Copy)]
pub struct NodeSide<'a> {
    /// The addresses that the node itself uses towards its routed pods.
    pub addresses: &'a [IpAddr],
    /// Whether br_netfilter is in force ([`bridge_netfilter`]).
    pub bridge_netfilter: bool,
}

/// The sysctls by which br_netfilter shows bridged packets to the IP hooks; without the module they are not there.
pub const BRIDGE_NETFILTER: [Sysctl; 2] = [Sysctl::BridgeCall("iptables"), Sysctl::BridgeCall("ip6tables")];

/// Whether br_netfilter is in force, for both families.
pub fn bridge_netfilter(value: impl Fn(&Sysctl) -> Option<String>) -> bool {
    BRIDGE_NETFILTER.iter().all(|key| value(key).is_some_and(|on| on == "1"))
}

/// How a pod's port is wanted. Isolated, whatever a pod sends to another goes by the node's IP hooks. With br_netfilter
/// bridged packets pass those too, and what is translated to a pod of the same bridge goes on from port to port, be it
/// to the one it came from: an isolated port would drop it.
pub fn port(bridge_netfilter: bool) -> Port {
    Port { isolated: !bridge_netfilter, hairpin: bridge_netfilter }
}

/// What is wanted of a host end and of the routes to its pod.
pub fn host_end(name: &IfName, owner: &Owner, mode: &Mode, on: NodeSide<'_>) -> DesiredNetwork {
    let mut link = DesiredLink { alias: Some(owner.to_string()), ..DesiredLink::default() };
    let mut host = DesiredNetwork::default();
    match mode {
        Mode::Bridge(bridge) => link.port = Some((bridge.clone(), port(on.bridge_netfilter))),
        Mode::Routed => {
            link.addresses = owner.addresses.iter().map(gateway_address).gather();
            let source =
                |net: &IpNet| on.addresses.iter().copied().find(|a| a.is_ipv4() == net.addr().is_ipv4());
            host.routes = owner.addresses.iter().map(|net| host_route(name, *net, source(net))).gather();
        }
    }
    host.links.insert(name.clone(), link);
    host
}

/// The gateway's address on a routed pod's host end: the node answers for it there and nowhere else.
fn gateway_address(pod: &IpNet) -> Address {
    let net = match pod {
        IpNet::V4(_) => IpNet::from(IpAddr::V4(ROUTED_GATEWAY4)),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::new_assert(ROUTED_GATEWAY6, 64)),
    };
    Address { net, scope: Scope::Link, nodad: matches!(pod, IpNet::V6(_)), noprefixroute: false }
}

fn host_route(device: &IfName, net: IpNet, source: Option<IpAddr>) -> Route {
    Route {
        destination: IpNet::from(net.addr()),
        via: None,
        device: device.clone(),
        source,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(ROUTE_PROTOCOL),
    }
}

/// A pool as a bridge serves it: the subnet and the gateway's address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeSubnet {
    /// The gateway's address with the subnet's prefix length.
    pub gateway: IpNet,
}

/// What is wanted of the bridge: itself with the gateway addresses, no redirects on it, and a link-local address that
/// is good at once: it is what the node asks for its pods' hardware addresses from, and duplicate address detection
/// would have the first seconds of IPv6 lost.
///
/// Redirects are off because same-node traffic leaves by the bridge it came in by (the kernel takes the OR of `all`
/// and the interface's own value, so `all` goes off too; other interfaces keep their own).
pub fn bridge(name: &IfName, network: &NetworkName, subnets: &[BridgeSubnet], mtu: Mtu) -> DesiredNetwork {
    let seed = subnets.first().map_or_else(|| network.to_string(), |s| s.gateway.to_string());
    let mac = MacAddr::of_device(&seed);
    let alias = mark::device_alias(network);
    let link = DesiredLink {
        mac: Some(mac),
        mtu: Some(mtu),
        alias: Some(alias.clone()),
        create: Some(NewDevice { kind: DeviceKind::Bridge, mac, mtu, alias }),
        addresses: subnets.iter().map(|s| Address::global(s.gateway)).gather(),
        exclusive: true,
        ..DesiredLink::default()
    };
    let mut desired = DesiredNetwork::default();
    desired.links.insert(name.clone(), link);
    let dual = subnets.iter().any(|subnet| matches!(subnet.gateway, IpNet::V6(_)));
    let applies = |key: &Sysctl| dual || !matches!(key, Sysctl::Ipv6Conf(..));
    desired.sysctls.extend(bridge_sysctls(name).into_iter().filter(|(key, _)| applies(key)));
    desired
}

/// The sysctls that count for a bridge, with the values that are wanted.
pub fn bridge_sysctls(name: &IfName) -> [(Sysctl, &'static str); 3] {
    [
        (Sysctl::Ipv4Conf(None, "send_redirects"), "0"),
        (Sysctl::Ipv4Conf(Some(name.clone()), "send_redirects"), "0"),
        (Sysctl::Ipv6Conf(Some(name.clone()), "accept_dad"), "0"),
    ]
}

/// Forwarding for the families of `nets`. Interfaces that take router advertisements go on taking them, which
/// forwarding would otherwise end (`accept_ra` 2, where 1 means to ignore them); their writes come before the one that
/// switches forwarding on, as [`Sysctl`]'s order has it.
pub fn forwarding<'a>(nets: impl IntoIterator<Item = &'a IpNet>, takes_ra: &[IfName]) -> DesiredNetwork {
    let mut desired = DesiredNetwork::default();
    for net in nets {
        match net {
            IpNet::V4(_) => {
                desired.sysctls.insert(Sysctl::Ipv4Forward, "1");
            }
            IpNet::V6(_) => {
                let keep =
                    takes_ra.iter().map(|device| (Sysctl::Ipv6Conf(Some(device.clone()), "accept_ra"), "2"));
                desired.sysctls.extend(keep);
                desired.sysctls.insert(Sysctl::Ipv6Forward, "1");
            }
        }
    }
    desired
}

#[cfg(test)]
mod tests;
