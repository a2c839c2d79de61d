//! Our end of VXLAN, and where the others' are.

use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::mark;
use selvedge_model::transport::Transport;
use selvedge_model::{IfName, MacAddr, Node};

use super::end::{End, LOOSELY, link_local, reverse_path, vtep};
use super::{Here, routed};
use crate::node::Problem;
use crate::plan::{DesiredLink, DesiredNetwork, DeviceKind, NewDevice};
use crate::state::{FdbEntry, Neighbour, Sysctl, Vxlan};

/// An IP, a UDP and VXLAN's header, and the inner packet's Ethernet header.
pub(super) const OVERHEAD: u32 = 50;

/// Our end of VXLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlay(pub(super) End);

impl Overlay {
    pub(super) fn of(here: Here<'_>) -> Result<Self, Problem> {
        let device = vxlan_device();
        let there = here.network.links.get(&device);
        let foreign = there.is_some_and(|link| !mark::is_ours(&link.alias));
        End::of(here, device, foreign).map(Self)
    }

    /// The device, which every peer can send to whatever we send by.
    pub(super) fn device(self, here: Here<'_>) -> DesiredNetwork {
        let (mac, mtu) = (vtep(&here.node.name), here.mtu_by(Transport::Vxlan));
        let alias = mark::device_alias(&here.local.network);
        let vxlan = Vxlan {
            vni: here.local.vxlan.vni,
            port: here.local.vxlan.port,
            local: self.0.local,
            learning: false,
        };
        let link = DesiredLink {
            create: Some(NewDevice { kind: DeviceKind::Vxlan(vxlan), mac, mtu, alias }),
            mac: Some(mac),
            tx_checksums: (!here.local.vxlan.offloads).then_some(false),
            ..End::link(here, mtu)
        };
        DesiredNetwork {
            sysctls: [(reverse_path(self.0.device.clone()), LOOSELY)].into(),
            links: [(self.0.device, link)].into(),
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
        let (remote, mac) = (self.0.remote(peer)?, vtep(&peer.name));
        let next_hop = next_hop(pod_cidr, mac);
        let device = || self.0.device.clone();
        Ok(DesiredNetwork {
            fdb: [FdbEntry { device: device(), mac, remote }].into(),
            neighbours: [Neighbour { device: device(), address: next_hop, mac }].into(),
            ..routed(self.0.route(here, pod_cidr, Some(next_hop)))
        })
    }
}

/// The sysctls of overlay devices that are looked at.
pub fn sysctls() -> [Sysctl; 3] {
    [vxlan_device(), super::udp::device(), super::wireguard::device()].map(reverse_path)
}

pub(super) fn vxlan_device() -> IfName {
    mark::VXLAN_DEVICE.parse().expect("is a valid name")
}

/// What a route into a peer's pod CIDR goes by. IPv4 takes the peer's own address in the overlay and is told that it is
/// on the link. IPv6 would look for a route to that, which may lead elsewhere yet, and takes the link-local address of
/// the peer's device.
pub(super) fn next_hop(pod_cidr: IpNet, mac: MacAddr) -> IpAddr {
    match pod_cidr {
        IpNet::V4(net) => net.network().into(),
        IpNet::V6(_) => link_local(mac).into(),
    }
}
