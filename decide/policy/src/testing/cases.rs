//! The cases of Kubernetes' own end-to-end tests of NetworkPolicy by their descriptions, and the documentation's
//! examples: in each a [`World`], or several after each other, and who reaches whom there.

mod changes;
mod combined;
mod egress;
mod ingress;
mod ports;
mod sequences;

pub use combined::combinations;

use selvedge_model::Transport;
use serde_json::{Value, json};

use super::world::{Trip, World, by, name, world};
use crate::judge::Protocol;

/// What a pod serves, and everything else that is tried: 80 and 81 of each protocol.
pub const SERVED: [Protocol; 6] = [
    Protocol::Port(Transport::Tcp, 80),
    Protocol::Port(Transport::Tcp, 81),
    Protocol::Port(Transport::Udp, 80),
    Protocol::Port(Transport::Udp, 81),
    Protocol::Port(Transport::Sctp, 80),
    Protocol::Port(Transport::Sctp, 81),
];

/// One case.
pub struct Case {
    /// What it says.
    pub name: String,
    /// One state of the cluster after another.
    pub steps: Vec<Step>,
}

/// A state of the cluster, and the truth table of it.
pub struct Step {
    /// The cluster.
    pub world: World,
    /// Whether a trip between two pods is allowed.
    truth: Box<dyn Fn(&Trip) -> bool>,
}

impl Step {
    /// Whether a trip is allowed; a pod always reaches itself.
    pub fn allows(&self, trip: &Trip) -> bool {
        trip.from == trip.to || (self.truth)(trip)
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    [ingress::cases(), egress::cases(), ports::cases(), changes::cases()].into_iter().flatten().collect()
}

pub(super) fn step(world: World, truth: impl Fn(&Trip) -> bool + 'static) -> Step {
    Step { world, truth: Box::new(truth) }
}

pub(super) fn case(name: impl Into<String>, steps: impl IntoIterator<Item = Step>) -> Case {
    Case { name: name.into(), steps: steps.into_iter().collect() }
}

/// A case of one policy.
fn one(name: &str, policy: (&'static str, Value), truth: impl Fn(&Trip) -> bool + 'static) -> Case {
    case(name, [step(world([policy]), truth)])
}

/// Every pod.
pub(super) fn all() -> Value {
    json!({})
}

/// Those with that label.
fn called(name: &str) -> Value {
    by("pod", name)
}

/// What is selected, by one expression.
pub(super) fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
    match values {
        [] => json!({"matchExpressions": [{"key": key, "operator": operator}]}),
        values => json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
    }
}

/// A policy of ingress alone.
pub(super) fn ingress(pods: Value, rules: Value) -> Value {
    json!({"podSelector": pods, "policyTypes": ["Ingress"], "ingress": rules})
}

/// A policy of egress alone.
pub(super) fn egress(pods: Value, rules: Value) -> Value {
    json!({"podSelector": pods, "policyTypes": ["Egress"], "egress": rules})
}

/// A peer: pods of the policy's own namespace.
fn pods(selector: Value) -> Value {
    json!({"podSelector": selector})
}

/// A peer: all pods of some namespaces.
fn namespaces(selector: Value) -> Value {
    json!({"namespaceSelector": selector})
}

/// A peer: pods of some namespaces.
fn both(namespaces: Value, pods: Value) -> Value {
    json!({"namespaceSelector": namespaces, "podSelector": pods})
}
