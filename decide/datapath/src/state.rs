//! The parts of a network namespace that we look at and change.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use selvedge_model::{IfName, MacAddr, Mtu, Sorted};

use crate::shaping::Shaping;

/// What a link is. Only kinds that we make ourselves are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// One end of a veth pair.
    Veth,
    /// A bridge.
    Bridge,
    /// A device through which what a pod sends goes first (ifb).
    Ifb,
    /// A tunnel device that speaks VXLAN.
    Vxlan,
    /// A device whose packets a process takes.
    Tun,
    /// A tunnel device that speaks WireGuard.
    Wireguard,
    /// The loopback interface.
    Loopback,
    /// Anything else.
    Other,
}

impl LinkKind {
    /// True for what a node has as a whole, and not for one pod.
    pub fn is_a_nodes(self) -> bool {
        matches!(self, Self::Bridge | Self::Vxlan | Self::Tun | Self::Wireguard)
    }
}

/// The settings of a bridge port that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Port {
    /// Frames from this port reach no other isolated port (IFLA_BRPORT_ISOLATED).
    pub isolated: bool,
    /// Frames from this port may go back out by it (IFLA_BRPORT_MODE).
    pub hairpin: bool,
}

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedLink {
    /// The interface index.
    pub index: u32,
    /// What it is.
    pub kind: LinkKind,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes; the loopback's 65536 is beyond [`Mtu`], hence the plain number.
    pub mtu: u32,
    /// Its ifalias, empty if it has none.
    pub alias: String,
    /// The bridge or other master it is in, if that lives in the same namespace.
    pub master: Option<IfName>,
    /// Its settings as a bridge port, if it is one.
    pub port: Option<Port>,
    /// IFF_UP.
    pub up: bool,
    /// IFF_LOWER_UP and operationally up: it can carry packets.
    pub running: bool,
    /// The link group (0 by default).
    pub group: u32,
    /// The addresses on it, link-local ones made by the kernel among them.
    pub addresses: BTreeSet<Address>,
    /// How its traffic is held up; nothing, unless the observer asked for it.
    pub shaping: Shaping,
    /// Its tunnel, if it is a VXLAN device.
    pub vxlan: Option<Vxlan>,
    /// Whether it leaves the checksums of what it sends to others, if the observer asked.
    pub tx_checksums: Option<bool>,
}

impl ObservedLink {
    /// A link as it is right after it was made: down, without addresses.
    pub fn new(kind: LinkKind, mac: MacAddr, mtu: Mtu, alias: &str) -> Self {
        Self {
            index: 0,
            kind,
            mac: Some(mac),
            mtu: mtu.bytes(),
            alias: alias.to_owned(),
            master: None,
            port: None,
            up: false,
            running: false,
            group: 0,
            addresses: BTreeSet::new(),
            shaping: Shaping::default(),
            vxlan: None,
            tx_checksums: None,
        }
    }

    /// True if routers may advertise themselves on the link: it is no loopback and none of ours.
    pub fn hears_routers(&self) -> bool {
        self.kind != LinkKind::Loopback && !selvedge_model::mark::is_ours(&self.alias)
    }
}

/// Where an address counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On its link only.
    Link,
    /// On this host only.
    Host,
}

/// An address on a link, with host bits and prefix length.
///
/// Two addresses are the same to the kernel if their nets are equal; scope and flags are how it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The address and its prefix length.
    pub net: IpNet,
    /// Its scope.
    pub scope: Scope,
    /// IFA_F_NODAD: no duplicate address detection (IPv6 only).
    pub nodad: bool,
    /// IFA_F_NOPREFIXROUTE: the kernel adds no route for the prefix.
    pub noprefixroute: bool,
}

impl Address {
    /// A global address without flags, but for `nodad` on IPv6: the allocator is what keeps addresses unique.
    pub fn global(net: IpNet) -> Self {
        Self { net, scope: Scope::Global, nodad: matches!(net, IpNet::V6(_)), noprefixroute: false }
    }

    /// A link-local address (RFC 4291, section 2.5.6), with the route to all others on the link.
    pub fn link_local(address: Ipv6Addr) -> Self {
        let net = IpNet::V6(Ipv6Net::new_assert(address, 64));
        Self { net, scope: Scope::Link, nodad: true, noprefixroute: false }
    }
}

/// Which protocol number a route carries (rtm_protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteProtocol(pub u8);

/// A unicast route of the main table.
///
/// The kernel's key is the destination; the rest is how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The destination; host bits are zero.
    pub destination: IpNet,
    /// The next hop, of the destination's family; none for a route straight to the link.
    pub via: Option<IpAddr>,
    /// The device it leaves by.
    pub device: IfName,
    /// The source address that the node itself uses on it.
    pub source: Option<IpAddr>,
    /// The MTU on this route, where it differs from the device's.
    pub mtu: Option<u32>,
    /// The next hop is on the link though no address says so (RTNH_F_ONLINK).
    pub onlink: bool,
    /// Who made it.
    pub protocol: RouteProtocol,
}

#[cfg(test)]
impl Route {
    /// One as tests want it.
    pub(crate) fn through(destination: &str, device: &str, protocol: u8) -> Self {
        Self {
            destination: destination.parse().unwrap(),
            via: None,
            device: device.parse().unwrap(),
            source: None,
            mtu: None,
            onlink: false,
            protocol: RouteProtocol(protocol),
        }
    }
}

impl Route {
    /// What the kernel replaces routes by. For IPv6 it keeps several routes to one destination apart by device and
    /// next hop where they were added, but a replacement takes the place of all of them.
    pub fn key(&self) -> IpNet {
        self.destination
    }

    /// Those of some routes that have a key.
    pub(crate) fn of_key(key: IpNet, routes: &Sorted<Self>) -> impl Iterator<Item = &Self> {
        routes.like(move |route| route.key().cmp(&key))
    }
}

/// What a rule compares of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Its source; a prefix of no length is every packet of that family.
    From(IpNet),
    /// Its destination, where its sender has named no source yet. IPv4 has 0.0.0.0 then; in IPv6 the rule holds if the
    /// table it leads to gives the packet that source.
    Unsourced {
        /// The destination.
        to: IpNet,
        /// 0.0.0.0, or the source that it would have.
        from: IpAddr,
    },
}

/// A rule that leads to a routing table, by our protocol number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// When its turn comes; the main table's is 32766.
    pub priority: u32,
    /// Which packets it leads there.
    pub selector: Selector,
}

impl Rule {
    /// What it compares with.
    pub fn net(&self) -> IpNet {
        match self.selector {
            Selector::From(net) | Selector::Unsourced { to: net, .. } => net,
        }
    }
}

/// A routing table beside the main one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoutingTable {
    /// What leads to it.
    pub rules: BTreeSet<Rule>,
    /// What is in it.
    pub routes: BTreeSet<Route>,
}

/// A sysctl below `/proc/sys/net` in the namespace at hand, as path components: interface names may hold dots.
///
/// They are written in this order: the interfaces' own settings before the switches that would change them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sysctl {
    /// net.ipv4.conf.DEVICE.NAME; `None` is `all`.
    Ipv4Conf(Option<IfName>, &'static str),
    /// net.ipv6.conf.DEVICE.NAME; `None` is `all`.
    Ipv6Conf(Option<IfName>, &'static str),
    /// net.ipv4.ip_forward
    Ipv4Forward,
    /// net.ipv6.conf.all.forwarding
    Ipv6Forward,
    /// net.bridge.bridge-nf-call-NAME
    BridgeCall(&'static str),
}

impl Sysctl {
    /// The file's path below `/proc/sys`, as `net/ipv4/conf/eth0.5/rp_filter`.
    pub fn path(&self) -> String {
        let conf = |family: &str, device: &Option<IfName>, name: &str| {
            let device = device.as_ref().map_or("all", IfName::as_str);
            format!("net/{family}/conf/{device}/{name}")
        };
        match self {
            Self::Ipv4Forward => "net/ipv4/ip_forward".to_owned(),
            Self::Ipv6Forward => conf("ipv6", &None, "forwarding"),
            Self::Ipv4Conf(device, name) => conf("ipv4", device, name),
            Self::Ipv6Conf(device, name) => conf("ipv6", device, name),
            Self::BridgeCall(name) => format!("net/bridge/bridge-nf-call-{name}"),
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// The tunnel of a VXLAN device (RFC 7348).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vxlan {
    /// The network identifier, 24 bits.
    pub vni: u32,
    /// The UDP port that it listens on and sends to.
    pub port: u16,
    /// The node's address that it sends from; its family is the underlay's.
    pub local: IpAddr,
    /// Whether it learns from what comes in where addresses are.
    pub learning: bool,
}

impl Vxlan {
    /// True if the kernel can make the one of the other without making the device anew.
    pub(crate) fn becomes(self, other: Self) -> bool {
        let fixed = |of: Self| (of.vni, of.port, of.local.is_ipv4());
        fixed(self) == fixed(other)
    }
}

/// Which underlay address a hardware address of an overlay is behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The overlay device.
    pub device: IfName,
    /// The peer's hardware address on it.
    pub mac: MacAddr,
    /// The peer's underlay address.
    pub remote: IpAddr,
}

impl FdbEntry {
    /// Where it stands beside the others: equal to those only in whose place the kernel would put it.
    pub(crate) fn beside(&self, other: &Self) -> Ordering {
        (&self.device, self.mac).cmp(&(&other.device, other.mac))
    }
}

/// A permanent entry in the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The device.
    pub device: IfName,
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub mac: MacAddr,
}

impl Neighbour {
    /// Where it stands beside the others: equal to those only in whose place the kernel would put it.
    pub(crate) fn beside(&self, other: &Self) -> Ordering {
        (&self.device, self.address).cmp(&(&other.device, other.address))
    }
}

/// What `act/netlink` reads of a namespace in one go: links with their addresses, and unicast routes of the main
/// table (all protocols: a pod's default route and a foreign route that stands in our way count too).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedNetwork {
    /// The links by name.
    pub links: BTreeMap<IfName, ObservedLink>,
    /// The routes.
    pub routes: Sorted<Route>,
    /// Tables beside the main one, by number, as far as they were asked for.
    pub tables: BTreeMap<u32, RoutingTable>,
    /// The forwarding entries of overlay devices, as far as they were asked for.
    pub fdb: Sorted<FdbEntry>,
    /// The permanent neighbours on overlay devices, as far as they were asked for.
    pub neighbours: Sorted<Neighbour>,
}

impl ObservedNetwork {
    /// The addresses of all links: what is sent to one of them is for this node itself.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.links.values().flat_map(|link| link.addresses.iter().map(|address| address.net.addr()))
    }
}
