//! One change to the kernel.

use std::fmt;

use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::{IfName, MacAddr, Mtu};

use crate::shaping::TokenBucket;
use crate::state::{Address, FdbEntry, Neighbour, Port, Route, Rule, Selector, Sysctl, Vxlan};

/// A change that `act/netlink` makes over rtnetlink or in `/proc/sys`.
///
/// Every one is idempotent as the kernel applies it: adding what is there and deleting what is gone succeed.
/// `Display` is the command an operator would type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetStep {
    /// Makes a bridge, down, with its alias, without multicast snooping and without a prefix of its own.
    CreateBridge {
        /// Its name.
        name: IfName,
        /// Its explicit address, so that ports coming and going don't change it.
        mac: MacAddr,
        /// Its MTU.
        mtu: Mtu,
        /// Its ifalias.
        alias: String,
    },
    /// Makes an ifb, down, with its alias.
    CreateIfb {
        /// Its name.
        name: IfName,
        /// Its explicit address, which nobody looks at, and nobody has a reason to change.
        mac: MacAddr,
        /// Its MTU.
        mtu: Mtu,
        /// Its ifalias.
        alias: String,
    },
    /// Makes a VXLAN device, down, with its alias.
    CreateVxlan {
        /// Its name.
        name: IfName,
        /// Its address, which peers know from our Node's name.
        mac: MacAddr,
        /// Its MTU.
        mtu: Mtu,
        /// Its ifalias.
        alias: String,
        /// Its tunnel.
        vxlan: Vxlan,
    },
    /// Makes a pod's veth pair, host end down with its alias, the peer born in the pod's namespace.
    CreateVeth(VethPair),
    /// Sets one property of a link.
    SetLink {
        /// The link.
        name: IfName,
        /// What is set.
        change: LinkChange,
    },
    /// Has a link leave the checksums of what it sends to others, or not.
    SetTxChecksums {
        /// The link.
        device: IfName,
        /// Whether it does.
        on: bool,
    },
    /// Holds what leaves a link to a rate, or to another one.
    SetBucket {
        /// The link.
        device: IfName,
        /// The rate, and what passes at once and waits.
        bucket: TokenBucket,
    },
    /// Has everything that comes in by a link go through an ifb first.
    Redirect {
        /// The link.
        device: IfName,
        /// The ifb.
        to: IfName,
    },
    /// Deletes a link.
    DeleteLink {
        /// The link.
        name: IfName,
    },
    /// Adds an address.
    AddAddress {
        /// The link.
        device: IfName,
        /// The address.
        address: Address,
    },
    /// Takes an address away.
    DeleteAddress {
        /// The link.
        device: IfName,
        /// The address.
        address: Address,
    },
    /// Adds a route. One with the same key that is there already, whoever's it is, is left as it is, and the step fails.
    AddRoute(Route),
    /// Adds a route, or replaces the one with the same key, whoever's it is: only for one that bears our mark.
    ReplaceRoute(Route),
    /// Deletes a route.
    DeleteRoute(Route),
    /// As [`NetStep::AddRoute`], in a table beside the main one.
    AddRouteIn {
        /// The table's number.
        table: u32,
        /// The route.
        route: Route,
    },
    /// Adds a rule that leads to a table.
    AddRule {
        /// The table's number.
        table: u32,
        /// The rule.
        rule: Rule,
    },
    /// Deletes a rule that leads to a table.
    DeleteRule {
        /// The table's number.
        table: u32,
        /// The rule.
        rule: Rule,
    },
    /// Says behind which underlay address a peer is, in the place of what was said before.
    SetFdb(FdbEntry),
    /// Forgets it.
    DeleteFdb(FdbEntry),
    /// Makes a neighbour known for good, in the place of the one that had the address.
    SetNeighbour(Neighbour),
    /// Forgets a neighbour.
    DeleteNeighbour(Neighbour),
    /// Writes a sysctl.
    SetSysctl {
        /// The file.
        key: Sysctl,
        /// What is written.
        value: &'static str,
    },
}

/// A veth pair to make: one end in the node's namespace, the other in the pod's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethPair {
    /// The host end's name.
    pub host: IfName,
    /// The host end's address.
    pub host_mac: MacAddr,
    /// The host end's ifalias: the owner record.
    pub alias: String,
    /// The bridge that the host end becomes a port of.
    pub master: Option<IfName>,
    /// The pod's end.
    pub pod: IfName,
    /// The pod's end's address.
    pub pod_mac: MacAddr,
    /// The MTU of both ends.
    pub mtu: Mtu,
}

/// One property of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// Sets IFF_UP.
    Up,
    /// Clears IFF_UP.
    Down,
    /// Sets the hardware address.
    Mac(MacAddr),
    /// Sets the MTU.
    Mtu(Mtu),
    /// Sets the ifalias; the empty text clears it.
    Alias(String),
    /// Puts the link into a bridge, or takes it out.
    Master(Option<IfName>),
    /// Sets the bridge port's settings.
    Port(Port),
    /// Sets the link group.
    Group(u32),
    /// Renames the link.
    Rename(IfName),
    /// Sets where a VXLAN device sends from, and that it doesn't learn.
    Vxlan(Vxlan),
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Down => f.write_str("down"),
            Self::Mac(mac) => write!(f, "address {mac}"),
            Self::Mtu(mtu) => write!(f, "mtu {mtu}"),
            Self::Alias(alias) => write!(f, "alias {alias:?}"),
            Self::Master(Some(bridge)) => write!(f, "master {bridge}"),
            Self::Master(None) => f.write_str("nomaster"),
            Self::Port(port) => {
                let [isolated, hairpin] = [port.isolated, port.hairpin].map(switch);
                write!(f, "type bridge_slave isolated {isolated} hairpin {hairpin}")
            }
            Self::Group(group) => write!(f, "group {group}"),
            Self::Rename(name) => write!(f, "name {name}"),
            Self::Vxlan(vxlan) => write!(f, "type {vxlan}"),
        }
    }
}

fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

impl NetStep {
    /// True if the kernel does nothing of its own accord on account of it: what a namespace shows afterwards is known
    /// without a look.
    pub fn is_plain(&self) -> bool {
        matches!(
            self,
            Self::AddRoute(_)
                | Self::ReplaceRoute(_)
                | Self::DeleteRoute(_)
                | Self::SetFdb(_)
                | Self::DeleteFdb(_)
                | Self::SetNeighbour(_)
                | Self::DeleteNeighbour(_)
        )
    }
}

impl fmt::Display for NetStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateBridge { name, mac, mtu, .. } => {
                write!(f, "ip link add {name} address {mac} mtu {mtu} type bridge")
            }
            Self::CreateIfb { name, mac, mtu, .. } => {
                write!(f, "ip link add {name} address {mac} mtu {mtu} type ifb")
            }
            Self::CreateVxlan { name, mac, mtu, vxlan, .. } => {
                let fragments = if *mtu > Mtu::LEAST { " df inherit" } else { "" };
                write!(f, "ip link add {name} address {mac} mtu {mtu} type {vxlan}{fragments}")
            }
            Self::CreateVeth(VethPair { host, host_mac, pod, pod_mac, mtu, .. }) => write!(
                f,
                "ip link add {host} address {host_mac} mtu {mtu} type veth peer name {pod} address {pod_mac} mtu {mtu} netns POD"
            ),
            Self::SetLink { name, change } => write!(f, "ip link set {name} {change}"),
            Self::SetTxChecksums { device, on } => write!(f, "ethtool -K {device} tx {}", switch(*on)),
            Self::SetBucket { device, bucket } => {
                write!(f, "tc qdisc replace dev {device} root handle 1: tbf {bucket}")
            }
            Self::Redirect { device, to } => write!(
                f,
                "tc qdisc replace dev {device} ingress; tc filter replace dev {device} parent ffff: protocol all prio 1 \
                 handle 800::800 u32 match u32 0 0 action mirred egress redirect dev {to}"
            ),
            Self::DeleteLink { name } => write!(f, "ip link del {name}"),
            Self::AddAddress { device, address } => write!(f, "ip addr add {address} dev {device}"),
            Self::DeleteAddress { device, address } => write!(f, "ip addr del {} dev {device}", address.net),
            Self::AddRoute(route) => write!(f, "ip route add {route}"),
            Self::ReplaceRoute(route) => write!(f, "ip route replace {route}"),
            Self::DeleteRoute(route) => write!(f, "ip route del {route}"),
            Self::AddRouteIn { table, route } => write!(f, "ip route add {route} table {table}"),
            Self::AddRule { table, rule } => write!(f, "ip {} rule add {rule} lookup {table}", family(rule)),
            Self::DeleteRule { table, rule } => {
                write!(f, "ip {} rule del {rule} lookup {table}", family(rule))
            }
            Self::SetFdb(FdbEntry { device, mac, remote }) => {
                write!(f, "bridge fdb replace {mac} dev {device} dst {remote} self permanent")
            }
            Self::DeleteFdb(FdbEntry { device, mac, .. }) => {
                write!(f, "bridge fdb del {mac} dev {device} self")
            }
            Self::SetNeighbour(Neighbour { device, address, mac }) => {
                write!(f, "ip neigh replace {address} lladdr {mac} dev {device} nud permanent")
            }
            Self::DeleteNeighbour(Neighbour { device, address, .. }) => {
                write!(f, "ip neigh del {address} dev {device}")
            }
            Self::SetSysctl { key, value } => write!(f, "sysctl -w {key}={value}"),
        }
    }
}

impl fmt::Display for Vxlan {
    /// The words after `ip link add NAME type`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let learning = if self.learning { "learning" } else { "nolearning" };
        write!(f, "vxlan id {} dstport {} local {} {learning}", self.vni, self.port, self.local)
    }
}

impl fmt::Display for Address {
    /// The words after `ip addr add`, without the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::state::Scope;
        write!(f, "{}", self.net)?;
        match self.scope {
            Scope::Global => {}
            Scope::Link => f.write_str(" scope link")?,
            Scope::Host => f.write_str(" scope host")?,
        }
        if self.nodad {
            f.write_str(" nodad")?;
        }
        if self.noprefixroute {
            f.write_str(" noprefixroute")?;
        }
        Ok(())
    }
}

/// The flag for a rule's family: `from 0.0.0.0/0` alone doesn't tell.
fn family(rule: &Rule) -> &'static str {
    if rule.net().addr().is_ipv4() { "-4" } else { "-6" }
}

impl fmt::Display for Rule {
    /// The words after `ip rule add`, without the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {} ", self.priority)?;
        match self.selector {
            Selector::From(net) => write!(f, "from {net}")?,
            Selector::Unsourced { to, from } => write!(f, "from {from} to {to}")?,
        }
        write!(f, " proto {ROUTE_PROTOCOL}")
    }
}

impl fmt::Display for Route {
    /// The words after `ip route add`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {} proto {}", self.device, self.protocol.0)?;
        if self.onlink {
            f.write_str(" onlink")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}
