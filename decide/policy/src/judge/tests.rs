//! The documentation's examples, and the cases of Kubernetes' own end-to-end tests by their descriptions: three
//! namespaces x, y and z, in each the pods a, b and c, on two nodes, in both families; every pod to every pod.

mod cases;
mod ends;
mod reasons;

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use selvedge_model::{ContainerPort, Labels, Listing, Node, PodKey};
use serde_json::{Value, json};

use super::*;
use crate::read::read;

const TCP80: Protocol = Protocol::Port(Transport::Tcp, 80);
const TCP81: Protocol = Protocol::Port(Transport::Tcp, 81);
const UDP80: Protocol = Protocol::Port(Transport::Udp, 80);
const UDP81: Protocol = Protocol::Port(Transport::Udp, 81);
const SCTP80: Protocol = Protocol::Port(Transport::Sctp, 80);

/// What a test says of the cluster, and then changes perhaps.
#[derive(Clone)]
struct World {
    nodes: BTreeMap<&'static str, Vec<IpAddr>>,
    namespaces: BTreeMap<String, Labels>,
    pods: Vec<Pod>,
    policies: Vec<Policy>,
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The policy `NAMESPACE/NAME` of that spec, which is good.
fn policy(key: &str, spec: Value) -> Policy {
    let (namespace, name) = key.split_once('/').unwrap();
    let key = PolicyKey { namespace: namespace.to_owned(), name: name.to_owned() };
    read(key, &spec).unwrap_or_else(|why| panic!("{why}"))
}

/// Pod a of x is 10.244.1.1, b of y 10.244.1.12, c of z 10.244.2.23; those called c are on the second node. Each serves
/// TCP 80 as `serve-80` and TCP 81 as `serve-81`.
fn world(policies: impl IntoIterator<Item = (&'static str, Value)>) -> World {
    let mut pods = Vec::new();
    for (n, namespace) in ["x", "y", "z"].into_iter().enumerate() {
        for (p, name) in ["a", "b", "c"].into_iter().enumerate() {
            let node = if name == "c" { 2 } else { 1 };
            let number = 10 * n + p + 1;
            let port = |number: u16| ContainerPort {
                name: format!("serve-{number}").into(),
                transport: Transport::Tcp,
                number: NonZeroU16::new(number).unwrap(),
            };
            pods.push(Pod {
                key: PodKey { namespace: namespace.to_owned(), name: name.to_owned() },
                uid: None,
                mirror: None,
                node: Some(format!("node-{node}").parse().unwrap()),
                labels: labels(&[("pod", name)]),
                addresses: vec![
                    address(&format!("10.244.{node}.{number}")),
                    address(&format!("fd00:244:{node}::{number}")),
                ],
                host_network: false,
                finished: false,
                ports: vec![port(80), port(81)],
            });
        }
    }
    let node = |number| vec![address(&format!("172.30.0.{number}")), address(&format!("fd00:30::{number}"))];
    World {
        nodes: BTreeMap::from([("node-1", node(1)), ("node-2", node(2))]),
        namespaces: ["x", "y", "z"].map(|name| (name.to_owned(), labels(&[("ns", name)]))).into(),
        pods,
        policies: policies.into_iter().map(|(key, spec)| policy(key, spec)).collect(),
    }
}

impl World {
    fn cluster(&self) -> Cluster {
        let mut listing = Listing::default();
        Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
        for (name, addresses) in &self.nodes {
            listing.node(Node {
                name: name.parse().unwrap(),
                pod_cidrs: Vec::new(),
                addresses: addresses.clone(),
            });
        }
        self.pods.iter().for_each(|pod| listing.pod(pod.clone()));
        self.namespaces.iter().for_each(|(name, labels)| listing.namespace(name, labels.clone()));
        self.policies.iter().for_each(|policy| listing.policy(policy.clone()));
        Cluster::new(&listing.finish().unwrap())
    }

    /// The pod `NAMESPACE/NAME`, to be changed.
    fn pod(&mut self, key: &str) -> &mut Pod {
        self.pods.iter_mut().find(|pod| pod.key.to_string() == key).unwrap()
    }

    fn judge(&self, source: Source, destination: &str, protocol: Protocol) -> Verdict {
        judge(&self.cluster(), &Flow { source, destination: address(destination), protocol })
    }

    /// What the address sends to the other.
    fn from(&self, source: &str, destination: &str, protocol: Protocol) -> Verdict {
        self.judge(Source::Address(address(source)), destination, protocol)
    }

    /// Every pod reaches every other where `expected` says so of the two, written `NAMESPACE/NAME`, and itself.
    fn expect(&self, protocol: Protocol, expected: impl Fn(&str, &str) -> bool) {
        let cluster = self.cluster();
        for (source, destination) in
            self.pods.iter().flat_map(|one| self.pods.iter().map(move |other| (one, other)))
        {
            let [from, to] = [source, destination].map(|pod| pod.key.to_string());
            for (one, other) in source.addresses.iter().zip(&destination.addresses) {
                let flow = Flow { source: Source::Address(*one), destination: *other, protocol };
                let verdict = judge(&cluster, &flow);
                let expected = from == to || expected(&from, &to);
                assert_eq!(
                    verdict.is_allowed(),
                    expected,
                    "{from} {one} to {to} {other} {protocol}: {verdict}"
                );
            }
        }
    }
}

/// The namespace of `NAMESPACE/NAME`.
fn ns(pod: &str) -> &str {
    pod.split('/').next().unwrap()
}

/// The name of `NAMESPACE/NAME`.
fn name(pod: &str) -> &str {
    pod.split('/').nth(1).unwrap()
}

/// `podSelector` or `namespaceSelector` by one label.
fn by(key: &str, value: &str) -> Value {
    json!({"matchLabels": {key: value}})
}
