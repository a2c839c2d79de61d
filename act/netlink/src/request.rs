//! Steps and questions as rtnetlink requests.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use selvedge_datapath::state::{Address, Port, Route, Rule, Scope, Selector};
use selvedge_datapath::step::{LinkChange, VethPair};
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::{IfName, MacAddr, Mtu};
pub(crate) use selvedge_wire::flag::{CREATE, DUMP, EXCL, REPLACE};
use selvedge_wire::{Request, Writer};

use crate::overlay;

/// AF_INET and AF_INET6, as messages have them.
pub(crate) const FAMILIES: [u8; 2] = [2, 10];

/// IFF_UP.
const UP: u32 = 1;
/// RTEXT_FILTER_SKIP_STATS.
const SKIP_STATISTICS: u32 = 1 << 3;
/// VETH_INFO_PEER.
const VETH_PEER: u16 = 1;
/// IFLA_BR_MCAST_SNOOPING.
const BRIDGE_MULTICAST_SNOOPING: u16 = 23;
/// IFLA_BRPORT_MODE.
pub(crate) const BRIDGE_PORT_HAIRPIN: u16 = 4;

/// IFLA_BRPORT_ISOLATED.
pub(crate) const BRIDGE_PORT_ISOLATED: u16 = 33;
/// RTM_F_FIB_MATCH: the route as it is in its table, not what is made of it for one destination.
const ROUTE_AS_IN_TABLE: u32 = 1 << 13;
/// RTNH_F_ONLINK.
pub(crate) const ROUTE_ON_LINK: u32 = 4;
/// RTAX_MTU.
pub(crate) const METRIC_MTU: u16 = 2;
/// FR_ACT_TO_TBL.
pub(crate) const RULE_TO_TABLE: u8 = 1;
/// FIB_RULE_FIND_SADDR.
pub(crate) const RULE_FINDS_SOURCE: u32 = 1 << 16;
/// FRA_DST.
pub(crate) const RULE_DESTINATION: u16 = 1;
/// FRA_SRC.
pub(crate) const RULE_SOURCE: u16 = 2;
/// FRA_PRIORITY.
pub(crate) const RULE_PRIORITY: u16 = 6;
/// FRA_TABLE.
pub(crate) const RULE_TABLE: u16 = 15;
/// FRA_PROTOCOL.
pub(crate) const RULE_PROTOCOL: u16 = 21;

/// Asks for all links, without their counters, which are half of each answer.
pub(crate) fn list_links() -> Request {
    link(libc::RTM_GETLINK, DUMP, 0, |w| w.u32_ne(libc::IFLA_EXT_MASK, SKIP_STATISTICS))
}

/// Asks for one link.
pub(crate) fn get_link(name: &IfName) -> Request {
    link(libc::RTM_GETLINK, 0, 0, |w| {
        w.u32_ne(libc::IFLA_EXT_MASK, SKIP_STATISTICS);
        w.text(libc::IFLA_IFNAME, name.as_str());
    })
}

/// Makes a veth pair, unless one of its names is taken. The kernel takes no ifalias here: see [`change`].
pub(crate) fn create_veth(pair: &VethPair, master: Option<u32>, pod: BorrowedFd<'_>) -> Request {
    // IFF_UP in the peer's part would fail: the pair isn't joined yet when the kernel brings it up.
    let peer = Writer::after(&link_header(0, 0, 0), |peer| {
        write_veth_end(peer, &pair.pod, pair.pod_mac, pair.mtu);
        peer.bytes(libc::IFLA_NET_NS_FD, &pod.as_raw_fd().to_ne_bytes());
    });
    link(libc::RTM_NEWLINK, CREATE | EXCL, 0, |host| {
        write_veth_end(host, &pair.host, pair.host_mac, pair.mtu);
        if let Some(master) = master {
            host.u32_ne(libc::IFLA_MASTER, master);
        }
        write_kind(host, "veth", |data| data.bytes(VETH_PEER, &peer));
    })
}

/// Makes a bridge, or sets an existing one as asked. A link of another kind is left as it is and refused.
///
/// VLAN filtering is off in a new bridge; kernels built without it refuse even to be told so.
pub(crate) fn create_bridge(name: &IfName, mac: MacAddr, mtu: Mtu, alias: &str) -> [Request; 2] {
    let write_bridge = |w: &mut Writer| {
        w.text(libc::IFLA_IFNAME, name.as_str());
        write_kind(w, "bridge", |data| data.bytes(BRIDGE_MULTICAST_SNOOPING, &[0]));
    };
    // The kernel takes the ifalias only of a link that exists, and a bridge's MTU follows its ports' (and goes back
    // to 1500 with the last of them) unless it was changed on the bridge itself.
    let set = link(libc::RTM_NEWLINK, CREATE, 0, |w| {
        write_bridge(w);
        w.bytes(libc::IFLA_ADDRESS, &mac.0);
        w.u32_ne(libc::IFLA_MTU, mtu.bytes());
        w.bytes(libc::IFLA_IFALIAS, alias.as_bytes());
    });
    [link(libc::RTM_NEWLINK, CREATE, 0, write_bridge), set]
}

/// Puts a link into a bridge, or takes it out (0).
pub(crate) fn set_master(index: u32, master: u32) -> Request {
    link(libc::RTM_SETLINK, 0, index, |w| w.u32_ne(libc::IFLA_MASTER, master))
}

/// Sets one property of a link. A bridge to put it into must be known by its index: see [`set_master`].
pub(crate) fn change(index: u32, change: &LinkChange) -> Request {
    let set = |flags, mask| Request::new(libc::RTM_SETLINK, 0, &link_header(index, flags, mask), |_| {});
    let text = |kind, value: &str| link(libc::RTM_SETLINK, 0, index, |w| w.bytes(kind, value.as_bytes()));
    let number = |kind, value| link(libc::RTM_SETLINK, 0, index, |w| w.u32_ne(kind, value));
    match change {
        LinkChange::Up => set(UP, UP),
        LinkChange::Down => set(0, UP),
        LinkChange::Mac(mac) => link(libc::RTM_SETLINK, 0, index, |w| w.bytes(libc::IFLA_ADDRESS, &mac.0)),
        LinkChange::Mtu(mtu) => number(libc::IFLA_MTU, mtu.bytes()),
        LinkChange::Alias(alias) => text(libc::IFLA_IFALIAS, alias),
        LinkChange::Master(_) => set_master(index, 0),
        LinkChange::Port(port) => set_port(index, *port),
        LinkChange::Group(group) => number(libc::IFLA_GROUP, *group),
        LinkChange::Rename(name) => text(libc::IFLA_IFNAME, name.as_str()),
        LinkChange::Vxlan(vxlan) => overlay::change_vxlan(index, vxlan),
    }
}

/// Port settings belong to RTM_NEWLINK: RTM_SETLINK passes them over.
fn set_port(index: u32, port: Port) -> Request {
    link(libc::RTM_NEWLINK, 0, index, |w| {
        w.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(libc::IFLA_INFO_SLAVE_DATA, |data| {
                data.bytes(BRIDGE_PORT_HAIRPIN, &[u8::from(port.hairpin)]);
                data.bytes(BRIDGE_PORT_ISOLATED, &[u8::from(port.isolated)]);
            });
        });
    })
}

/// Deletes a link.
pub(crate) fn delete_link(index: u32) -> Request {
    link(libc::RTM_DELLINK, 0, index, |_| {})
}

/// Deletes every link of a group.
pub(crate) fn delete_group(group: u32) -> Request {
    link(libc::RTM_DELLINK, 0, 0, |w| w.u32_ne(libc::IFLA_GROUP, group))
}

/// A message about a link, or about that which its attributes name (0).
pub(crate) fn link(kind: u16, flags: u16, index: u32, write: impl FnOnce(&mut Writer)) -> Request {
    Request::new(kind, flags, &link_header(index, 0, 0), write)
}

/// `struct ifinfomsg`: the link, its flags, and which of them are set.
fn link_header(index: u32, flags: u32, mask: u32) -> Vec<u8> {
    [0, index, flags, mask].map(u32::to_ne_bytes).concat()
}

/// What both ends of a veth pair are told.
fn write_veth_end(w: &mut Writer, name: &IfName, mac: MacAddr, mtu: Mtu) {
    w.text(libc::IFLA_IFNAME, name.as_str());
    w.bytes(libc::IFLA_ADDRESS, &mac.0);
    w.u32_ne(libc::IFLA_MTU, mtu.bytes());
    // A veth uses one queue unless told otherwise; said beforehand, it keeps the kernel from making, and
    // announcing, one for each processor.
    w.u32_ne(libc::IFLA_NUM_TX_QUEUES, 1);
    w.u32_ne(libc::IFLA_NUM_RX_QUEUES, 1);
}

/// What a link to make is.
pub(crate) fn write_kind(w: &mut Writer, kind: &str, write_data: impl FnOnce(&mut Writer)) {
    w.nest(libc::IFLA_LINKINFO, |info| {
        info.text(libc::IFLA_INFO_KIND, kind);
        info.nest(libc::IFLA_INFO_DATA, write_data);
    });
}

/// Asks for the addresses of one family, or of all (0), on one link, or on all (0).
pub(crate) fn list_addresses(family: u8, device: u32) -> Request {
    Request::new(libc::RTM_GETADDR, DUMP, &address_header([family, 0, 0, 0], device), |_| {})
}

/// Adds an address, or sets the flags of the one that is there.
pub(crate) fn add_address(device: u32, address: &Address) -> Request {
    about_address(libc::RTM_NEWADDR, CREATE | REPLACE, device, address)
}

/// Takes an address away.
pub(crate) fn delete_address(device: u32, address: &Address) -> Request {
    about_address(libc::RTM_DELADDR, 0, device, address)
}

fn about_address(kind: u16, flags: u16, device: u32, address: &Address) -> Request {
    let ip = address.net.addr();
    let scope = match address.scope {
        Scope::Global => libc::RT_SCOPE_UNIVERSE,
        Scope::Link => libc::RT_SCOPE_LINK,
        Scope::Host => libc::RT_SCOPE_HOST,
    };
    // Not all flags fit where the header has room for some: they have an attribute of their own.
    let header = address_header([family(ip), address.net.prefix_len(), 0, scope], device);
    let nodad = if address.nodad { libc::IFA_F_NODAD } else { 0 };
    let noprefixroute = if address.noprefixroute { libc::IFA_F_NOPREFIXROUTE } else { 0 };
    Request::new(kind, flags, &header, |w| {
        w.ip(libc::IFA_LOCAL, ip);
        w.ip(libc::IFA_ADDRESS, ip);
        w.u32_ne(libc::IFA_FLAGS, nodad | noprefixroute);
    })
}

/// `struct ifaddrmsg`: family, prefix length, flags and scope, and the link.
fn address_header(bytes: [u8; 4], device: u32) -> Vec<u8> {
    [bytes, device.to_ne_bytes()].concat()
}

/// The number of the main table.
pub(crate) const MAIN: u32 = libc::RT_TABLE_MAIN as u32;

/// Asks for the unicast routes of a table, through one device or all.
pub(crate) fn list_routes(family: u8, table: u32, device: Option<u32>) -> Request {
    let header = route_header([family, 0, 0, 0], [0, 0, 0, libc::RTN_UNICAST]);
    Request::new(libc::RTM_GETROUTE, DUMP, &header, |w| {
        w.u32_ne(libc::RTA_TABLE, table);
        if let Some(device) = device {
            w.u32_ne(libc::RTA_OIF, device);
        }
    })
}

/// Asks which route the node itself would take to an address.
pub(crate) fn get_route(to: IpAddr) -> Request {
    let net = IpNet::from(to);
    let mut header = route_header([family(to), net.prefix_len(), 0, 0], [0; 4]);
    header.splice(8.., ROUTE_AS_IN_TABLE.to_ne_bytes());
    Request::new(libc::RTM_GETROUTE, 0, &header, |w| w.ip(libc::RTA_DST, to))
}

/// Adds a route to a table: in the place of the one to the same destination ([`REPLACE`]), or only if there is none
/// ([`EXCL`]).
pub(crate) fn new_route(existing: u16, device: u32, table: u32, route: &Route) -> Request {
    Request::new(libc::RTM_NEWROUTE, CREATE | existing, &header_of(route), |w| {
        w.u32_ne(libc::RTA_TABLE, table);
        write_route(w, device, route);
        if let Some(mtu) = route.mtu {
            w.nest(libc::RTA_METRICS, |metrics| metrics.u32_ne(METRIC_MTU, mtu));
        }
    })
}

/// Deletes a route.
pub(crate) fn delete_route(device: u32, route: &Route) -> Request {
    Request::new(libc::RTM_DELROUTE, 0, &header_of(route), |w| write_route(w, device, route))
}

fn header_of(route: &Route) -> Vec<u8> {
    let scope = match (route.via, route.destination) {
        // IPv4 lets a next hop be reached only by a route of narrower scope.
        (None, IpNet::V4(_)) => libc::RT_SCOPE_LINK,
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    let destination = route.destination;
    let mut header = route_header(
        [family(destination.addr()), destination.prefix_len(), 0, 0],
        [libc::RT_TABLE_MAIN, route.protocol.0, scope, libc::RTN_UNICAST],
    );
    if route.onlink {
        header.splice(8.., ROUTE_ON_LINK.to_ne_bytes());
    }
    header
}

/// `struct rtmsg`: family, length of the destination's prefix and the source's, and TOS; table, protocol, scope and
/// type; flags.
fn route_header(first: [u8; 4], second: [u8; 4]) -> Vec<u8> {
    [first, second, [0; 4]].concat()
}

/// Asks for the rules of a family.
pub(crate) fn list_rules(family: u8) -> Request {
    Request::new(libc::RTM_GETRULE, DUMP, &route_header([family, 0, 0, 0], [0; 4]), |_| {})
}

/// Adds a rule that leads to a table, or deletes it.
pub(crate) fn about_rule(kind: u16, table: u32, rule: &Rule) -> Request {
    let (from, to) = match rule.selector {
        Selector::From(net) => (net, None),
        Selector::Unsourced { to, from } => (IpNet::from(from), Some(to)),
    };
    // `struct fib_rule_hdr` begins like `struct rtmsg`, with the lengths of both prefixes, and ends in the action and
    // flags.
    let lengths = [to.map_or(0, |to| to.prefix_len()), from.prefix_len()];
    let flags = if to.is_some() && from.addr().is_ipv6() { RULE_FINDS_SOURCE } else { 0 };
    let header = [family(from.addr()), lengths[0], lengths[1], 0, 0, 0, 0, RULE_TO_TABLE];
    let header = [header.as_slice(), &flags.to_ne_bytes()].concat();
    let flags = if kind == libc::RTM_NEWRULE { CREATE | EXCL } else { 0 };
    Request::new(kind, flags, &header, |w| {
        if from.prefix_len() > 0 {
            w.ip(RULE_SOURCE, from.network());
        }
        if let Some(to) = to {
            w.ip(RULE_DESTINATION, to.network());
        }
        w.u32_ne(RULE_PRIORITY, rule.priority);
        w.u32_ne(RULE_TABLE, table);
        w.bytes(RULE_PROTOCOL, &[ROUTE_PROTOCOL]);
    })
}

fn write_route(w: &mut Writer, device: u32, route: &Route) {
    w.ip(libc::RTA_DST, route.destination.network());
    w.u32_ne(libc::RTA_OIF, device);
    if let Some(via) = route.via {
        w.ip(libc::RTA_GATEWAY, via);
    }
    if let Some(source) = route.source {
        w.ip(libc::RTA_PREFSRC, source);
    }
}

pub(crate) fn family(ip: IpAddr) -> u8 {
    FAMILIES[usize::from(ip.is_ipv6())]
}
