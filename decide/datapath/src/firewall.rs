//! The nftables tables: the agent's `inet selvedge`, the plugin's `inet selvedge-cni` for networks that no agent looks
//! after, and `bridge selvedge-cni`, in which each bridge port is held to its pod's addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, IpSubnets, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use selvedge_model::mark::{AGENT_TABLE, PLUGIN_TABLE};
use selvedge_model::{IfName, NetworkName};
use selvedge_ruleset::matching::{
    IfPrefix, Match, arp_saddr_ip, daddr, fib_saddr_missing, icmpv6_type, iifname_prefix, in_set, oifname,
    oifname_prefix, saddr,
};
use selvedge_ruleset::rule::{accept, counter, drop, masquerade, return_};
use selvedge_ruleset::{
    Base, Chain, ChainName, Family, Field, Hook, Icmp6Type, ListedTable, Part, Rule, Set, SetName, Table,
    TableId, Value, priority, rule,
};

/// The agent's table.
pub const AGENT: TableId = TableId::literal(Family::Inet, AGENT_TABLE);
/// The plugin's table for networks without an agent.
pub const PLUGIN: TableId = TableId::literal(Family::Inet, PLUGIN_TABLE);
/// The table that guards bridge ports.
pub const GUARD: TableId = TableId::literal(Family::Bridge, PLUGIN_TABLE);

/// The guard's set of the ports' IPv4 addresses, `ifname . ipv4_addr`.
pub const GUARDED4: SetName = SetName::literal("addresses4");
/// The guard's set of the ports' IPv6 addresses, `ifname . ipv6_addr`.
pub const GUARDED6: SetName = SetName::literal("addresses6");

const HOST_ENDS: IfPrefix = IfPrefix::literal(selvedge_model::names::HOST_VETH_PREFIX);
const PREROUTING: ChainName = ChainName::literal("prerouting");
const FORWARD: ChainName = ChainName::literal("forward");
const OUTPUT: ChainName = ChainName::literal("output");
const POSTROUTING: ChainName = ChainName::literal("postrouting");
const DIRECT4: SetName = SetName::literal("direct4");
const DIRECT6: SetName = SetName::literal("direct6");

/// What a pod network needs of a firewall.
#[derive(Debug, Clone, Copy)]
pub struct PodNetwork<'a> {
    /// The subnets whose addresses pods of this node have.
    pub subnets: &'a [IpNet],
    /// Destinations that see the pods' own addresses: the whole pod network, the nodes, and what is excluded.
    pub direct: &'a [IpNet],
    /// Whether traffic to other destinations gets the node's address.
    pub masquerade: bool,
    /// The bridge, where there is one.
    pub bridge: Option<&'a IfName>,
}

/// The agent's table. With `owned` nobody else can change it and it outlives the agent.
pub fn agent(network: PodNetwork<'_>, owned: bool) -> Table {
    let table = if owned { Table::owned() } else { Table::new() };
    let masquerading = if network.masquerade { masquerading_by_set(network.subnets) } else { Vec::new() };
    let mut table = table
        .chain(PREROUTING, spoofing())
        .chain(
            FORWARD,
            Chain::base(FILTER_FORWARD, network.subnets.iter().map(|net| no_such_pod(*net, network.bridge))),
        )
        .chain(POSTROUTING, Chain::base(NAT_POSTROUTING, masquerading))
        .set(DIRECT4, Set::of(network.direct.iter().filter_map(ipv4)))
        .set(DIRECT6, Set::of(network.direct.iter().filter_map(ipv6)));
    if let Some(bridge) = network.bridge {
        table = table.chain(OUTPUT, no_redirects(bridge));
    }
    table
}

/// True for a set of the agent's table that tells of nodes and networks, and of no policy.
pub fn tells_of_nodes(set: &SetName) -> bool {
    [&DIRECT4, &DIRECT6].contains(&set) || tunnels::NODES.contains(set) || encrypted::NETS.contains(set)
}

/// The destinations that see the pods' own addresses by the agent's table as it is now.
pub fn direct(table: &ListedTable) -> Vec<IpNet> {
    nets_of(table, &[DIRECT4, DIRECT6])
}

/// What is in sets of networks.
fn nets_of(table: &ListedTable, sets: &[SetName]) -> Vec<IpNet> {
    let sets = sets.iter().filter_map(|name| table.sets.get(name)?.known());
    let nets = |key: &Vec<Part>| match key.first().map(|part| [part.first(), part.last()]) {
        Some([Value::Ipv4(first), Value::Ipv4(last)]) => Some(Ipv4Subnets::new(*first, *last, 0).into()),
        Some([Value::Ipv6(first), Value::Ipv6(last)]) => Some(Ipv6Subnets::new(*first, *last, 0).into()),
        _ => None::<IpSubnets>,
    };
    sets.flat_map(|set| set.elements().keys().filter_map(nets).flatten()).collect()
}

const FILTER_FORWARD: Base = Base::filter(Hook::Forward, priority::FILTER);
const NAT_POSTROUTING: Base = Base::nat(Hook::Postrouting, priority::SRCNAT);

/// The chains of one network in the plugin's table, each with the network's name in its own.
pub fn standalone(name: &NetworkName, network: PodNetwork<'_>) -> Table {
    let mut table = Table::new();
    if network.masquerade {
        table = table
            .chain(chain_of("postrouting", name), Chain::base(NAT_POSTROUTING, masquerading(name, network)));
    }
    match network.bridge {
        Some(bridge) if network.subnets.iter().any(|net| matches!(net, IpNet::V6(_))) => {
            table.chain(chain_of("output", name), no_redirects(bridge))
        }
        Some(_) => table,
        None => table.chain(chain_of("prerouting", name), spoofing()),
    }
}

/// True if a chain of the plugin's table belongs to that network.
pub fn is_chain_of(chain: &ChainName, name: &NetworkName) -> bool {
    ["prerouting", "output", "postrouting"].iter().any(|hook| chain == &chain_of(hook, name))
}

fn chain_of(hook: &str, name: &NetworkName) -> ChainName {
    // A network's name has only characters that nft takes; one beyond nft's length is cut.
    let mut text = format!("{hook}-{name}");
    text.truncate(255);
    ChainName::listed(text)
}

/// A routed pod's only way to its host end is the route to its own addresses, so the routes say what it may send
/// from. Its link-local IPv6 address passes: there is a route for those on every link.
fn spoofing() -> Chain {
    let base = Base::filter(Hook::Prerouting, priority::RAW);
    let rule = rule![iifname_prefix(&HOST_ENDS), fib_saddr_missing(), counter(), drop()];
    Chain::base(base, [rule.comment("source is not the pod's")])
}

/// Same-node traffic leaves by the bridge it came in by; telling pods of a shorter way would let them around the
/// hooks (IPv4 has a sysctl for that).
fn no_redirects(bridge: &IfName) -> Chain {
    let rule = rule![oifname(bridge), icmpv6_type(Icmp6Type::REDIRECT), drop()];
    Chain::base(Base::filter(Hook::Output, priority::FILTER), [rule.comment("pods stay routed")])
}

/// A packet for an address of this node's that no pod has would go back out by the default route, and around.
fn no_such_pod(subnet: IpNet, bridge: Option<&IfName>) -> Rule {
    let rule = rule![daddr(subnet), !oifname_prefix(&HOST_ENDS)];
    let rule = bridge.into_iter().fold(rule, |rule, bridge| rule.then(!oifname(bridge)));
    rule.then(counter()).then(drop()).comment("no pod has this address")
}

fn masquerading_by_set(subnets: &[IpNet]) -> Vec<Rule> {
    let rules = |net: &IpNet| {
        let (field, set) = match net {
            IpNet::V4(_) => (Field::IpDaddr, &DIRECT4),
            IpNet::V6(_) => (Field::Ip6Daddr, &DIRECT6),
        };
        [rule![saddr(*net), !in_set([field], set), !multicast(net), masquerade()]
            .comment("leaves the pod network")]
    };
    subnets.iter().flat_map(rules).collect()
}

fn masquerading(name: &NetworkName, network: PodNetwork<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for subnet in network.subnets {
        let same_family = network.direct.iter().filter(|net| net.addr().is_ipv4() == subnet.addr().is_ipv4());
        rules.extend(same_family.map(|net| rule![saddr(*subnet), daddr(*net), return_()]));
        let rule = rule![saddr(*subnet), !multicast(subnet)];
        let rule = network.bridge.into_iter().fold(rule, |rule, bridge| rule.then(!oifname(bridge)));
        rules.push(rule.then(masquerade()));
    }
    rules.into_iter().map(|rule| rule.comment(name.as_str())).collect()
}

fn multicast(like: &IpNet) -> Match {
    match like {
        IpNet::V4(_) => daddr(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
        IpNet::V6(_) => daddr(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
    }
}

fn ipv4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}

fn ipv6(net: &IpNet) -> Option<Ipv6Net> {
    match net {
        IpNet::V4(_) => None,
        IpNet::V6(net) => Some(*net),
    }
}

/// The guard of bridge ports: each host end may send IP and ARP from its pod's addresses, neighbour discovery for
/// them, and what a host sends before it has an address; no router advertisements, no redirects, nothing else.
pub fn guard<'a>(ports: impl IntoIterator<Item = (&'a IfName, &'a [IpNet])>) -> Table {
    let pairs: Vec<(&IfName, IpNet)> =
        ports.into_iter().flat_map(|(port, nets)| nets.iter().map(move |net| (port, *net))).collect();
    let of4 = pairs.iter().filter_map(|(port, net)| Some(((*port).clone(), ipv4(net)?.addr())));
    let of6 = pairs.iter().filter_map(|(port, net)| Some(((*port).clone(), ipv6(net)?.addr())));
    Table::new().set(GUARDED4, Set::of(of4)).set(GUARDED6, Set::of(of6)).chain(
        PREROUTING,
        Chain::base(Base::filter(Hook::Prerouting, priority::BRIDGE_FILTER), guard_rules()),
    )
}

/// The ports and addresses that a guard has now.
pub fn guarded(table: &ListedTable) -> Vec<(IfName, IpNet)> {
    let sets = [GUARDED4, GUARDED6].into_iter().filter_map(|name| table.sets.get(&name)?.known());
    let pair = |key: &Vec<Part>| match [key.first()?.first(), key.get(1)?.first()] {
        [Value::IfName(port), Value::Ipv4(ip)] => Some((port.clone(), IpNet::from(IpAddr::V4(*ip)))),
        [Value::IfName(port), Value::Ipv6(ip)] => Some((port.clone(), IpNet::from(IpAddr::V6(*ip)))),
        _ => None,
    };
    sets.flat_map(|set| set.elements().keys().filter_map(pair)).collect()
}

fn guard_rules() -> Vec<Rule> {
    let own = |field, set| in_set([Field::IifName, field], set);
    let link_local = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
    vec![
        rule![!iifname_prefix(&HOST_ENDS), accept()],
        rule![own(Field::IpSaddr, &GUARDED4), accept()],
        rule![own(Field::ArpSaddrIp, &GUARDED4), accept()],
        rule![arp_saddr_ip(Ipv4Addr::UNSPECIFIED), accept()].comment("address probe"),
        rule![icmpv6_type(Icmp6Type::ROUTER_ADVERT), counter(), drop()].comment("pods are no routers"),
        rule![icmpv6_type(Icmp6Type::REDIRECT), counter(), drop()].comment("pods are no routers"),
        rule![icmpv6_type(Icmp6Type::NEIGHBOUR_ADVERT), !own(Field::NdTarget, &GUARDED6), counter(), drop()]
            .comment("advertised address is not the pod's"),
        rule![own(Field::Ip6Saddr, &GUARDED6), accept()],
        rule![saddr(link_local), accept()],
        rule![saddr(IpNet::from(IpAddr::V6(Ipv6Addr::UNSPECIFIED))), accept()].comment("address probe"),
        rule![counter(), drop()].comment("source is not the pod's"),
    ]
}

mod encrypted;
mod tunnels;

pub use encrypted::{encrypted, kept};
pub use tunnels::{nodes, tunnels, tunnels_after};

#[cfg(test)]
mod tests;
