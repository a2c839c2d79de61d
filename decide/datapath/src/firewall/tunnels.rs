//! Who may speak to the ports of tunnels: nodes, and no pod. Whoever may can send packets with any address inside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::Sorted;
use selvedge_ruleset::matching::{Match, in_set, saddr, udp_dport};
use selvedge_ruleset::rule::{counter, drop};
use selvedge_ruleset::{
    Base, Chain, ChainName, Data, Element, Field, Hook, ListedTable, Part, Rule, Set, SetName, Table, Value,
    priority, rule,
};

const INPUT: ChainName = ChainName::literal("tunnels-input");
const FORWARD: ChainName = ChainName::literal("tunnels-forward");
const NODES4: SetName = SetName::literal("nodes4");
const NODES6: SetName = SetName::literal("nodes6");
/// Who may.
pub(super) const NODES: [SetName; 2] = [NODES4, NODES6];

/// The part of the agent's table that guards those ports: in comes only what nodes send, and pods of these subnets send
/// none of them anything. What a pod sends may leave with its node's address, so the receiver alone couldn't tell.
pub fn tunnels(nodes: &Sorted<IpAddr>, ports: &[u16], subnets: &[IpNet]) -> Table {
    let families = [(Field::IpSaddr, Field::IpDaddr, &NODES4), (Field::Ip6Saddr, Field::Ip6Daddr, &NODES6)];
    let to = |port: &u16, others: Vec<Match>| -> Rule {
        let rule = others.into_iter().fold(rule![udp_dport(*port)], Rule::then);
        rule.then(counter()).then(drop())
    };
    let strangers = |port| {
        families.map(|(source, _, set)| to(port, vec![!in_set([source], set)]).comment("no node sends this"))
    };
    let pods = |port| {
        let of = move |net: &IpNet| {
            let (_, destination, set) = families[usize::from(net.addr().is_ipv6())];
            let others = vec![saddr(*net), in_set([destination], set)];
            to(port, others).comment("tunnels are the nodes' alone")
        };
        subnets.iter().map(of)
    };
    let v4 = nodes.iter().filter_map(|node| match node {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = nodes.iter().filter_map(|node| match node {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(*v6),
    });
    Table::new()
        .set(NODES4, Set::of(v4))
        .set(NODES6, Set::of(v6))
        .chain(
            INPUT,
            Chain::base(Base::filter(Hook::Input, priority::FILTER), ports.iter().flat_map(strangers)),
        )
        .chain(
            FORWARD,
            Chain::base(Base::filter(Hook::Forward, priority::FILTER), ports.iter().flat_map(pods)),
        )
}

/// The same for other nodes than it was made for.
pub fn tunnels_after(tunnels: Table, then: &Sorted<IpAddr>, now: &Sorted<IpAddr>) -> Table {
    let gone = then.difference(now).map(|node| (key(*node), None));
    let come = now.difference(then).map(|node| (key(*node), Some(Element::from(Data::Nothing))));
    let (v4, v6): (Vec<_>, Vec<_>) = gone.chain(come).partition(|((set, _), _)| *set == NODES4);
    [(NODES4, v4), (NODES6, v6)].into_iter().fold(tunnels, |mut table, (name, edits)| {
        let edits = edits.into_iter().map(|((_, key), element)| (key, element));
        match table.sets.remove(&name) {
            Some(set) => table.set(name, set.edited(edits)),
            None => table,
        }
    })
}

/// The set that a node is in, and by which key.
fn key(node: IpAddr) -> (SetName, Vec<Part>) {
    match node {
        IpAddr::V4(v4) => (NODES4, vec![Part::one(Value::Ipv4(v4))]),
        IpAddr::V6(v6) => (NODES6, vec![Part::one(Value::Ipv6(v6))]),
    }
}

/// The nodes by the agent's table as it is now; none if it guards no ports.
pub fn nodes(table: &ListedTable) -> Option<BTreeSet<IpAddr>> {
    let sets = NODES.map(|name| table.sets.get(&name)?.known());
    let [v4, v6] = sets;
    let keys = v4?.elements().keys().chain(v6?.elements().keys());
    let address = |key: &Vec<Part>| match key.first()?.first() {
        Value::Ipv4(v4) => Some(IpAddr::V4(*v4)),
        Value::Ipv6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    };
    Some(keys.filter_map(address).collect())
}
