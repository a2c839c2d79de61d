//! Who is meant by a name or an address.

use std::net::IpAddr;

use selvedge_model::{Node, NodeName, Pod, PodKey, Transport};
use selvedge_policy::{Cluster, Protocol, Source};

use crate::{Party, Query};

/// Nothing can be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Nobody is called so.
    #[error("{name:?} is no pod (namespace/name), no node and no address that is known")]
    Nobody {
        /// The name.
        name: String,
    },
    /// It has no address yet.
    #[error("{name} has no address yet")]
    NoAddress {
        /// The name.
        name: String,
    },
    /// One has IPv4 addresses only, the other IPv6 ones.
    #[error("{from} and {to} have no addresses of one family")]
    NoFamily {
        /// Who sends.
        from: String,
        /// Who it is for.
        to: String,
    },
    /// No pod is meant.
    #[error("no pod with an address is there that policies can be about")]
    NoPods,
    /// More pods are meant than anybody looks at.
    #[error("these are {count} pods, and {most} at most are shown: name one --namespace", most = crate::matrix::PODS)]
    TooMany {
        /// How many.
        count: usize,
    },
    /// There is no such protocol.
    #[error("protocol {protocol:?} is none of TCP, UDP and SCTP")]
    Protocol {
        /// The protocol as given.
        protocol: String,
    },
}

/// Somebody at an end.
#[derive(Debug, Clone)]
pub(crate) enum Place<'a> {
    Pod(&'a Pod),
    Node(&'a NodeName, &'a [IpAddr]),
    Address(IpAddr),
}

impl<'a> Place<'a> {
    pub(crate) fn find(cluster: &'a Cluster, name: &str) -> Result<Self, ExplainError> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Self::at(cluster, address));
        }
        let node = name.parse::<NodeName>().ok().and_then(|name| cluster.nodes().get(&name));
        let pod = name.parse::<PodKey>().ok().and_then(|key| cluster.pods().get(&key));
        match (node, pod) {
            (_, Some(pod)) if pod.host_network => {
                let node = pod.node.as_ref().and_then(|node| cluster.nodes().get(node));
                node.map(Self::of_node).ok_or_else(|| ExplainError::NoAddress { name: name.to_owned() })
            }
            (_, Some(pod)) => Ok(Self::Pod(pod)),
            (Some(node), None) => Ok(Self::of_node(node)),
            (None, None) => Err(ExplainError::Nobody { name: name.to_owned() }),
        }
    }

    /// Whoever has an address.
    pub(crate) fn at(cluster: &'a Cluster, address: IpAddr) -> Self {
        let node = cluster.nodes().values().find(|node| node.addresses.contains(&address));
        match (cluster.with_address(address).next(), node) {
            (Some(pod), _) => Self::Pod(pod),
            (None, Some(node)) => Self::of_node(node),
            (None, None) => Self::Address(address),
        }
    }

    fn of_node(node: &'a Node) -> Self {
        Self::Node(&node.name, &node.addresses)
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Pod(pod) => pod.key.to_string(),
            Self::Node(node, _) => node.to_string(),
            Self::Address(address) => address.to_string(),
        }
    }

    fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Pod(pod) => &pod.addresses,
            Self::Node(_, addresses) => addresses,
            Self::Address(address) => std::slice::from_ref(address),
        }
    }

    pub(crate) fn node(&self) -> Option<&'a NodeName> {
        match self {
            Self::Pod(pod) => pod.node.as_ref(),
            Self::Node(node, _) => Some(node),
            Self::Address(_) => None,
        }
    }

    pub(crate) fn source(&self, address: IpAddr) -> Source {
        match self {
            Self::Node(node, _) => Source::Host((*node).clone(), address),
            Self::Pod(_) | Self::Address(_) => Source::Address(address),
        }
    }

    pub(crate) fn party(&self, address: IpAddr) -> Party {
        let labels = match self {
            Self::Pod(pod) => Some(pod.labels.to_string()),
            Self::Node(..) | Self::Address(_) => None,
        };
        Party {
            name: self.name(),
            address: address.to_string(),
            node: self.node().map(ToString::to_string),
            labels,
        }
    }
}

/// Addresses of both that are of one family: the first that the sender has.
pub(crate) fn addresses(from: &Place<'_>, to: &Place<'_>) -> Result<(IpAddr, IpAddr), ExplainError> {
    for place in [from, to] {
        if place.addresses().is_empty() {
            return Err(ExplainError::NoAddress { name: place.name() });
        }
    }
    let like = |one: &IpAddr| to.addresses().iter().find(|other| one.is_ipv4() == other.is_ipv4());
    let pair = from.addresses().iter().find_map(|one| Some((*one, *like(one)?)));
    pair.ok_or_else(|| ExplainError::NoFamily { from: from.name(), to: to.name() })
}

/// What is spoken towards an address.
pub(crate) fn protocol(query: &Query, to: IpAddr) -> Result<Protocol, ExplainError> {
    let named = query.protocol.as_deref();
    let transport = match named.map(str::to_ascii_uppercase) {
        None => Transport::Tcp,
        Some(name) => Transport::of_kubernetes(&name)
            .ok_or_else(|| ExplainError::Protocol { protocol: named.unwrap_or_default().to_owned() })?,
    };
    Ok(match (query.port, to) {
        (Some(port), _) => Protocol::Port(transport, port),
        (None, IpAddr::V4(_)) => Protocol::ICMP,
        (None, IpAddr::V6(_)) => Protocol::ICMPV6,
    })
}
