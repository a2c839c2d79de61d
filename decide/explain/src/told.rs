//! Packets that the kernel told of.

use std::collections::BTreeMap;
use std::net::IpAddr;

use selvedge_model::{Log, NodeName, Transport};
use selvedge_policy::judge::Ends;
use selvedge_policy::{Cluster, Direction, Flow, LocalNode, LocalPod, Protocol, Reason, Source, Tale, Whose};
use selvedge_ruleset::{Headers, L4Proto, Logged};
use serde::Serialize;

use crate::explain::UNSEEN;
use crate::place::Place;

/// What a node knows that tells of packets.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The cluster, which has been told of the addresses of the node's pods.
    pub cluster: &'a Cluster,
    /// The node's pods.
    pub local: &'a LocalNode,
}

/// A packet, with who sent it to whom and why it fared so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// `denied`, `would deny` or `allowed`.
    pub verdict: &'static str,
    /// `ingress` or `egress`, seen from the pod that it was about.
    pub direction: String,
    /// Why, as an explanation says it.
    pub reason: String,
    /// The node that tells.
    pub node: String,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, or another's number.
    pub protocol: String,
    /// The port that it was for, if the protocol has ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Who sent it.
    pub source: End,
    /// Who it was for.
    pub destination: End,
}

/// Who is at one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The pod's namespace, if a pod is there that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The node that is there, or that the pod is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The address.
    pub address: IpAddr,
    /// The port, if the protocol has ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl Told {
    /// What there is to tell of a packet; `None` if it is none of ours, or its pod's namespace wants none of it told.
    pub fn of(logged: &Logged, known: Known<'_>) -> Option<Self> {
        let (tale, headers) = (Tale::told_with(&logged.prefix)?, logged.headers?);
        let packet = Packet { tale, headers, known };
        let direction = packet.direction();
        let log = packet.subject(direction).map_or_else(Log::default, |pod| known.cluster.log(pod));
        let is_told = match log {
            Log::Off => false,
            Log::Denied => !matches!(tale, Tale::Allowed(_)),
            Log::All => true,
        };
        is_told.then(|| packet.told(direction))
    }
}

/// A packet, as what it was told.
struct Packet<'a> {
    tale: Tale,
    headers: Headers,
    known: Known<'a>,
}

impl<'a> Packet<'a> {
    fn told(&self, direction: Direction) -> Told {
        let Headers { source, destination, ports, .. } = self.headers;
        let (from, to) = ports.unzip();
        let protocol = protocol(self.headers);
        Told {
            verdict: match self.tale {
                Tale::WouldDeny(_) => "would deny",
                Tale::Allowed(_) => "allowed",
                _ => "denied",
            },
            direction: direction.to_string(),
            reason: self.reason(direction),
            node: self.known.node.to_string(),
            protocol: match protocol {
                Protocol::Port(..) => protocol.to_string().split('/').next().unwrap_or_default().to_owned(),
                Protocol::Other(_) => protocol.to_string(),
            },
            port: to,
            source: self.end(source, from),
            destination: self.end(destination, to),
        }
    }

    /// Seen from which end's pod it was told.
    fn direction(&self) -> Direction {
        let Headers { source, destination, .. } = self.headers;
        match self.tale {
            Tale::Denied(direction) | Tale::WouldDeny(direction) | Tale::Allowed(direction) => direction,
            Tale::Foreign => Direction::Egress,
            Tale::Unseen if self.is_unseen(source) => Direction::Egress,
            Tale::Unseen => Direction::Ingress,
            // At a node the sender's chain comes first.
            Tale::Stray if self.is_isolated(source) => Direction::Egress,
            Tale::Stray => Direction::Ingress,
            Tale::Revoked => match (self.local(source), self.local(destination)) {
                (Some(_), None) => Direction::Egress,
                _ => Direction::Ingress,
            },
        }
    }

    /// The namespace of the pod that it was told of.
    fn subject(&self, direction: Direction) -> Option<&'a str> {
        let address = match direction {
            Direction::Ingress => self.headers.destination,
            Direction::Egress => self.headers.source,
        };
        if let Some(pod) = self.known.cluster.with_address(address).next() {
            return Some(&pod.key.namespace);
        }
        match &self.local(address)?.whose {
            Whose::Unseen(namespace) => namespace.as_deref(),
            Whose::Pod(key) => Some(&key.namespace),
            Whose::Nobody => None,
        }
    }

    fn reason(&self, direction: Direction) -> String {
        let flow = self.flow();
        let ends = Ends::of(self.known.cluster, &flow);
        // What is known may be younger than the rules that the packet met.
        let before =
            |now: &dyn ToString| format!("by what was in force before a change; now: {}", now.to_string());
        match (self.tale, ends.may(direction)) {
            (Tale::Unseen, _) => UNSEEN.to_owned(),
            (Tale::Stray, _) => "it opens no connection and belongs to none".to_owned(),
            (Tale::Foreign, _) => "no pod here is known to have this source".to_owned(),
            (Tale::Revoked, _) => match self.why_revoked() {
                Some(reason) => format!("its flow was allowed before; {reason}"),
                None => "its flow was allowed before, and then no longer".to_owned(),
            },
            (Tale::WouldDeny(_), may) => match (ends.would_deny(direction), may) {
                (Some(reason), _) => reason.to_string(),
                (None, Ok(pass)) => before(&pass),
                (None, Err(reason)) => before(&reason),
            },
            (Tale::Denied(_), Err(reason)) => reason.to_string(),
            (Tale::Allowed(_), Ok(pass)) => pass.to_string(),
            (_, Ok(pass)) => before(&pass),
            (_, Err(reason)) => before(&reason),
        }
    }

    /// Why a flow is denied of which this is a packet, forth or back.
    fn why_revoked(&self) -> Option<Box<Reason>> {
        let forth = self.flow();
        let Headers { source, destination, ports, .. } = self.headers;
        let ports = ports.map(|(from, to)| (to, from));
        let back = Headers { source: destination, destination: source, ports, ..self.headers };
        let back = Packet { headers: back, known: self.known, tale: self.tale }.flow();
        let denied = |flow: &Flow| {
            let ends = Ends::of(self.known.cluster, flow);
            Direction::ALL.into_iter().find_map(|direction| ends.may(direction).err())
        };
        denied(&forth).or_else(|| denied(&back))
    }

    fn flow(&self) -> Flow {
        let Headers { source, destination, .. } = self.headers;
        Flow { source: Source::Address(source), destination, protocol: protocol(self.headers) }
    }

    fn end(&self, address: IpAddr, port: Option<u16>) -> End {
        let nobody = End { namespace: None, pod: None, labels: None, node: None, address, port };
        let place = Place::at(self.known.cluster, address);
        let node = place.node().map(ToString::to_string);
        match place {
            Place::Pod(pod) => End {
                namespace: Some(pod.key.namespace.clone()),
                pod: Some(pod.key.name.clone()),
                labels: Some(BTreeMap::clone(&pod.labels)),
                node,
                ..nobody
            },
            Place::Node(..) | Place::Address(_) => End { node, ..nobody },
        }
    }

    /// The attachment here that has an address.
    fn local(&self, address: IpAddr) -> Option<&'a LocalPod> {
        self.known.local.pods.iter().find(|pod| pod.addresses.contains(&address))
    }

    fn is_unseen(&self, address: IpAddr) -> bool {
        self.local(address).is_some_and(|pod| pod.whose.is_closed(self.known.cluster))
    }

    /// True if it is a pod's here that is isolated in some direction.
    fn is_isolated(&self, address: IpAddr) -> bool {
        let cluster = self.known.cluster;
        let isolates =
            |way| cluster.with_address(address).any(|pod| cluster.isolating(pod, way).next().is_some());
        self.local(address).is_some() && Direction::ALL.into_iter().any(isolates)
    }
}

fn protocol(headers: Headers) -> Protocol {
    let transport = match headers.proto {
        L4Proto::TCP => Transport::Tcp,
        L4Proto::UDP => Transport::Udp,
        L4Proto::SCTP => Transport::Sctp,
        L4Proto(number) => return Protocol::Other(number),
    };
    headers.ports.map_or(Protocol::Other(headers.proto.0), |(_, port)| Protocol::Port(transport, port))
}

#[cfg(test)]
mod tests;
