//! Which flows that are tracked already are no longer allowed, and what cuts them.
//!
//! A tracked flow is judged as if it were opened now, on the address and port that it really goes to: those that its
//! answers come from. Where it is denied, both of its directions go into the sets of revoked flows, as the forward hook
//! sees them: after a destination was rewritten and before a source is. Elements of flows that are allowed again go
//! with the change that allows them, so that the same addresses and ports can be used at once.
//!
//! A ping needs no element: an echo reply opens no flow, so it ends with its entry.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use selvedge_model::{SortedMap, Tracked, Transport};
use selvedge_ruleset::{Change, Element, Elements, L4Proto, Listed, Seen, TableId, set};

use crate::cluster::Cluster;
use crate::compile::revoked::Revoked;
use crate::judge::{Flow, Protocol, Source, judge};
use crate::local::{LocalNode, Unknown, Whose};

mod element;

use element::{Key, Way};

/// Judges flows by the policies that are to be in force at a node.
#[derive(Debug, Clone)]
pub struct Revoker {
    cluster: Arc<Cluster>,
    /// The addresses of the node's pods.
    pods: BTreeMap<IpAddr, Whose>,
    /// The node's own addresses: what has one at an end doesn't pass the forward hook.
    own: BTreeSet<IpAddr>,
    unknown: Unknown,
}

/// Flows that are to be cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// Changes to the table of policy, to be made as soon as those that deny the flows are.
    pub changes: Vec<Change>,
    /// The flows. Their entries are to be deleted once the transaction is committed.
    pub flows: Vec<Tracked>,
    /// So many of them there is no room for in the sets: they may come back by the side that answers.
    pub beyond: usize,
}

/// A flow as policy sees it: who opens it, and whom it really goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
}

impl Revoker {
    /// Judges by this cluster, whose pods have been told of their addresses ([`Cluster::attach`]), at that node, which
    /// has these addresses of its own: all that its kernel shows.
    pub fn new(
        cluster: impl Into<Arc<Cluster>>,
        node: &LocalNode,
        own: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let pods = node.pods.iter().flat_map(|pod| pod.addresses.iter().map(|a| (*a, pod.whose.clone())));
        let (pods, own) = (pods.collect(), own.into_iter().collect());
        Self { cluster: cluster.into(), pods, own, unknown: node.unknown }
    }

    /// What becomes of addresses that aren't known yet.
    pub fn unknown(&self) -> Unknown {
        self.unknown
    }

    /// True if it is for this node to judge the flow: a pod of its own is at an end, and the node itself is not. A pod
    /// and its own node always reach each other.
    pub fn concerns(&self, flow: &Tracked) -> bool {
        self.is_ours(&Ends::of(flow))
    }

    /// True if it is for this node to judge the flow, and it is denied.
    pub fn denies(&self, flow: &Tracked) -> bool {
        let ends = Ends::of(flow);
        self.is_ours(&ends) && !self.allows(&ends)
    }

    /// Those of the flows that are denied, and what cuts them. `listed` is what the kernel shows: it tells how much room
    /// there is left.
    pub fn cut(&self, flows: impl IntoIterator<Item = Tracked>, listed: &Listed, table: &TableId) -> Cut {
        let mut known: BTreeMap<Ends, bool> = BTreeMap::new();
        let mut is_denied = |flow: &Tracked| {
            let ends = Ends::of(flow);
            self.is_ours(&ends) && *known.entry(ends).or_insert_with(|| !self.allows(&ends))
        };
        let flows: Vec<Tracked> = flows.into_iter().filter(|flow| is_denied(flow)).collect();
        let mut added: BTreeMap<Revoked, Elements> = BTreeMap::new();
        let mut beyond = 0;
        for flow in &flows {
            let keys = Key::both(flow);
            let Some(set) = keys.first().map(|(key, _)| key.set()) else { continue };
            let elements = added.entry(set).or_insert_with(|| element::none_of(set));
            if elements.elements.len() + present(listed, table, set).len() + keys.len() > element::room(set) {
                beyond += 1;
                continue;
            }
            elements.elements.extend(keys.into_iter().map(|(key, way)| (key.parts(), way.element())));
        }
        let added = added.into_values().filter(|elements| !elements.elements.is_empty());
        Cut { changes: added.map(Change::AddElements).collect(), flows, beyond }
    }

    /// Changes that take away the elements of flows that are allowed again, or that are none of this node's any more:
    /// to be made in the transaction that allows them, at its end.
    pub fn released(&self, listed: &Listed, table: &TableId) -> Vec<Change> {
        let is_free = |parts: &set::Key, element: &Element| {
            let ends = Key::read(parts).map(|key| Way::of(element).ends(key));
            ends.is_some_and(|ends| ends.iter().all(|ends| !self.is_ours(ends) || self.allows(ends)))
        };
        let released = Revoked::ALL.map(|which| {
            let there = present(listed, table, which);
            let free = there.iter().filter(|(parts, element)| is_free(parts, element));
            let free = free.map(|(parts, element)| (parts.clone(), element.clone()));
            Elements { elements: free.collect(), ..element::none_of(which) }
        });
        let released = released.into_iter().filter(|elements| !elements.elements.is_empty());
        // One may run out at any moment, and what isn't there can't be deleted: each is added again first.
        released
            .flat_map(|elements| [Change::AddElements(elements.clone()), Change::DeleteElements(elements)])
            .collect()
    }

    fn is_ours(&self, ends: &Ends) -> bool {
        let both = [ends.source, ends.destination];
        both.iter().any(|end| self.pods.contains_key(end)) && !both.iter().any(|end| self.own.contains(end))
    }

    fn allows(&self, ends: &Ends) -> bool {
        let is_closed = |end: &IpAddr| self.pods.get(end).is_some_and(|whose| whose.is_closed(&self.cluster));
        if ends.source == ends.destination {
            return true;
        }
        ![ends.source, ends.destination].iter().any(is_closed)
            && judge(&self.cluster, &ends.flow()).is_allowed()
    }
}

impl Flow {
    /// A tracked flow as if it were opened now.
    pub fn of(tracked: &Tracked) -> Self {
        Ends::of(tracked).flow()
    }
}

impl Ends {
    fn flow(&self) -> Flow {
        let source = Source::Address(self.source);
        Flow { source, destination: self.destination, protocol: self.protocol }
    }

    fn of(flow: &Tracked) -> Self {
        let port = flow.reply.ports().map(|(port, _)| port);
        let protocol = Protocol::of(L4Proto(flow.protocol), port);
        Self { source: flow.original.source, destination: flow.reply.source, protocol }
    }
}

impl Protocol {
    /// The protocol of that number, to a port if it has ports that policies name.
    fn of(proto: L4Proto, port: Option<u16>) -> Self {
        let transport = match proto {
            L4Proto::TCP => Some(Transport::Tcp),
            L4Proto::UDP => Some(Transport::Udp),
            L4Proto::SCTP => Some(Transport::Sctp),
            _ => None,
        };
        match transport.zip(port) {
            Some((transport, port)) => Self::Port(transport, port),
            None => Self::Other(proto.0),
        }
    }
}

/// The elements of a set of the table, as listed.
fn present(listed: &Listed, table: &TableId, which: Revoked) -> SortedMap<set::Key, Element> {
    let set = listed.get(table).and_then(|table| table.sets.get(&which.name())).and_then(Seen::known);
    set.map(|set| set.elements().clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
