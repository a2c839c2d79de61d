//! Our end of an overlay, whatever carries it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use selvedge_model::mark::{self, ROUTE_PROTOCOL};
use selvedge_model::{IfName, MacAddr, Mtu, Node, NodeName};

use super::{Here, routed};
use crate::node::Problem;
use crate::plan::{DesiredLink, DesiredNetwork};
use crate::state::{Address, LinkKind, Route, RouteProtocol, Sysctl};

/// A device, and the node's address that what it carries is sent from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) device: IfName,
    pub(super) local: IpAddr,
}

impl End {
    /// Our end by a device, unless that is somebody else's or the node has no address to send from.
    pub(super) fn of(here: Here<'_>, device: IfName, foreign: bool) -> Result<Self, Problem> {
        match here.addresses.first() {
            _ if foreign => Err(Problem::ForeignOverlay { name: device }),
            Some(&local) => Ok(Self { device, local }),
            None => Err(Problem::NoLocalAddress { node: here.local.name.clone() }),
        }
    }

    /// Our end by a device that we don't make ourselves, of one of those kinds; what is amiss where nobody can make it.
    pub(super) fn made(
        here: Here<'_>,
        (device, kinds): (IfName, &[LinkKind]),
        unmade: Option<Problem>,
    ) -> Result<Self, Problem> {
        let foreign = here.network.links.get(&device).is_some_and(|link| {
            !kinds.contains(&link.kind) || !(link.alias.is_empty() || mark::is_ours(&link.alias))
        });
        match unmade {
            Some(unmade) if !foreign => Err(unmade),
            _ => Self::of(here, device, foreign),
        }
    }

    /// True if the device is there.
    pub(super) fn is_there(&self, here: Here<'_>) -> bool {
        here.network.links.contains_key(&self.device)
    }

    /// What is wanted of a device that we don't make ourselves.
    pub(super) fn network(&self, here: Here<'_>, mtu: Mtu) -> DesiredNetwork {
        let loosely = self.is_there(here).then(|| (reverse_path(self.device.clone()), LOOSELY));
        DesiredNetwork {
            links: [(self.device.clone(), Self::link(here, mtu))].into(),
            sysctls: loosely.into_iter().collect(),
            ..DesiredNetwork::default()
        }
    }

    /// What leads into a peer's pod CIDR where the device alone knows the rest.
    pub(super) fn towards(
        &self,
        here: Here<'_>,
        peer: &Node,
        pod_cidr: IpNet,
    ) -> Result<DesiredNetwork, Problem> {
        self.remote(peer)?;
        Ok(routed(self.route(here, pod_cidr, None)))
    }

    /// The device, with the node's addresses in overlays.
    pub(super) fn link(here: Here<'_>, mtu: Mtu) -> DesiredLink {
        let asked = match asked_by_device(here.node) {
            IpAddr::V6(address) => Some(Address::link_local(address)),
            IpAddr::V4(_) => None,
        };
        DesiredLink {
            mtu: Some(mtu),
            alias: Some(mark::device_alias(&here.local.network)),
            addresses: own_addresses(here.node).map(|own| Address::global(own.into())).chain(asked).collect(),
            exclusive: true,
            ..DesiredLink::default()
        }
    }

    /// A route into a peer's pod CIDR.
    pub(super) fn route(&self, here: Here<'_>, pod_cidr: IpNet, via: Option<IpAddr>) -> Route {
        Route {
            destination: pod_cidr,
            via,
            device: self.device.clone(),
            source: own_addresses(here.node).find(|own| own.is_ipv4() == pod_cidr.addr().is_ipv4()),
            mtu: None,
            onlink: via.is_some_and(|via| via.is_ipv4()),
            protocol: RouteProtocol(ROUTE_PROTOCOL),
        }
    }

    /// Where the other end is.
    pub(super) fn remote(&self, peer: &Node) -> Result<IpAddr, Problem> {
        let remote = peer.address_like(self.local);
        remote.ok_or_else(|| Problem::NoUnderlay { node: peer.name.clone(), local: self.local })
    }
}

/// The node's addresses in overlays: the network addresses of its pod CIDRs, which no pod gets. Answers to them come
/// back by the overlay, as those to its own addresses would not.
pub(super) fn own_addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    node.pod_cidrs.iter().map(IpNet::network)
}

/// The address of a node that others ask it at by one of its devices, whatever routes lead to it: of its addresses in
/// overlays the one of IPv4. IPv6 would look for a route by the device, so that where pods have IPv6 alone it is a
/// link-local address, the same one on every device.
pub(super) fn asked_by_device(node: &Node) -> IpAddr {
    let four = own_addresses(node).find(IpAddr::is_ipv4);
    four.unwrap_or_else(|| link_local(vtep(&node.name)).into())
}

/// The hardware address of a node's VXLAN device, which its name says: nothing has to be published.
pub(super) fn vtep(node: &NodeName) -> MacAddr {
    MacAddr::of_device(&format!("vtep/{node}"))
}

/// The link-local address that comes of a hardware address: the modified EUI-64 format (RFC 4291, appendix A).
pub(super) fn link_local(MacAddr([a, b, c, d, e, f]): MacAddr) -> Ipv6Addr {
    let id = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    Ipv6Addr::from((0xfe80 << 112) | u128::from(u64::from_be_bytes(id)))
}

/// The sysctl of a device by which the kernel compares where a packet comes from with where its answer would go.
pub(super) fn reverse_path(device: IfName) -> Sysctl {
    Sysctl::Ipv4Conf(Some(device), "rp_filter")
}

/// Compares loosely, whatever is set for all: while transports change, what a peer sends comes by another device than
/// what we send it.
pub(super) const LOOSELY: &str = "2";
