//! Published ports: ports of the node that lead to pods. Each is an element of a map in the plugin's table, found by
//! one lookup however many there are, and its comment says whose it is.
//!
//! The rules that look into the maps are there as long as an element is. A packet for an address of this node's is
//! led to the pod before routing, one of the node's own on its way out. Where a pod comes back to itself, and where the
//! node sends from 127.0.0.1, the source is rewritten too, or no answer would find its way.

mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};
use selvedge_model::names::HOST_VETH_PREFIX;
use selvedge_model::{AttachmentKey, Gather, HostIp, IfName, NetworkName, PortMapping, Transport};
use selvedge_ruleset::matching::{daddr, fib_daddr_type, in_set, saddr};
use selvedge_ruleset::rule::{counter, dnat_map, drop, jump, masquerade, return_};
use selvedge_ruleset::set::{Key, SetData, SetKey};
use selvedge_ruleset::value::AddressType;
use selvedge_ruleset::{
    Base, Chain, ChainName, Comment, Data, Element, Field, Hook, IpVersion, L4Proto, Listed, ListedTable,
    Object, Part, Rule, Scope, Seen, Set, SetName, Table, Transaction, Value, diff, priority, rule,
};

use crate::firewall::PLUGIN;

/// The chain that looks into the maps; it is there if and only if a port is published.
pub const PUBLISHED: ChainName = ChainName::literal("published");

const PREROUTING: ChainName = ChainName::literal("published-prerouting");
const OUTPUT: ChainName = ChainName::literal("published-output");
const POSTROUTING: ChainName = ChainName::literal("published-postrouting");
const RAW: ChainName = ChainName::literal("published-raw");
const CHAINS: [ChainName; 5] = [PUBLISHED, PREROUTING, OUTPUT, POSTROUTING, RAW];

const EVERYWHERE4: SetName = SetName::literal("published4");
const EVERYWHERE6: SetName = SetName::literal("published6");
const AT4: SetName = SetName::literal("published-at4");
const AT6: SetName = SetName::literal("published-at6");
const HAIRPIN4: SetName = SetName::literal("hairpin4");
const HAIRPIN6: SetName = SetName::literal("hairpin6");
const LOOPBACK: SetName = SetName::literal("to-loopback");
const SETS: [SetName; 7] = [EVERYWHERE4, EVERYWHERE6, AT4, AT6, HAIRPIN4, HAIRPIN6, LOOPBACK];

/// No name of a network begins with it.
const FURTHER: char = '+';

const LOOPBACK4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const LOOPBACK6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
const LINK_LOCAL6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// Whose a published port is: `HOST-END CONTAINER/IFNAME NETWORK`, with a `+` before the network for a container's further
/// attachments. The host end tells owners apart. A long network's name, which is for people, may be cut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortOwner(Comment);

impl PortOwner {
    /// The attachment with that host end.
    pub fn new(host: &IfName, network: &NetworkName, key: &AttachmentKey) -> Self {
        Self(Comment::new(&format!("{host} {} {network}", key.recorded())))
    }

    /// The same for one beside the container's first: where both have a port, the first one's leads, since answers
    /// that name no source go by it.
    pub fn further(host: &IfName, network: &NetworkName, key: &AttachmentKey) -> Self {
        Self(Comment::new(&format!("{host} {} {FURTHER}{network}", key.recorded())))
    }

    fn is_further(&self) -> bool {
        self.words().2.starts_with(FURTHER)
    }

    /// True if it is the attachment with that host end.
    pub fn has(&self, host: &IfName) -> bool {
        self.words().0 == host.as_str()
    }

    /// The host end, where the comment begins with one.
    pub fn host(&self) -> Option<IfName> {
        self.words().0.parse().ok()
    }

    /// True if both are attachments of one container. Runtimes ask for its ports on each of its networks.
    pub fn is_of_same_container(&self, other: &Self) -> bool {
        let container =
            |owner: &Self| owner.words().1.rsplit_once('/').map(|(container, _)| container.to_owned());
        container(self).is_some_and(|ours| container(other).is_some_and(|theirs| ours == theirs))
    }

    /// Host end, attachment and network.
    fn words(&self) -> (&str, &str, &str) {
        let mut words = self.0.as_str().splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        (word(), word(), word())
    }
}

impl fmt::Display for PortOwner {
    /// Network and attachment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, attachment, network) = self.words();
        write!(f, "{} {attachment}", network.trim_start_matches(FURTHER))
    }
}

/// A published port, in one family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// The protocol.
    pub transport: Transport,
    /// The node's address that it is at; none means all of the pod's family.
    pub at: Option<IpAddr>,
    /// The port there.
    pub port: u16,
    /// Where it leads.
    pub pod: SocketAddr,
    /// Whose it is.
    pub owner: PortOwner,
}

impl PublishedPort {
    /// What a mapping comes to for a pod: at most one port in each family, to the pod's first address of that. None at
    /// all if the pod has no address of the family that is asked for.
    pub fn of(mapping: &PortMapping, pod: &[IpAddr], owner: &PortOwner) -> Vec<Self> {
        let first = |v4: bool| pod.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let like =
            [first(true), first(false)].into_iter().flatten().filter(|ip| mapping.host_ip.is_like(*ip));
        let port = |ip| Self {
            transport: mapping.transport,
            at: match mapping.host_ip {
                HostIp::Is(address) => Some(address),
                HostIp::Any | HostIp::AnyV4 | HostIp::AnyV6 => None,
            },
            port: mapping.host_port.get(),
            pod: SocketAddr::new(ip, mapping.container_port.get()),
            owner: owner.clone(),
        };
        like.map(port).collect()
    }

    /// True if there are packets that both would lead.
    pub fn rivals(&self, other: &Self) -> bool {
        let same = (self.transport, self.port) == (other.transport, other.port);
        let places = self.at.is_none() || other.at.is_none() || self.at == other.at;
        same && places && self.pod.is_ipv4() == other.pod.is_ipv4()
    }

    /// True if the node itself may reach the pod by it from 127.0.0.1.
    pub fn is_at_loopback(&self) -> bool {
        self.pod.is_ipv4() && self.at.is_none_or(|at| at.is_loopback())
    }

    fn proto(&self) -> L4Proto {
        match self.transport {
            Transport::Tcp => L4Proto::TCP,
            Transport::Udp => L4Proto::UDP,
            Transport::Sctp => L4Proto::SCTP,
        }
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.transport, self.port)?;
        match self.at {
            Some(address) => write!(f, " at {address}"),
            None if self.pod.is_ipv4() => f.write_str(" at 0.0.0.0"),
            None => f.write_str(" at ::"),
        }
    }
}

/// All published ports of a node. Those of one container by several of its networks may be for the same packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishedPorts {
    /// The ports.
    pub ports: BTreeSet<PublishedPort>,
    /// The links, host ends of routed pods and bridges, across which the kernel was told to carry 127.0.0.0/8
    /// (`route_localnet`). Nothing from a pod may.
    pub loopback: BTreeSet<IfName>,
}

impl PublishedPorts {
    /// The ports that are there. An element that says not whose it is counts as none.
    pub fn listed(listed: &Listed) -> Self {
        let Some(table) = listed.get(&PLUGIN) else { return Self::default() };
        let ports = [EVERYWHERE4, EVERYWHERE6, AT4, AT6].into_iter().flat_map(|map| elements(table, &map));
        let waiting =
            waiting::SETS.into_iter().flat_map(|set| elements(table, &set)).filter_map(waiting::read);
        let links = elements(table, &LOOPBACK).filter_map(|(key, _)| match key.first()?.first() {
            Value::IfName(name) => Some(name.clone()),
            _ => None,
        });
        Self { ports: ports.filter_map(read).chain(waiting).gather(), loopback: links.gather() }
    }

    /// Only the ports of owners of which that is true; and no link longer than it is needed.
    pub fn retain(&mut self, stays: impl Fn(&PortOwner) -> bool) {
        let Self { ports, loopback } = self;
        *ports = std::mem::take(ports).into_iter().filter(|port| stays(&port.owner)).gather();
        // Which of the pods of a bridge needed it is not known: it stays for as long as anybody may.
        let is_needed = |link: &IfName, port: &PublishedPort| {
            port.is_at_loopback() && (is_bridge(link) || port.owner.has(link))
        };
        loopback.retain(|link| ports.iter().any(|port| is_needed(link, port)));
    }

    /// The bridges that `before` had and these haven't: to be told to carry 127.0.0.0/8 no more.
    pub fn released<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a IfName> {
        before.loopback.iter().filter(|link| is_bridge(link) && !self.loopback.contains(link))
    }

    /// What makes the ports that are listed these.
    pub fn transaction(&self, listed: &Listed) -> Transaction {
        let desired = if self.ports.is_empty() {
            BTreeMap::new()
        } else {
            std::iter::once((PLUGIN, self.table())).gather()
        };
        let ours = |object: Object<'_>| match object {
            Object::Chain(chain) => CHAINS.contains(chain),
            Object::Set(set) => SETS.contains(set) || waiting::SETS.contains(set),
        };
        diff(&desired, listed, Scope::Part(&ours))
    }

    fn table(&self) -> Table {
        let (mut leading, mut hiding) = (Vec::new(), Vec::new());
        let [lead_now, waiting] = waiting::elected(&self.ports);
        let mut table = waiting::with_sets(Table::new(), &waiting);
        if self.ports.iter().any(|port| port.pod.is_ipv4()) {
            leading.extend(leading4());
            hiding.extend(hiding4());
            table = with_sets(table, &lead_now, v4, NAMES4);
        }
        if self.ports.iter().any(|port| port.pod.is_ipv6()) {
            leading.extend(leading6());
            hiding.extend(hiding6());
            table = with_sets(table, &lead_now, v6, NAMES6);
        }
        let nat = |hook, priority, rules| Chain::base(Base::nat(hook, priority), rules);
        let lead = || vec![rule![fib_daddr_type(AddressType::Local), jump(&PUBLISHED)]];
        table
            .set(LOOPBACK, Set::of(self.loopback.iter().cloned()))
            .chain(RAW, Chain::base(Base::filter(Hook::Prerouting, priority::RAW), guarding()))
            .chain(PUBLISHED, Chain::regular(leading))
            .chain(PREROUTING, nat(Hook::Prerouting, priority::DSTNAT, lead()))
            .chain(OUTPUT, nat(Hook::Output, priority::DSTNAT, lead()))
            .chain(POSTROUTING, nat(Hook::Postrouting, priority::SRCNAT, hiding))
    }
}

/// Host ends of pods have names that no bridge has.
fn is_bridge(link: &IfName) -> bool {
    !link.as_str().starts_with(HOST_VETH_PREFIX)
}

/// 127.0.0.0/8 is the node's own, whatever it was told to carry for it.
fn guarding() -> [Rule; 2] {
    let from = || in_set([Field::IifName], &LOOPBACK);
    [rule![from(), daddr(LOOPBACK4), counter(), drop()], rule![from(), saddr(LOOPBACK4), counter(), drop()]]
        .map(|rule| rule.comment("the node's loopback is its own"))
}

/// What one family's maps and sets are called.
struct Names {
    everywhere: SetName,
    at: SetName,
    hairpin: SetName,
}

const NAMES4: Names = Names { everywhere: EVERYWHERE4, at: AT4, hairpin: HAIRPIN4 };
const NAMES6: Names = Names { everywhere: EVERYWHERE6, at: AT6, hairpin: HAIRPIN6 };

/// The rules that rewrite IPv4 destinations, an address that was named before all others.
fn leading4() -> Vec<Rule> {
    let dnat = |key: &[Field], map| rule![dnat_map(IpVersion::V4, key, map)];
    vec![
        dnat(&[Field::IpDaddr, Field::L4Proto, Field::ThDport], &AT4),
        dnat(&[Field::L4Proto, Field::ThDport], &EVERYWHERE4),
    ]
}

/// The same for IPv6, where the kernel takes answers neither to ::1 nor to a link's own addresses.
fn leading6() -> Vec<Rule> {
    let dnat = |key: &[Field], map| rule![dnat_map(IpVersion::V6, key, map)];
    vec![
        rule![daddr(LOOPBACK6), return_()].comment("no answer would come back"),
        rule![daddr(LINK_LOCAL6), return_()].comment("no answer would come back"),
        dnat(&[Field::Ip6Daddr, Field::L4Proto, Field::ThDport], &AT6),
        dnat(&[Field::L4Proto, Field::ThDport], &EVERYWHERE6),
    ]
}

/// The rules that rewrite the source where no answer would find its way.
fn hiding4() -> Vec<Rule> {
    vec![
        rule![in_set([Field::IpSaddr, Field::IpDaddr], &HAIRPIN4), masquerade()],
        rule![saddr(LOOPBACK4), in_set([Field::OifName], &LOOPBACK), masquerade()],
    ]
}

fn hiding6() -> Vec<Rule> {
    vec![rule![in_set([Field::Ip6Saddr, Field::Ip6Daddr], &HAIRPIN6), masquerade()]]
}

/// The table with the maps and sets of one family, whose addresses `family` picks.
fn with_sets<A: SetData + Copy>(
    table: Table,
    ports: &BTreeSet<PublishedPort>,
    family: fn(IpAddr) -> Option<A>,
    names: Names,
) -> Table {
    let pods = ports.iter().filter_map(|port| Some((port, family(port.pod.ip())?)));
    let everywhere = pods.clone().filter(|(port, _)| port.at.is_none());
    let everywhere = everywhere.map(|(port, pod)| ((port.proto(), port.port), (pod, port.pod.port()), port));
    let at = pods.clone().filter_map(|(port, pod)| {
        Some(((family(port.at?)?, port.proto(), port.port), (pod, port.pod.port()), port))
    });
    table
        .set(names.everywhere, owned(everywhere))
        .set(names.at, owned(at))
        .set(names.hairpin, Set::of(pods.map(|(_, pod)| (pod, pod))))
}

/// A map whose elements say whose they are.
fn owned<'a, K: SetKey + Copy, V: SetData>(
    elements: impl Iterator<Item = (K, V, &'a PublishedPort)> + Clone,
) -> Set {
    let map = Set::map(elements.clone().map(|(key, value, _)| (key, value)));
    elements.fold(map, |map, (key, _, port)| map.comment(key, port.owner.0.clone()))
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(v6),
    }
}

/// The elements of a set that could be read.
fn elements<'a>(
    table: &'a ListedTable,
    set: &SetName,
) -> impl Iterator<Item = (&'a Key, &'a Element)> + use<'a> {
    table.sets.get(set).and_then(Seen::known).into_iter().flat_map(Set::elements)
}

/// An element of one of the maps, whichever it is; none if it says not whose it is.
fn read((key, element): (&Key, &Element)) -> Option<PublishedPort> {
    let key: Vec<&Value> = key.iter().map(Part::first).collect();
    let (at, proto, port) = match key.as_slice() {
        [Value::Proto(proto), Value::Port(port)] => (None, proto, port),
        [at, Value::Proto(proto), Value::Port(port)] => (Some(address(at)?), proto, port),
        _ => return None,
    };
    let Data::Values(values) = &element.data else { return None };
    let [pod, Value::Port(pod_port)] = values.as_slice() else { return None };
    let transport = transport(*proto)?;
    let owner = PortOwner(element.comment.clone()?);
    Some(PublishedPort { transport, at, port: *port, pod: SocketAddr::new(address(pod)?, *pod_port), owner })
}

fn transport(proto: L4Proto) -> Option<Transport> {
    match proto {
        L4Proto::TCP => Some(Transport::Tcp),
        L4Proto::UDP => Some(Transport::Udp),
        L4Proto::SCTP => Some(Transport::Sctp),
        _ => None,
    }
}

fn address(value: &Value) -> Option<IpAddr> {
    match value {
        Value::Ipv4(ip) => Some((*ip).into()),
        Value::Ipv6(ip) => Some((*ip).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
