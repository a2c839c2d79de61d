//! Our end of VXLAN, and where the others' are.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use selvedge_model::mark::{self, ROUTE_PROTOCOL};
use selvedge_model::{IfName, MacAddr, Node, NodeName};

use super::{Here, routed};
use crate::node::Problem;
use crate::plan::{DesiredLink, DesiredNetwork, DeviceKind, NewDevice};
use crate::state::{Address, FdbEntry, Neighbour, Route, RouteProtocol, Sysctl, Vxlan};

/// Our end of VXLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlay {
    pub(super) device: IfName,
    /// The node's address that it sends from.
    local: IpAddr,
}

impl Overlay {
    pub(super) fn of(here: Here<'_>) -> Result<Self, Problem> {
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
    pub(super) fn device(self, here: Here<'_>) -> DesiredNetwork {
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
            tx_checksums: (!here.local.vxlan.offloads).then_some(false),
            ..DesiredLink::default()
        };
        // Loosely, whatever is set for all: while transports change, what a peer sends comes by another device than
        // what we send it.
        let loosely = [(sysctl(), "2")];
        DesiredNetwork {
            links: [(self.device, link)].into(),
            sysctls: loosely.into(),
            ..DesiredNetwork::default()
        }
    }

    /// A route, the neighbour that it goes by, and where that one is.
    pub(super) fn towards(
        &self,
        here: Here<'_>,
        peer: &Node,
        pod_cidr: IpNet,
    ) -> Result<DesiredNetwork, Problem> {
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
pub fn sysctls() -> [Sysctl; 2] {
    [sysctl(), super::udp::sysctl()]
}

fn sysctl() -> Sysctl {
    Sysctl::Ipv4Conf(Some(vxlan_device()), "rp_filter")
}

pub(super) fn vxlan_device() -> IfName {
    mark::VXLAN_DEVICE.parse().expect("is a valid name")
}

/// The hardware address of a node's VXLAN device, which its name says: nothing has to be published.
pub(super) fn vtep(node: &NodeName) -> MacAddr {
    MacAddr::of_device(&format!("vtep/{node}"))
}

/// The node's addresses in overlays: the network addresses of its pod CIDRs, which no pod gets. Answers to them come
/// back by the overlay, as those to its own addresses would not.
pub(super) fn own_addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    node.pod_cidrs.iter().map(IpNet::network)
}

/// What a route into a peer's pod CIDR goes by. IPv4 takes the peer's own address in the overlay and is told that it is
/// on the link. IPv6 would look for a route to that, which may lead elsewhere yet, and takes the link-local address of
/// the peer's device.
pub(super) fn next_hop(pod_cidr: IpNet, MacAddr([a, b, c, d, e, f]): MacAddr) -> IpAddr {
    match pod_cidr {
        IpNet::V4(net) => net.network().into(),
        IpNet::V6(_) => {
            // The modified EUI-64 format (RFC 4291, appendix A).
            let id = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
            Ipv6Addr::from((0xfe80 << 112) | u128::from(u64::from_be_bytes(id))).into()
        }
    }
}
