//! Why a flow passes or does not, as data that prints as sentences.

use std::fmt;
use std::net::IpAddr;

use selvedge_model::{NodeName, PodKey, Transport};

use crate::judge::{Protocol, Verdict};
use selvedge_model::policy::{Direction, PolicyKey};

/// Why one end of a flow agrees to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass {
    /// No pod is there that policies could be about.
    NoPod,
    /// It goes from a pod to itself.
    Itself,
    /// It goes between a pod and its own node.
    OwnNode,
    /// No policy isolates the pod in that direction.
    NotIsolated,
    /// A rule admits it.
    Rule {
        /// Whose rule.
        policy: PolicyKey,
        /// In which of its lists.
        direction: Direction,
        /// Its place there.
        index: usize,
    },
}

/// Why a flow is denied: a pod is isolated, and nothing that isolates it admits the flow.
///
/// Displayed as `selected by shop/deny-all; no rule of 2 policies admits client-0 on TCP/8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The pod whose policies don't agree to it.
    pub pod: PodKey,
    /// Of which direction they are.
    pub direction: Direction,
    /// The policy that is told of: one without rules, if there is one.
    pub isolator: Option<PolicyKey>,
    /// All policies that isolate the pod in that direction, the isolator among them.
    pub policies: Vec<PolicyKey>,
    /// Those of them that can't be read and admit nothing for that.
    pub refused: Vec<PolicyKey>,
    /// Who is at the other end.
    pub peer: Party,
    /// What the flow speaks.
    pub protocol: Protocol,
}

/// Who is at one end of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub who: Who,
}

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A pod's, or that of several that are said to have it.
    Pods(Vec<PodKey>),
    /// It was sent from a node's own network.
    Host(NodeName),
    /// Nobody's that policy knows of.
    Unknown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(isolator) = &self.isolator {
            write!(f, "selected by {isolator}; ")?;
        }
        let count = self.policies.len();
        let policies = if count == 1 { "policy" } else { "policies" };
        write!(f, "no rule of {count} {policies} admits ")?;
        self.peer.write(f, &self.pod.namespace)?;
        write!(f, " on {}", self.protocol)?;
        let refused: Vec<String> = self.refused.iter().map(PolicyKey::to_string).collect();
        if refused.is_empty() { Ok(()) } else { write!(f, " (refused, so closed: {})", refused.join(", ")) }
    }
}

impl Party {
    /// Writes who it is as somebody of a namespace would say it.
    fn write(&self, f: &mut fmt::Formatter<'_>, namespace: &str) -> fmt::Result {
        match &self.who {
            Who::Unknown => write!(f, "{}", self.address),
            Who::Host(node) => write!(f, "node {node} ({})", self.address),
            Who::Pods(pods) => {
                for (i, pod) in pods.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " or " })?;
                    if pod.namespace == namespace { f.write_str(&pod.name)? } else { write!(f, "{pod}")? }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPod => f.write_str("no pod that policies are about"),
            Self::Itself => f.write_str("a pod always reaches itself"),
            Self::OwnNode => f.write_str("a pod and its own node always reach each other"),
            Self::NotIsolated => f.write_str("no policy selects it"),
            Self::Rule { policy, direction, index } => {
                write!(f, "admitted by {policy} spec.{direction}[{index}]")
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow { egress, ingress } => write!(f, "allowed; egress: {egress}; ingress: {ingress}"),
            Self::Deny(reason) => write!(f, "denied at {}, {}: {reason}", reason.pod, reason.direction),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Port(transport, port) => {
                let name = match transport {
                    Transport::Tcp => "TCP",
                    Transport::Udp => "UDP",
                    Transport::Sctp => "SCTP",
                };
                write!(f, "{name}/{port}")
            }
            Self::ICMP => f.write_str("ICMP"),
            Self::ICMPV6 => f.write_str("ICMPv6"),
            Self::Other(number) => write!(f, "IP protocol {number}"),
        }
    }
}
