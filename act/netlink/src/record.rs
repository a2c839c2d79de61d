//! Links, addresses and routes as the kernel's messages hold them: by index, each on its own.
//!
//! Only what we use is read. What is not as expected is passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use selvedge_datapath::state::{Address, LinkKind, ObservedLink, Port, RouteProtocol, Rule, Scope, Selector};
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::{IfName, MacAddr, Mtu};
use selvedge_wire::{Reader, text, u16_at, u32_at};

use crate::overlay;
use crate::request::{self, BRIDGE_PORT_HAIRPIN, BRIDGE_PORT_ISOLATED, METRIC_MTU, ROUTE_ON_LINK};

/// Length of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Length of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;
/// Length of `struct rtnexthop`.
const NEXT_HOP_HEADER: usize = 8;

/// A link; its master by index, its addresses still to come.
#[derive(Debug)]
pub(crate) struct LinkRecord {
    pub(crate) name: IfName,
    pub(crate) master: Option<u32>,
    pub(crate) link: ObservedLink,
}

/// Reads an RTM_NEWLINK or RTM_DELLINK.
pub(crate) fn link(payload: &[u8]) -> Option<LinkRecord> {
    let index = u32_at(payload, 4)?;
    let flags = u32_at(payload, 8)?.cast_signed();
    let loopback = flags & libc::IFF_LOOPBACK != 0;
    let kind = if loopback { LinkKind::Loopback } else { LinkKind::Other };
    let carries = libc::IFF_LOWER_UP | libc::IFF_RUNNING;
    let mut link = ObservedLink::new(kind, MacAddr([0; 6]), Mtu::ETHERNET, "");
    link.index = index;
    link.mac = None;
    link.up = flags & libc::IFF_UP != 0;
    link.running = flags & carries == carries;
    let (mut name, mut master) = (None, None);
    for (attribute, value) in Reader(payload.get(LINK_HEADER..)?) {
        match attribute {
            libc::IFLA_IFNAME => name = text(value).parse().ok(),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok().map(MacAddr),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            libc::IFLA_MASTER => master = u32_at(value, 0),
            libc::IFLA_IFALIAS => link.alias = text(value),
            libc::IFLA_GROUP => link.group = u32_at(value, 0)?,
            libc::IFLA_LINKINFO => link_info(value, &mut link),
            _ => {}
        }
    }
    Some(LinkRecord { name: name?, master, link })
}

/// Reads IFLA_LINKINFO: what the link is, and of a bridge's port its settings.
fn link_info(value: &[u8], link: &mut ObservedLink) {
    for (attribute, value) in Reader(value) {
        match attribute {
            libc::IFLA_INFO_KIND => match text(value).as_str() {
                "veth" => link.kind = LinkKind::Veth,
                "bridge" => link.kind = LinkKind::Bridge,
                "ifb" => link.kind = LinkKind::Ifb,
                "vxlan" => link.kind = LinkKind::Vxlan,
                "tun" => link.kind = LinkKind::Tun,
                "wireguard" => link.kind = LinkKind::Wireguard,
                _ => {}
            },
            // The kind comes first.
            libc::IFLA_INFO_DATA if link.kind == LinkKind::Vxlan => link.vxlan = overlay::vxlan(value),
            libc::IFLA_INFO_SLAVE_KIND if text(value) == "bridge" => {
                link.port.get_or_insert_default();
            }
            libc::IFLA_INFO_SLAVE_DATA => {
                let is_on = |attribute| Reader(value).get(attribute) == Some(&[1]);
                // The kind comes first; the data of other masters' ports means other things.
                if let Some(port) = &mut link.port {
                    *port =
                        Port { isolated: is_on(BRIDGE_PORT_ISOLATED), hairpin: is_on(BRIDGE_PORT_HAIRPIN) };
                }
            }
            _ => {}
        }
    }
}

/// Reads an RTM_NEWADDR or RTM_DELADDR: the link's index and the address on it.
pub(crate) fn address(payload: &[u8]) -> Option<(u32, Address)> {
    let [family, prefix, flags, scope, ..] = *payload else { return None };
    let index = u32_at(payload, 4)?;
    let mut flags = u32::from(flags);
    let (mut local, mut peer) = (None, None);
    for (attribute, value) in Reader(payload.get(ADDRESS_HEADER..)?) {
        match attribute {
            libc::IFA_LOCAL => local = ip(family, value),
            libc::IFA_ADDRESS => peer = ip(family, value),
            libc::IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    let net = IpNet::new(local.or(peer)?, prefix).ok()?;
    let scope = match scope {
        libc::RT_SCOPE_LINK => Scope::Link,
        libc::RT_SCOPE_HOST => Scope::Host,
        _ => Scope::Global,
    };
    // The bit of NODAD means nothing in IPv4.
    let nodad = flags & libc::IFA_F_NODAD != 0 && matches!(net, IpNet::V6(_));
    Some((index, Address { net, scope, nodad, noprefixroute: flags & libc::IFA_F_NOPREFIXROUTE != 0 }))
}

/// A unicast route; with several next hops, one of them.
#[derive(Debug, Clone)]
pub(crate) struct RouteRecord {
    pub(crate) destination: IpNet,
    pub(crate) via: Option<IpAddr>,
    pub(crate) device: u32,
    pub(crate) source: Option<IpAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) onlink: bool,
    pub(crate) protocol: RouteProtocol,
}

/// A route of any kind and table.
#[derive(Debug)]
pub(crate) struct Found {
    /// RTN_UNICAST, RTN_LOCAL, and the like.
    pub(crate) kind: u8,
    table: u32,
    /// One record for each next hop.
    pub(crate) hops: Vec<RouteRecord>,
}

/// Reads an RTM_NEWROUTE or RTM_DELROUTE: one record for each next hop, none for a route of another table or kind
/// than is wanted.
pub(crate) fn route(payload: &[u8], wanted: u32) -> Option<Vec<RouteRecord>> {
    let Found { kind, table, hops } = found(payload)?;
    (kind == libc::RTN_UNICAST && table == wanted).then_some(hops)
}

/// Reads a route, unless it is what the kernel made of one for a single destination.
pub(crate) fn found(payload: &[u8]) -> Option<Found> {
    let [family, prefix, _, _, table, protocol, _, kind, ..] = *payload else { return None };
    let flags = u32_at(payload, 8)?;
    let cloned = flags & libc::RTM_F_CLONED != 0;
    let mut table = u32::from(table);
    let mut record = RouteRecord {
        destination: IpNet::new(any(family)?, prefix).ok()?,
        via: None,
        device: 0,
        source: None,
        mtu: None,
        onlink: flags & ROUTE_ON_LINK != 0,
        protocol: RouteProtocol(protocol),
    };
    let mut hops = Vec::new();
    for (attribute, value) in Reader(payload.get(ROUTE_HEADER..)?) {
        match attribute {
            libc::RTA_TABLE => table = u32_at(value, 0)?,
            libc::RTA_DST => record.destination = IpNet::new(ip(family, value)?, prefix).ok()?,
            libc::RTA_PREFSRC => record.source = ip(family, value),
            libc::RTA_METRICS => record.mtu = mtu(value),
            libc::RTA_MULTIPATH => hops = next_hops(family, value),
            _ => next_hop_attribute(family, (attribute, value), &mut record.via, &mut record.device),
        }
    }
    if cloned {
        return None;
    }
    if hops.is_empty() {
        hops.push((record.device, record.via));
    }
    let hops = hops.into_iter().map(|(device, via)| RouteRecord { device, via, ..record.clone() }).collect();
    Some(Found { kind, table, hops })
}

/// Reads an RTM_NEWRULE: a rule of ours and the table that it leads to, if it is as we make them.
pub(crate) fn rule(payload: &[u8]) -> Option<(u32, Rule)> {
    let [family, to, from, _, table, _, _, action, ..] = *payload else { return None };
    let (mut table, mut priority, mut protocol) = (u32::from(table), 0, 0);
    let (mut source, mut destination) = (IpNet::new(any(family)?, 0).ok()?, None);
    for (attribute, value) in Reader(payload.get(ROUTE_HEADER..)?) {
        match attribute {
            request::RULE_TABLE => table = u32_at(value, 0)?,
            request::RULE_PRIORITY => priority = u32_at(value, 0)?,
            request::RULE_PROTOCOL => protocol = *value.first()?,
            request::RULE_SOURCE => source = IpNet::new(ip(family, value)?, from).ok()?,
            request::RULE_DESTINATION => destination = Some(IpNet::new(ip(family, value)?, to).ok()?),
            _ => {}
        }
    }
    let selector =
        destination.map_or(Selector::From(source), |to| Selector::Unsourced { to, from: source.addr() });
    let ours = protocol == ROUTE_PROTOCOL && action == request::RULE_TO_TABLE;
    ours.then_some((table, Rule { priority, selector }))
}

fn next_hop_attribute(family: u8, attribute: (u16, &[u8]), via: &mut Option<IpAddr>, device: &mut u32) {
    match attribute {
        (libc::RTA_OIF, value) => *device = u32_at(value, 0).unwrap_or(0),
        (libc::RTA_GATEWAY, value) => *via = ip(family, value),
        // struct rtvia: the next hop of another family than the destination's.
        (libc::RTA_VIA, value) => {
            let via_family = u16_at(value, 0).and_then(|family| u8::try_from(family).ok());
            *via = via_family.and_then(|family| ip(family, value.get(2..)?));
        }
        _ => {}
    }
}

/// Reads RTA_MULTIPATH: device and next hop of each.
fn next_hops(family: u8, value: &[u8]) -> Vec<(u32, Option<IpAddr>)> {
    let mut rest = value;
    std::iter::from_fn(|| {
        let length = usize::from(u16_at(rest, 0)?);
        let (mut device, mut via) = (u32_at(rest, 4)?, None);
        for attribute in Reader(rest.get(NEXT_HOP_HEADER..length)?) {
            next_hop_attribute(family, attribute, &mut via, &mut device);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((device, via))
    })
    .collect()
}

fn mtu(metrics: &[u8]) -> Option<u32> {
    Reader(metrics).get(METRIC_MTU).and_then(|value| u32_at(value, 0))
}

pub(crate) fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        libc::AF_INET6 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The address that a default route's destination is.
fn any(family: u8) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        libc::AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}
