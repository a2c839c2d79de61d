//! Whether a flow passes, and why.
//!
//! This is the definition; whatever the kernel gets must come to the same. It follows the documentation of Kubernetes,
//! "Network Policies", where the words *isolated for ingress* and *isolated for egress* come from.

use std::net::IpAddr;
use std::sync::Arc;

use selvedge_model::{NodeName, Pod, Transport};

use crate::cluster::Cluster;
use crate::reason::{Party, Pass, Reason, Who};
use selvedge_model::policy::{Direction, Peer, Peers, Policy, PolicyKey, Port, Ports, Rule, Which};

/// What opens a conversation: the first packet, as it is once the destination of a Service has become a pod's. Answers,
/// and errors about a conversation, are no flows: they pass where what they belong to passes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Who opens it.
    pub source: Source,
    /// The address that it is for.
    pub destination: IpAddr,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Who opens a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Whoever has that address: a pod, or somebody outside. What another node masquerades has that node's address.
    Address(IpAddr),
    /// A process in a node's own network, such as the kubelet or a pod with `hostNetwork`.
    Host(NodeName, IpAddr),
}

/// What a flow speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// A protocol with ports, to that port.
    Port(Transport, u16),
    /// Another IP protocol, by its number.
    Other(u8),
}

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self::Other(1);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self::Other(58);
}

/// Whether a flow passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes, at the pod that opens it and at the pod that it is for.
    Allow {
        /// Why it may leave.
        egress: Pass,
        /// Why it may arrive.
        ingress: Pass,
    },
    /// It does not.
    Deny(Box<Reason>),
}

impl Verdict {
    /// True if it passes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// Judges a flow. Both ends must agree to it: the pod that opens it by the policies that isolate it for egress, the pod
/// that it is for by those that isolate it for ingress.
pub fn judge(cluster: &Cluster, flow: &Flow) -> Verdict {
    let ends = Ends::of(cluster, flow);
    match (ends.may(Direction::Egress), ends.may(Direction::Ingress)) {
        (Ok(egress), Ok(ingress)) => Verdict::Allow { egress, ingress },
        (Err(reason), _) | (_, Err(reason)) => Verdict::Deny(reason),
    }
}

/// A flow and who is at its ends.
#[derive(Debug)]
pub struct Ends<'a> {
    cluster: &'a Cluster,
    flow: &'a Flow,
    source: End<'a>,
    destination: End<'a>,
}

/// One end of a flow: an address and the pods that have it.
#[derive(Debug)]
struct End<'a> {
    address: IpAddr,
    pods: Vec<&'a Pod>,
    host: Option<&'a NodeName>,
}

impl<'a> Ends<'a> {
    /// Finds who is there.
    pub fn of(cluster: &'a Cluster, flow: &'a Flow) -> Self {
        let whoever = |address| End { address, pods: cluster.with_address(address).collect(), host: None };
        let source = match &flow.source {
            Source::Address(address) => whoever(*address),
            // Not even where a pod is said to have the same address: it was sent from the node's own network.
            Source::Host(node, address) => End { address: *address, pods: Vec::new(), host: Some(node) },
        };
        Self { cluster, flow, source, destination: whoever(flow.destination) }
    }

    fn are_one_pod(&self) -> bool {
        match (&self.source.pods[..], &self.destination.pods[..]) {
            ([one], [other]) => one.key == other.key,
            _ => false,
        }
    }

    /// The pods whose policies of that direction count, and who is at the other end.
    fn seen(&self, direction: Direction) -> (&End<'a>, &End<'a>) {
        match direction {
            Direction::Egress => (&self.source, &self.destination),
            Direction::Ingress => (&self.destination, &self.source),
        }
    }

    /// Whether one end agrees: the pod that opens the flow, or the one that it is for.
    pub fn may(&self, direction: Direction) -> Result<Pass, Box<Reason>> {
        // A pod can't block what it sends to itself, by way of a Service for example.
        if self.are_one_pod() {
            return Ok(Pass::Itself);
        }
        let (subject, _) = self.seen(direction);
        let mut pass = Pass::NoPod;
        for pod in &subject.pods {
            pass = self.may_of(pod, direction)?;
        }
        Ok(pass)
    }

    /// Whether the flow may leave a pod, or arrive at it.
    fn may_of(&self, pod: &Pod, direction: Direction) -> Result<Pass, Box<Reason>> {
        let (_, peer) = self.seen(direction);
        // A pod and its own node always reach each other, so that the kubelet can probe it.
        if self.is_own_node(pod, direction) {
            return Ok(Pass::OwnNode);
        }
        let isolating: Vec<(&Arc<Policy>, &[Rule])> = self.cluster.isolating(pod, direction).collect();
        if isolating.is_empty() {
            return Ok(Pass::NotIsolated);
        }
        let denied = || reason(pod, direction, &isolating, (peer, self.flow.protocol));
        self.admitted(pod, direction, &isolating).ok_or_else(denied)
    }

    /// What admits the flow at a pod. Policies add up: it takes one rule of any of them.
    fn admitted(
        &self,
        pod: &Pod,
        direction: Direction,
        policies: &[(&Arc<Policy>, &[Rule])],
    ) -> Option<Pass> {
        let (_, peer) = self.seen(direction);
        policies.iter().find_map(|(policy, rules)| {
            let view = View { ends: self, policy, pod, peer, direction };
            let index = rules.iter().position(|rule| view.is_admitted_by(rule))?;
            Some(Pass::Rule { policy: policy.key.clone(), direction, index })
        })
    }

    /// Why one end would not agree if the shadows were in force; `None` if it would, or if it doesn't anyway. A shadow
    /// changes nothing about what passes.
    pub fn would_deny(&self, direction: Direction) -> Option<Box<Reason>> {
        let (subject, peer) = self.seen(direction);
        let would = |pod: &&'a Pod| {
            let (cluster, mut isolating) = (self.cluster, self.cluster.isolating(pod, direction));
            // Where a policy isolates the pod already, another one can only admit more.
            if self.is_own_node(pod, direction) || isolating.next().is_some() {
                return None;
            }
            let shadows: Vec<(&Arc<Policy>, &[Rule])> = cluster.shadowing(pod, direction).collect();
            let admitted = shadows.is_empty() || self.admitted(pod, direction, &shadows).is_some();
            (!admitted).then(|| reason(pod, direction, &shadows, (peer, self.flow.protocol)))
        };
        if self.are_one_pod() { None } else { subject.pods.iter().find_map(would) }
    }

    /// True if the other end is the node that the pod is on. What it sends is known by where it was sent, not by its
    /// address: what another node has masqueraded, say, may bear that address as well.
    fn is_own_node(&self, pod: &Pod, direction: Direction) -> bool {
        match direction {
            Direction::Egress => self.cluster.is_own_node(pod, self.flow.destination),
            Direction::Ingress => self.source.host.is_some() && self.source.host == pod.node.as_ref(),
        }
    }
}

/// A flow as a policy sees it that isolates the pod at one end of it.
struct View<'a> {
    ends: &'a Ends<'a>,
    policy: &'a Policy,
    pod: &'a Pod,
    peer: &'a End<'a>,
    direction: Direction,
}

impl View<'_> {
    /// A rule admits what is both from (or to) one of its peers and to one of its ports.
    fn is_admitted_by(&self, rule: &Rule) -> bool {
        let peer = match &rule.peers {
            Peers::Anyone => true,
            Peers::Of(peers) => peers.iter().any(|peer| self.is_meant_by(peer)),
        };
        let port = match &rule.ports {
            Ports::Any => true,
            Ports::Of(ports) => ports.iter().any(|port| self.is_to(port)),
        };
        peer && port
    }

    fn is_meant_by(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Pods(peer) => {
                let own = &self.policy.key.namespace;
                let is_meant = |pod: &&Pod| self.ends.cluster.is_meant(pod, own, peer);
                !self.peer.pods.is_empty() && self.peer.pods.iter().all(is_meant)
            }
            // Whoever has the address, a pod as well.
            Peer::Block(block) => block.contains(self.peer.address),
        }
    }

    fn is_to(&self, port: &Port) -> bool {
        let Protocol::Port(transport, number) = self.ends.flow.protocol else { return false };
        let is_number = match &port.which {
            Which::All => true,
            Which::Numbers(range) => range.contains(number),
            // The name means what the pod that the flow is for calls so.
            Which::Named(name) => {
                let own = [self.pod];
                let targets = match self.direction {
                    Direction::Ingress => &own[..],
                    Direction::Egress => &self.peer.pods[..],
                };
                let port_of = |pod: &Pod| pod.port_named(name.as_str(), transport);
                let is_it = |pod: &&Pod| port_of(pod).is_some_and(|port| port.get() == number);
                !targets.is_empty() && targets.iter().all(is_it)
            }
        };
        transport == port.transport && is_number
    }
}

fn reason(
    pod: &Pod,
    direction: Direction,
    isolating: &[(&Arc<Policy>, &[Rule])],
    (peer, protocol): (&End<'_>, Protocol),
) -> Box<Reason> {
    let keys = |wanted: fn(&Policy) -> bool| -> Vec<PolicyKey> {
        let policies = isolating.iter().map(|(policy, _)| policy).filter(|policy| wanted(policy));
        policies.map(|policy| policy.key.clone()).collect()
    };
    let who = match (peer.host, &peer.pods[..]) {
        (Some(node), _) => Who::Host(node.clone()),
        (None, []) => Who::Unknown,
        (None, pods) => Who::Pods(pods.iter().map(|pod| pod.key.clone()).collect()),
    };
    // Named first is a policy that can't admit anything: it isolates, and nothing else.
    let isolator =
        isolating.iter().min_by_key(|(_, rules)| !rules.is_empty()).map(|(policy, _)| policy.key.clone());
    Box::new(Reason {
        pod: pod.key.clone(),
        direction,
        isolator,
        policies: keys(|_| true),
        refused: keys(|policy| policy.refused.is_some()),
        peer: Party { address: peer.address, who },
        protocol,
    })
}

#[cfg(test)]
mod tests;
