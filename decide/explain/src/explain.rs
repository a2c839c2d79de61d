//! The answer, as one node knows it.

use std::net::IpAddr;

use selvedge_datapath::reach::{Findings, Verdict};
use selvedge_datapath::state::Route;
use selvedge_model::transport::Transport;
use selvedge_model::{NodeName, Sorted, mark};
use selvedge_policy::judge::Ends;
use selvedge_policy::{Cluster, Direction, Flow, LocalNode, Pass, Reason};
use selvedge_ruleset::{Listed, Table};

use crate::place::{ExplainError, Place, addresses, protocol};
use crate::{Explanation, Hop, Kernel, Outcome, Query, Stage, kernel};

/// Why a pod is isolated that nobody has shown.
pub(crate) const UNSEEN: &str = "no source has shown this pod yet: it is isolated until one does";

/// What a node knows.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The cluster, which has been told of the addresses of the node's pods.
    pub cluster: &'a Cluster,
    /// The node's pods.
    pub local: &'a LocalNode,
    /// Policy's part of the agent's table, as it is desired.
    pub policy: &'a Table,
    /// The node's routes, as they are desired.
    pub routes: &'a Sorted<Route>,
    /// The tables that its kernel has.
    pub listed: &'a Listed,
    /// The routes that its kernel has.
    pub there: &'a Sorted<Route>,
    /// What was measured of the ways to other nodes.
    pub findings: &'a Findings,
}

/// What becomes of it.
///
/// # Errors
/// [`ExplainError`]: an end isn't known, or has no address.
pub fn explain(query: &Query, view: View<'_>) -> Result<Explanation, ExplainError> {
    let (from, to) = (Place::find(view.cluster, &query.from)?, Place::find(view.cluster, &query.to)?);
    let (source, destination) = addresses(&from, &to)?;
    let source = view.overlay_source(&from, destination).unwrap_or(source);
    let protocol = protocol(query, destination)?;
    let flow = Flow { source: from.source(source), destination, protocol };
    let ends = Ends::of(view.cluster, &flow);
    let mut hops = Vec::new();
    if matches!(from, Place::Pod(_)) || view.is_local(source) {
        let may = view.may(source, &to, ends.may(Direction::Egress));
        let says = (may, ends.would_deny(Direction::Egress));
        hops.push(view.policy_hop(Stage::Egress, (&from, source), says));
    }
    if from.node() != to.node() {
        hops.extend(view.route_hop((&from, &to), destination));
    }
    if matches!(to, Place::Pod(_)) || view.is_local(destination) {
        let may = view.may(destination, &from, ends.may(Direction::Ingress));
        let says = (may, ends.would_deny(Direction::Ingress));
        hops.push(view.policy_hop(Stage::Ingress, (&to, destination), says));
    }
    let denied = hops.iter().find(|hop| hop.outcome == Outcome::Denied);
    let (allowed, advice) = (denied.is_none(), denied.map(|hop| advice(hop, &from, &to, &flow)));
    let (source, destination) = (from.party(source), to.party(destination));
    Ok(Explanation { source, destination, protocol: protocol.to_string(), hops, allowed, advice })
}

impl View<'_> {
    /// Whether the pod at an address agrees, who may be one that nobody has shown: it and its node reach each other, and
    /// nobody else reaches it.
    fn may(
        &self,
        address: IpAddr,
        peer: &Place<'_>,
        judged: Result<Pass, Box<Reason>>,
    ) -> Result<Pass, String> {
        let judged = judged.map_err(|reason| reason.to_string())?;
        match (self.unseen(address), peer) {
            (false, _) => Ok(judged),
            (true, Place::Node(node, _)) if *node == self.node => Ok(Pass::OwnNode),
            (true, _) => Err(UNSEEN.to_owned()),
        }
    }

    /// What a pod's policies say, and its shadows.
    fn policy_hop(
        &self,
        stage: Stage,
        (place, address): (&Place<'_>, IpAddr),
        (may, would_deny): (Result<Pass, String>, Option<Box<Reason>>),
    ) -> Hop {
        let (says, outcome) = match (may, would_deny) {
            (Ok(pass), Some(reason)) => {
                (format!("{pass} (a shadow would deny it: {reason})"), Outcome::Allowed)
            }
            (Ok(pass), None) => (pass.to_string(), Outcome::Allowed),
            (Err(reason), _) => (reason, Outcome::Denied),
        };
        let own = place.node() == Some(self.node) || self.is_local(address);
        let kernel = if own { kernel::of_policy(self.policy, self.listed) } else { Kernel::NotAsked };
        let node = if own { self.node.to_string() } else { node_of(place) };
        Hop { node, stage, says, outcome, kernel }
    }

    /// True if an attachment here has the address.
    fn is_local(&self, address: IpAddr) -> bool {
        self.local.pods.iter().any(|pod| pod.addresses.contains(&address))
    }

    /// True if the pod here that has the address is closed, because nobody has shown it.
    fn unseen(&self, address: IpAddr) -> bool {
        let mut here = self.local.pods.iter().filter(|pod| pod.addresses.contains(&address));
        here.any(|pod| pod.whose.is_closed(self.cluster))
    }

    /// The address that a node sends from into an overlay: told by our own route, if it is ours, and for another one by the
    /// route back, of which both nodes come to the same.
    fn overlay_source(&self, from: &Place<'_>, destination: IpAddr) -> Option<IpAddr> {
        let Place::Node(name, _) = from else { return None };
        let by_overlay = |route: &&Route| mark::overlay(&route.device).is_some();
        let mut routes = self.routes.iter().filter(by_overlay);
        if **name == *self.node {
            return routes.find(|route| route.destination.contains(&destination))?.source;
        }
        let cidrs = &self.cluster.nodes().get(*name)?.pod_cidrs;
        let back = routes.find(|route| {
            cidrs.contains(&route.destination) && route.destination.addr().is_ipv4() == destination.is_ipv4()
        });
        back.filter(|_| self.is_local(destination)).map(|route| route.destination.network())
    }

    /// The way from this node to another one's pod.
    fn route_hop(&self, (from, to): (&Place<'_>, &Place<'_>), destination: IpAddr) -> Option<Hop> {
        if from.node() != Some(self.node) {
            return None;
        }
        let leads = self.routes.iter().filter(|route| route.destination.contains(&destination));
        let route = leads.max_by_key(|route| route.destination.prefix_len())?;
        Some(Hop {
            node: self.node.to_string(),
            stage: Stage::Route,
            says: format!("{route}{}", self.measured(route, to.node()?)),
            outcome: Outcome::Allowed,
            kernel: kernel::of_route(route, self.there),
        })
    }

    /// What was found of the way to a node that a route leads, behind the route. Who doesn't answer may still be reached.
    fn measured(&self, route: &Route, node: &NodeName) -> String {
        let transport = mark::overlay(&route.device).unwrap_or(Transport::Direct);
        match self.findings.verdict(node, transport) {
            Verdict::Unknown => String::new(),
            Verdict::Through { mtu } => format!(" ({transport}, path MTU {mtu})"),
            Verdict::Silent => format!(" ({transport}; nothing comes back from {node})"),
        }
    }
}

fn node_of(place: &Place<'_>) -> String {
    place.node().map_or_else(|| "?".to_owned(), ToString::to_string)
}

fn advice(hop: &Hop, from: &Place<'_>, to: &Place<'_>, flow: &Flow) -> String {
    let (peer, own, what) = match hop.stage {
        Stage::Egress => (to, from, "to"),
        Stage::Route | Stage::Ingress => (from, to, "from"),
    };
    let peer = match peer {
        Place::Pod(pod) if !pod.labels.is_empty() => {
            format!("{} of namespace {}", pod.labels, pod.key.namespace)
        }
        other => other.name(),
    };
    format!("allow {what} {peer} on {} in a policy that selects {}", flow.protocol, own.name())
}

#[cfg(test)]
pub(crate) mod tests;
