//! Cases that a person has written ([`cases`]), and random clusters and policies, small enough to be read when a test
//! fails and dense enough that every field matters.
//!
//! The same few names, labels, networks and ports come again and again, so that selectors select and blocks contain.

pub mod cases;
mod fields;
mod flows;
mod policies;
pub mod world;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvedge_model::{
    ContainerPort, IfName, Labels, Listing, Log, Namespace, Node, NodeName, Pod, PodKey, Transport,
};

use crate::cluster::Cluster;
use crate::local::{LocalNode, LocalPod, Whose};
use selvedge_model::policy::{Policy, PolicyKey};

pub use fields::{FIELDS, fields};
pub use flows::{flows, parties};

/// The namespaces that pods are in.
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];

/// The nodes that pods are on.
pub const NODES: [&str; 2] = ["node-1", "node-2"];

/// A cluster of up to nine pods in three namespaces on two nodes, and up to eight policies, as policy knows it.
pub fn cluster() -> impl Strategy<Value = Cluster> {
    listed().prop_map(|cluster| Cluster::new(&cluster))
}

/// The same as it is listed.
pub fn listed() -> impl Strategy<Value = selvedge_model::Cluster> {
    let policies = vec(policies::policy(), 1..=8);
    (vec(namespace(), NAMESPACES.len()), vec(pod(), 3..=9), policies).prop_map(
        |(namespaces, pods, policies)| {
            let named = |(index, policy): (usize, Policy)| {
                let name = format!("policy-{index}");
                Policy { key: PolicyKey { name, ..policy.key }, ..policy }
            };
            let mut listing = nodes_and(pods);
            let known = NAMESPACES.iter().zip(namespaces);
            known.for_each(|(name, known)| known.into_iter().for_each(|one| listing.namespace(*name, one)));
            policies.into_iter().enumerate().map(named).for_each(|policy| listing.policy(policy));
            listing.finish().expect("every kind has been declared complete")
        },
    )
}

/// The nodes, and these pods on them.
fn nodes_and(pods: Vec<AnyPod>) -> Listing {
    let mut listing = Listing::default();
    Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
    (0..NODES.len()).for_each(|index| listing.node(node(index)));
    let replaces =
        |(index, pod): (usize, &AnyPod)| (pod.follows == Follows::Finished).then(|| index.wrapping_sub(1));
    let replaced: Vec<usize> = pods.iter().enumerate().filter_map(replaces).collect();
    let mut slot = Slot { node: 0, number: 0 };
    for (index, pod) in pods.into_iter().enumerate() {
        if pod.follows == Follows::Nobody {
            slot = Slot { node: pod.node, number: 3 + 7 * index };
        }
        let pod = AnyPod { finished: pod.finished || replaced.contains(&index), ..pod };
        listing.pod(pod.at(index, slot));
    }
    listing
}

/// The pods of a node as their attachments have them, each at an [`interface`] of its own.
pub fn attached(cluster: &Cluster, node: &NodeName) -> LocalNode {
    let here =
        cluster.pods().values().filter(|pod| Cluster::is_judged(pod) && pod.node.as_ref() == Some(node));
    let pods = here.map(|pod| LocalPod {
        whose: Whose::Pod(pod.key.clone()),
        interface: interface(pod),
        addresses: pod.addresses.clone(),
    });
    LocalNode { pods: pods.collect(), ..LocalNode::default() }
}

/// The host end of a pod's.
pub fn interface(pod: &Pod) -> IfName {
    format!("slv-{}-{}", pod.key.namespace, pod.key.name)
        .parse()
        .expect("short names make an interface's name")
}

fn node(index: usize) -> Node {
    let number = u16::try_from(index + 1).unwrap_or(u16::MAX);
    let v4 = Ipv4Addr::from_bits(0xac1e_0000 + u32::from(number));
    let v6 = Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, number);
    let name = NODES[index].parse().expect("a node's name");
    Node::new(name, Vec::new(), vec![v4.into(), v6.into()])
}

/// A namespace; one in some isn't known, though pods may be in it.
fn namespace() -> impl Strategy<Value = Option<Namespace>> {
    let log = prop_oneof![1 => Just(Log::Off), 2 => Just(Log::Denied), 1 => Just(Log::All)];
    let known = (labels(&["team", "env"]), log).prop_map(|(labels, log)| Namespace { labels, log });
    option::weighted(0.93, known)
}

/// Labels of pods or namespaces: each of the keys, with one of two values or not at all.
fn labels(keys: &'static [&'static str]) -> impl Strategy<Value = Labels> {
    let pair = (select(keys), select(&["1", "2"]));
    vec(pair, 0..=3).prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

/// Where a pod's addresses come from.
#[derive(Clone, Copy)]
struct Slot {
    node: usize,
    number: usize,
}

impl Slot {
    fn addresses(self, families: Families) -> Vec<IpAddr> {
        let [node, number] = [self.node + 1, self.number].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        let v4 = IpAddr::from(Ipv4Addr::from_bits(0x0af4_0000 + (u32::from(node) << 8) + u32::from(number)));
        let v6 = IpAddr::from(Ipv6Addr::new(0xfd00, 0x244, node, 0, 0, 0, 0, number));
        match families {
            Families::None => Vec::new(),
            Families::V4 => vec![v4],
            Families::V6 => vec![v6],
            Families::Both => vec![v4, v6],
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Families {
    None,
    V4,
    V6,
    Both,
}

/// A pod before it is known which one it is.
#[derive(Debug, Clone)]
struct AnyPod {
    namespace: &'static str,
    node: usize,
    labels: Labels,
    families: Families,
    host_network: bool,
    finished: bool,
    ports: BTreeMap<(&'static str, Transport), u16>,
    follows: Follows,
}

/// Whose address a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// Its own.
    Nobody,
    /// That of the pod before it, which has ended.
    Finished,
    /// That of the pod before it, of which nobody has said that it has gone.
    Lingering,
}

impl AnyPod {
    fn at(self, index: usize, slot: Slot) -> Pod {
        let node = node(self.node);
        let port = |((name, transport), number): ((&str, _), _)| {
            Some(ContainerPort { name: name.into(), transport, number: NonZeroU16::new(number)? })
        };
        Pod {
            key: PodKey { namespace: self.namespace.to_owned(), name: format!("pod-{index}") },
            uid: None,
            mirror: None,
            labels: self.labels,
            addresses: if self.host_network { node.addresses } else { slot.addresses(self.families) },
            node: Some(node.name),
            host_network: self.host_network,
            finished: self.finished,
            ports: self.ports.into_iter().filter_map(port).collect(),
        }
    }
}

fn pod() -> impl Strategy<Value = AnyPod> {
    let families = prop_oneof![
        1 => Just(Families::None), 5 => Just(Families::V4), 4 => Just(Families::V6), 8 => Just(Families::Both)
    ];
    let sometimes = || proptest::bool::weighted(0.06);
    let port = prop_oneof![
        (Just(("http", Transport::Tcp)), select(&[80, 8080][..])),
        (Just(("dns", Transport::Udp)), Just(53)),
        (Just(("dns", Transport::Tcp)), Just(53)),
        (Just(("http", Transport::Sctp)), Just(80)),
    ];
    let follows = prop_oneof![
        18 => Just(Follows::Nobody), 1 => Just(Follows::Finished), 1 => Just(Follows::Lingering)
    ];
    let place = (select(&NAMESPACES[..]), 0..NODES.len(), labels(&["app", "tier"]), families);
    let rest = (sometimes(), sometimes(), btree_map_of(port), follows);
    (place, rest).prop_map(|(place, rest)| {
        let (namespace, node, labels, families) = place;
        let (host_network, finished, ports, follows) = rest;
        AnyPod { namespace, node, labels, families, host_network, finished, ports, follows }
    })
}

/// Up to three of these pairs.
fn btree_map_of<K: Ord + std::fmt::Debug, V: std::fmt::Debug>(
    pair: impl Strategy<Value = (K, V)>,
) -> impl Strategy<Value = BTreeMap<K, V>> {
    vec(pair, 0..=3).prop_map(BTreeMap::from_iter)
}

#[cfg(test)]
mod tests;
