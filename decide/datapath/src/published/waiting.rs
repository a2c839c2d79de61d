//! Ports that a container has published by another of its networks already: they wait for that one to go.
//!
//! Some runtimes ask for a container's ports on each of its networks. A key of the maps leads to one pod address only,
//! so of a container's several the one of its first attachment leads, and the others stand in a set beside it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use selvedge_ruleset::set::{Key, SetKey};
use selvedge_ruleset::{Element, Part, Set, SetName, Table, Value};

use super::{PortOwner, PublishedPort, address, transport, v4, v6};

const WAITING4: SetName = SetName::literal("published-waiting4");
const WAITING6: SetName = SetName::literal("published-waiting6");

/// What these sets are called.
pub(super) const SETS: [SetName; 2] = [WAITING4, WAITING6];

/// The ports that lead, and those that wait.
pub(super) fn elected(ports: &BTreeSet<PublishedPort>) -> [BTreeSet<PublishedPort>; 2] {
    let (mut taken, mut leading, mut waiting) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (further, first): (Vec<_>, Vec<_>) = ports.iter().partition(|port| port.owner.is_further());
    for port in first.into_iter().chain(further) {
        let place = (port.transport, port.at, port.port, port.pod.is_ipv4());
        let side = if taken.insert(place) { &mut leading } else { &mut waiting };
        side.insert(port.clone());
    }
    [leading, waiting]
}

/// The table with a set for each family in which a port waits.
pub(super) fn with_sets(table: Table, waiting: &BTreeSet<PublishedPort>) -> Table {
    let table = with_set(table, WAITING4, waiting, |ip| v4(ip).map(|ip| (ip, Ipv4Addr::UNSPECIFIED)));
    with_set(table, WAITING6, waiting, |ip| v6(ip).map(|ip| (ip, Ipv6Addr::UNSPECIFIED)))
}

/// `family` picks an address of its own, and says what stands for all of them.
fn with_set<A: SetKey + Copy>(
    table: Table,
    name: SetName,
    waiting: &BTreeSet<PublishedPort>,
    family: fn(IpAddr) -> Option<(A, A)>,
) -> Table {
    let key = |port: &PublishedPort| {
        let (pod, all) = family(port.pod.ip())?;
        let at = port.at.and_then(family).map_or(all, |(at, _)| at);
        Some(((port.proto(), port.port, at), (pod, port.pod.port())))
    };
    let keys: Vec<_> = waiting.iter().filter_map(|port| Some((key(port)?, port))).collect();
    if keys.is_empty() {
        return table;
    }
    let set = Set::of(keys.iter().map(|(key, _)| *key));
    table.set(name, keys.iter().fold(set, |set, (key, port)| set.comment(*key, port.owner.0.clone())))
}

/// An element of such a set; none if it says not whose it is.
pub(super) fn read((key, element): (&Key, &Element)) -> Option<PublishedPort> {
    let key: Vec<&Value> = key.iter().map(Part::first).collect();
    let [Value::Proto(proto), Value::Port(port), at, pod, Value::Port(pod_port)] = key.as_slice() else {
        return None;
    };
    Some(PublishedPort {
        transport: transport(*proto)?,
        at: address(at).filter(|at| !at.is_unspecified()),
        port: *port,
        pod: SocketAddr::new(address(pod)?, *pod_port),
        owner: PortOwner(element.comment.clone()?),
    })
}
