//! Steps as rtnetlink requests.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use selvedge_datapath::state::{Address, Port, Route, Scope};
use selvedge_datapath::step::{LinkChange, VethPair};
use selvedge_model::{IfName, MacAddr, Mtu};

use crate::socket::Request;

/// Makes a veth pair, unless one of its names is taken. The kernel takes no ifalias here: see [`change`].
pub(crate) fn create_veth(pair: &VethPair, master: Option<u32>, pod: BorrowedFd<'_>) -> Request {
    // IFF_UP in the peer's part would fail: the pair isn't joined yet when the kernel brings it up.
    let mut peer = LinkMessage::default();
    peer.attributes = veth_end(&pair.pod, pair.pod_mac, pair.mtu);
    peer.attributes.push(LinkAttribute::NetNsFd(pod.as_raw_fd()));
    let mut host = LinkMessage::default();
    host.attributes = veth_end(&pair.host, pair.host_mac, pair.mtu);
    host.attributes.extend(master.map(LinkAttribute::Controller));
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    host.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]));
    Request { flags: NLM_F_CREATE | NLM_F_EXCL, message: RouteNetlinkMessage::NewLink(host) }
}

/// Makes a bridge, or sets an existing one as asked. A link of another kind is left as it is and refused.
///
/// VLAN filtering is off in a new bridge; kernels built without it refuse even to be told so.
pub(crate) fn create_bridge(name: &IfName, mac: MacAddr, mtu: Mtu, alias: &str) -> [Request; 2] {
    let data = InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)]);
    let mut make = LinkMessage::default();
    make.attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)]),
    ];
    // The kernel takes the ifalias only of a link that exists, and a bridge's MTU follows its ports' (and goes back
    // to 1500 with the last of them) unless it was changed on the bridge itself.
    let mut set = make.clone();
    set.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    set.attributes.push(LinkAttribute::Mtu(mtu.bytes()));
    set.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    [make, set].map(|link| Request { flags: NLM_F_CREATE, message: RouteNetlinkMessage::NewLink(link) })
}

/// What both ends of a veth pair are told.
fn veth_end(name: &IfName, mac: MacAddr, mtu: Mtu) -> Vec<LinkAttribute> {
    vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu.bytes()),
        // A veth uses one queue unless told otherwise; said beforehand, it keeps the kernel from making, and
        // announcing, one for each processor.
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ]
}

/// Puts a link into a bridge.
pub(crate) fn set_master(index: u32, master: u32) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::Controller(master));
    Request { flags: 0, message: RouteNetlinkMessage::SetLink(link) }
}

/// Sets one property of a link. A bridge to put it into must be known by its index: see [`set_master`].
pub(crate) fn change(index: u32, change: &LinkChange) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    match change {
        LinkChange::Up => {
            link.header.flags = LinkFlags::Up;
            link.header.change_mask = LinkFlags::Up;
        }
        LinkChange::Down => link.header.change_mask = LinkFlags::Up,
        LinkChange::Mac(mac) => link.attributes.push(LinkAttribute::Address(mac.0.to_vec())),
        LinkChange::Mtu(mtu) => link.attributes.push(LinkAttribute::Mtu(mtu.bytes())),
        LinkChange::Alias(alias) => link.attributes.push(LinkAttribute::IfAlias(alias.clone())),
        LinkChange::Master(_) => return set_master(index, 0),
        LinkChange::Port(port) => return set_port(link, *port),
        LinkChange::Group(group) => link.attributes.push(LinkAttribute::Group(*group)),
        LinkChange::Rename(name) => link.attributes.push(LinkAttribute::IfName(name.to_string())),
    }
    Request { flags: 0, message: RouteNetlinkMessage::SetLink(link) }
}

/// Port settings belong to RTM_NEWLINK: RTM_SETLINK passes them over.
fn set_port(mut link: LinkMessage, port: Port) -> Request {
    let data = InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(port.isolated)]);
    let info = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(data)];
    link.attributes.push(LinkAttribute::LinkInfo(info));
    Request { flags: 0, message: RouteNetlinkMessage::NewLink(link) }
}

/// Deletes a link.
pub(crate) fn delete_link(index: u32) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    Request { flags: 0, message: RouteNetlinkMessage::DelLink(link) }
}

/// Deletes every link of a group.
pub(crate) fn delete_group(group: u32) -> Request {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::Group(group));
    Request { flags: 0, message: RouteNetlinkMessage::DelLink(link) }
}

/// Adds an address, or sets the flags of the one that is there.
pub(crate) fn add_address(device: u32, address: &Address) -> Request {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    Request { flags, message: RouteNetlinkMessage::NewAddress(address_message(device, address)) }
}

/// Takes an address away.
pub(crate) fn delete_address(device: u32, address: &Address) -> Request {
    Request { flags: 0, message: RouteNetlinkMessage::DelAddress(address_message(device, address)) }
}

fn address_message(device: u32, address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    let ip = address.net.addr();
    message.header.family = family(ip);
    message.header.prefix_len = address.net.prefix_len();
    message.header.index = device;
    message.header.scope = match address.scope {
        Scope::Global => AddressScope::Universe,
        Scope::Link => AddressScope::Link,
        Scope::Host => AddressScope::Host,
    };
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, address.nodad);
    flags.set(AddressFlags::Noprefixroute, address.noprefixroute);
    message.attributes =
        vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip), AddressAttribute::Flags(flags)];
    message
}

/// Adds a route, or replaces the one to the same destination.
pub(crate) fn replace_route(device: u32, route: &Route) -> Request {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let mut message = route_message(device, route);
    message.attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    Request { flags, message: RouteNetlinkMessage::NewRoute(message) }
}

/// Deletes a route.
pub(crate) fn delete_route(device: u32, route: &Route) -> Request {
    Request { flags: 0, message: RouteNetlinkMessage::DelRoute(route_message(device, route)) }
}

fn route_message(device: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let destination = route.destination.network();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = route.protocol.0.into();
    message.header.kind = RouteType::Unicast;
    message.header.scope = match (route.via, route.destination) {
        // IPv4 lets a next hop be reached only by a route of narrower scope.
        (None, IpNet::V4(_)) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    message.attributes = vec![RouteAttribute::Destination(destination.into()), RouteAttribute::Oif(device)];
    message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(RouteAddress::from(via))));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
