//! A small cluster that a person knows by heart: three namespaces x, y and z, in each the pods a, b and c, on two
//! nodes, in both families; and what becomes of each flow between two of its pods, as a person would say it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use selvedge_model::policy::{Policy, PolicyKey};
use selvedge_model::{ContainerPort, Labels, Listing, Node, Pod, PodKey, Transport};
use serde_json::{Value, json};

use super::{NAMESPACES, NODES};
use crate::cluster::Cluster;
use crate::judge::{Flow, Protocol, Source};
use crate::read::read;

/// What is said of the cluster, and then changed perhaps.
#[derive(Debug, Clone)]
pub struct World {
    /// The nodes and their addresses.
    pub nodes: BTreeMap<&'static str, Vec<IpAddr>>,
    /// The namespaces and their labels.
    pub namespaces: BTreeMap<String, Labels>,
    /// The pods.
    pub pods: Vec<Pod>,
    /// The policies.
    pub policies: Vec<Policy>,
}

/// A flow between two pods of a [`World`], and how a person speaks of it.
#[derive(Debug, Clone)]
pub struct Trip {
    /// Who opens it, written `NAMESPACE/NAME`.
    pub from: String,
    /// Whom it is for.
    pub to: String,
    /// Its protocol; of both kinds of ICMP, [`Protocol::ICMP`].
    pub protocol: Protocol,
    /// True if it is of IPv6.
    pub v6: bool,
}

/// Pod a of x is 10.244.1.1, b of y 10.244.1.12, c of z 10.244.2.23; those called c are on the second node. Each serves
/// TCP 80 as `serve-80` and TCP 81 as `serve-81`, UDP 80 as `udp-80` and SCTP 80 as `sctp-80`.
pub fn world(policies: impl IntoIterator<Item = (&'static str, Value)>) -> World {
    let mut pods = Vec::new();
    for (n, namespace) in NAMESPACES.into_iter().enumerate() {
        for (p, name) in ["a", "b", "c"].into_iter().enumerate() {
            pods.push(pod(namespace, name, (if name == "c" { 2 } else { 1 }, 10 * n + p + 1)));
        }
    }
    let node = |number| vec![address(&format!("172.30.0.{number}")), address(&format!("fd00:30::{number}"))];
    World {
        nodes: BTreeMap::from([(NODES[0], node(1)), (NODES[1], node(2))]),
        namespaces: NAMESPACES.map(|name| (name.to_owned(), labels(&[("ns", name)]))).into(),
        pods,
        policies: policies.into_iter().map(|(key, spec)| policy(key, spec)).collect(),
    }
}

/// A pod with the label `pod` and the ports of all of them, and the address of that number on that node.
pub fn pod(namespace: &str, name: &str, (node, number): (usize, usize)) -> Pod {
    let port = |name: &str, transport, number| ContainerPort {
        name: name.into(),
        transport,
        number: NonZeroU16::new(number).expect("no zero"),
    };
    Pod {
        key: PodKey { namespace: namespace.to_owned(), name: name.to_owned() },
        uid: None,
        mirror: None,
        node: Some(format!("node-{node}").parse().expect("a node's name")),
        labels: labels(&[("pod", name)]),
        addresses: vec![
            address(&format!("10.244.{node}.{number}")),
            address(&format!("fd00:244:{node}::{number}")),
        ],
        host_network: false,
        finished: false,
        ports: vec![
            port("serve-80", Transport::Tcp, 80),
            port("serve-81", Transport::Tcp, 81),
            port("udp-80", Transport::Udp, 80),
            port("sctp-80", Transport::Sctp, 80),
        ],
    }
}

impl World {
    /// All of it as policy knows it.
    pub fn cluster(&self) -> Cluster {
        let mut listing = Listing::default();
        Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
        for (name, addresses) in &self.nodes {
            let name = name.parse().expect("a node's name");
            listing.node(Node::new(name, Vec::new(), addresses.clone()));
        }
        self.pods.iter().for_each(|pod| listing.pod(pod.clone()));
        self.namespaces.iter().for_each(|(name, labels)| listing.namespace(name, labels.clone()));
        self.policies.iter().for_each(|policy| listing.policy(policy.clone()));
        Cluster::new(&listing.finish().expect("every kind has been declared complete"))
    }

    /// The pod `NAMESPACE/NAME`, to be changed.
    pub fn pod(&mut self, key: &str) -> &mut Pod {
        self.pods.iter_mut().find(|pod| pod.key.to_string() == key).expect("there is such a pod")
    }

    /// With a policy `NAMESPACE/NAME` more, or another in its place.
    #[must_use]
    pub fn with(mut self, key: &str, spec: Value) -> Self {
        self = self.without(key);
        self.policies.push(policy(key, spec));
        self
    }

    /// Without the policy `NAMESPACE/NAME`.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.policies.retain(|policy| policy.key.to_string() != key);
        self
    }

    /// With other labels on a namespace.
    #[must_use]
    pub fn namespace(mut self, name: &str, pairs: &[(&str, &str)]) -> Self {
        self.namespaces.insert(name.to_owned(), labels(pairs));
        self
    }

    /// With other labels on the pod `NAMESPACE/NAME`.
    #[must_use]
    pub fn labelled(mut self, key: &str, pairs: &[(&str, &str)]) -> Self {
        self.pod(key).labels = labels(pairs);
        self
    }

    /// From every pod to every pod in every family that both have: each in these protocols and in ICMP.
    pub fn trips(&self, protocols: &[Protocol]) -> Vec<(Trip, Flow)> {
        let mut trips = Vec::new();
        for (from, to) in self.pods.iter().flat_map(|from| self.pods.iter().map(move |to| (from, to))) {
            let pairs =
                from.addresses.iter().flat_map(|one| to.addresses.iter().map(move |other| (*one, *other)));
            for (source, destination) in pairs.filter(|(one, other)| one.is_ipv4() == other.is_ipv4()) {
                let v6 = source.is_ipv6();
                let icmp = if v6 { Protocol::ICMPV6 } else { Protocol::ICMP };
                for protocol in protocols.iter().copied().chain([Protocol::ICMP]) {
                    let trip = Trip { from: from.key.to_string(), to: to.key.to_string(), protocol, v6 };
                    let protocol = if protocol == Protocol::ICMP { icmp } else { protocol };
                    trips.push((trip, Flow { source: Source::Address(source), destination, protocol }));
                }
            }
        }
        trips
    }
}

impl Trip {
    /// The namespace of the one who opens it.
    pub fn from_ns(&self) -> &str {
        ns(&self.from)
    }

    /// The namespace that it goes to.
    pub fn to_ns(&self) -> &str {
        ns(&self.to)
    }

    /// True if it is TCP to that port.
    pub fn tcp(&self, port: u16) -> bool {
        self.protocol == Protocol::Port(Transport::Tcp, port)
    }

    /// True if it is UDP to that port.
    pub fn udp(&self, port: u16) -> bool {
        self.protocol == Protocol::Port(Transport::Udp, port)
    }

    /// True if it is SCTP to that port.
    pub fn sctp(&self, port: u16) -> bool {
        self.protocol == Protocol::Port(Transport::Sctp, port)
    }
}

/// The address that is written so.
pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// These labels.
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The policy `NAMESPACE/NAME` of that spec, which is good.
pub fn policy(key: &str, spec: Value) -> Policy {
    let (namespace, name) = key.split_once('/').expect("a namespace and a name");
    let key = PolicyKey { namespace: namespace.to_owned(), name: name.to_owned() };
    read(key, &spec).expect("a good policy")
}

/// The namespace of `NAMESPACE/NAME`.
pub fn ns(pod: &str) -> &str {
    pod.split('/').next().unwrap_or_default()
}

/// The name of `NAMESPACE/NAME`.
pub fn name(pod: &str) -> &str {
    pod.split('/').nth(1).unwrap_or_default()
}

/// `podSelector` or `namespaceSelector` by one label.
pub fn by(key: &str, value: &str) -> Value {
    json!({"matchLabels": {key: value}})
}
