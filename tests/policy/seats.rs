//! Which pod is where, and which address leads to it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_datapath::step::NetStep;
use selvedge_model::{NodeName, PodKey};
use selvedge_policy::testing::NODES;
use selvedge_policy::{Cluster, LocalNode, LocalPod, Whose};

use crate::ground::{Attach, BRIDGE, Ground, Place, SEATS, name, route};

/// A seat: on which node, and which one there.
pub(crate) type SeatId = (usize, usize);

/// The pods of a cluster on the ground. A pod keeps its seat for as long as it is there.
#[derive(Default)]
pub(crate) struct Seats {
    pods: BTreeMap<PodKey, SeatId>,
    /// Where an address is: of pods that are all said to have it, the first has it.
    addresses: BTreeMap<IpAddr, SeatId>,
}

impl Seats {
    /// The addresses that pods really have.
    pub(crate) fn addresses(&self) -> &BTreeMap<IpAddr, SeatId> {
        &self.addresses
    }

    /// Lets the pods of a cluster, and no others, have seats, and their addresses lead to them.
    pub(crate) fn arrange(&mut self, ground: &mut Ground, cluster: &Cluster) {
        self.seat(cluster);
        let first = |address| cluster.with_address(address).find_map(|pod| self.pods.get(&pod.key));
        let new: BTreeMap<IpAddr, SeatId> =
            cluster.addresses().filter_map(|a| Some((a, *first(a)?))).collect();
        for (address, seat) in &self.addresses {
            if new.get(address) != Some(seat) {
                ground.nodes[seat.0].seats[seat.1].take(*address);
                if !new.contains_key(address) {
                    on_the_way(ground, *address, *seat, NetStep::DeleteRoute);
                }
            }
        }
        for (address, seat) in &new {
            if self.addresses.get(address) != Some(seat) {
                ground.nodes[seat.0].seats[seat.1].give(*address);
                on_the_way(ground, *address, *seat, NetStep::ReplaceRoute);
            }
        }
        if ground.attach != Attach::Routed && self.addresses != new {
            ground.nodes.iter().for_each(|node| node.place.forget_neighbours());
        }
        self.addresses = new;
    }

    fn seat(&mut self, cluster: &Cluster) {
        let there = cluster.pods().values().filter(|pod| Cluster::is_judged(pod));
        let wanted: BTreeMap<&PodKey, usize> =
            there.filter_map(|pod| Some((&pod.key, number(pod.node.as_ref()?)))).collect();
        self.pods.retain(|key, (node, _)| wanted.get(key) == Some(node));
        for (key, node) in wanted {
            if !self.pods.contains_key(key) {
                let is_free = |seat: &usize| !self.pods.values().any(|taken| *taken == (node, *seat));
                let seat = (0..SEATS).find(is_free).expect("a seat for every pod");
                self.pods.insert(key.clone(), (node, seat));
            }
        }
    }

    /// The pods of a node as their attachments have them.
    pub(crate) fn attached(&self, ground: &Ground, cluster: &Cluster, node: usize) -> LocalNode {
        let pods = cluster.pods().values().filter_map(|pod| {
            let (on, seat) = *self.pods.get(&pod.key)?;
            let interface = ground.nodes[node].seats[seat].interface.clone();
            let addresses = pod.addresses.clone();
            (on == node).then(|| LocalPod { whose: Whose::Pod(pod.key.clone()), interface, addresses })
        });
        let bridge = (ground.attach != Attach::Routed).then(|| name(BRIDGE));
        LocalNode { pods: pods.collect(), bridge, ..LocalNode::default() }
    }
}

/// The node's place among the nodes.
fn number(node: &NodeName) -> usize {
    NODES.iter().position(|name| *name == node.as_str()).expect("one of the two nodes")
}

/// Changes the route to an address on both nodes and outside.
fn on_the_way(
    ground: &mut Ground,
    address: IpAddr,
    (node, seat): SeatId,
    change: impl Fn(selvedge_datapath::state::Route) -> NetStep,
) {
    let interface = ground.nodes[node].seats[seat].interface.to_string();
    let gateway = ground.nodes[node].addresses[usize::from(address.is_ipv6())].to_string();
    let local = change(route(IpNet::from(address), None, &interface));
    let remote = change(route(IpNet::from(address), Some(&gateway), "eth0"));
    ground.nodes[node].place.apply(&[local]);
    let others = ground.nodes.iter_mut().enumerate().filter(|(other, _)| *other != node);
    let places = others.map(|(_, other)| &mut other.place).chain([&mut ground.outside]);
    places.for_each(|place: &mut Place| place.apply(std::slice::from_ref(&remote)));
}
