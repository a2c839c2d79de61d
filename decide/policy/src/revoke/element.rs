//! Flows as elements of the sets of revoked ones.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use selvedge_model::Tracked;
use selvedge_ruleset::set::{self, SetKey};
use selvedge_ruleset::{Comment, Data, Element, Elements, IpVersion, L4Proto, Part, Value};

use super::{Ends, Protocol};
use crate::compile::revoked::{LASTS, Revoked};

/// The packets of one direction of a flow, as the forward hook sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    source: IpAddr,
    destination: IpAddr,
    proto: L4Proto,
    /// Source and destination port; none of protocols that have none at the front of their header.
    ports: Option<(u16, u16)>,
}

/// Which direction of its flow an element stands for: it says so in its comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// That of who opened it.
    Forth,
    /// That of the answers.
    Back,
    /// It doesn't say: somebody else made the element, or the kernel between two moments.
    Unsaid,
}

const FORTH: &str = "as it was opened";
const BACK: &str = "its answers";

/// Protocols whose header begins with the two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

impl Key {
    /// Both directions of a flow; none where the end of its entry is the end of the flow.
    pub(super) fn both(flow: &Tracked) -> Vec<(Self, Way)> {
        let proto = L4Proto(flow.protocol);
        if matches!(proto, L4Proto::ICMP | L4Proto::ICMPV6) {
            return Vec::new();
        }
        let ports = flow.original.ports().zip(flow.reply.ports()).map(|((from, _), (to, _))| (from, to));
        let ports = ports.filter(|_| WITH_PORTS.contains(&flow.protocol));
        let (source, destination) = (flow.original.source, flow.reply.source);
        let forth = Self { source, destination, proto, ports };
        vec![(forth, Way::Forth), (forth.turned(), Way::Back)]
    }

    fn turned(self) -> Self {
        let ports = self.ports.map(|(from, to)| (to, from));
        Self { source: self.destination, destination: self.source, ports, ..self }
    }

    /// The set that it is in.
    pub(super) fn set(self) -> Revoked {
        let version = if self.source.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
        if self.ports.is_some() { Revoked::Flows(version) } else { Revoked::Portless(version) }
    }

    pub(super) fn parts(self) -> set::Key {
        let [mut parts, to] = [self.source, self.destination].map(|address| match address {
            IpAddr::V4(v4) => v4.parts(),
            IpAddr::V6(v6) => v6.parts(),
        });
        parts.extend(to);
        parts.extend(self.proto.parts());
        parts.extend(self.ports.into_iter().flat_map(SetKey::parts));
        parts
    }

    /// The direction that an element's key stands for.
    pub(super) fn read(parts: &[Part]) -> Option<Self> {
        let values: Vec<&Value> = parts.iter().map(Part::first).collect();
        let (ends, rest) = values.split_at_checked(2)?;
        let (source, destination): (IpAddr, IpAddr) = match ends {
            [Value::Ipv4(source), Value::Ipv4(destination)] => ((*source).into(), (*destination).into()),
            [Value::Ipv6(source), Value::Ipv6(destination)] => ((*source).into(), (*destination).into()),
            _ => return None,
        };
        let (proto, ports) = match rest {
            [Value::Proto(proto)] => (*proto, None),
            [Value::Proto(proto), Value::Port(from), Value::Port(to)] => (*proto, Some((*from, *to))),
            _ => return None,
        };
        Some(Self { source, destination, proto, ports })
    }

    fn ends(self) -> Ends {
        let protocol = Protocol::of(self.proto, self.ports.map(|(_, to)| to));
        Ends { source: self.source, destination: self.destination, protocol }
    }
}

impl Way {
    pub(super) fn element(self) -> Element {
        let comment = match self {
            Self::Forth => Some(Comment::new(FORTH)),
            Self::Back => Some(Comment::new(BACK)),
            Self::Unsaid => None,
        };
        Element { timeout: Some(LASTS), comment, ..Data::Nothing.into() }
    }

    pub(super) fn of(element: &Element) -> Self {
        match element.comment.as_ref().map(Comment::as_str) {
            Some(FORTH) => Self::Forth,
            Some(BACK) => Self::Back,
            _ => Self::Unsaid,
        }
    }

    /// The flows that an element may stand for: all of them must be allowed for it to go.
    pub(super) fn ends(self, key: Key) -> Vec<Ends> {
        match self {
            Self::Forth => vec![key.ends()],
            Self::Back => vec![key.turned().ends()],
            Self::Unsaid => vec![key.ends(), key.turned().ends()],
        }
    }
}

/// No elements yet of that set.
pub(super) fn none_of(which: Revoked) -> Elements {
    Elements { set: which.name(), set_type: which.set().set_type().clone(), elements: BTreeMap::new() }
}

/// How many elements there may be in a set: some have run out and are still counted by the kernel.
pub(super) fn room(which: Revoked) -> usize {
    let size = which.set().set_type().dynamic.map_or(0, NonZeroU32::get);
    usize::try_from(size - size / 8).unwrap_or(usize::MAX)
}
