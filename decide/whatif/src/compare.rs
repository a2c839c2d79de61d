//! Which flows open or close between two clusters.

use std::collections::BTreeMap;
use std::net::IpAddr;

use selvedge_model::policy::Direction;
use selvedge_model::{NodeName, Pod, PodKey};
use selvedge_policy::{Cluster, Flow, Reason, Source, Verdict, judge};

use crate::groups::{Both, Groups};
use crate::merge::{self, Rectangle};
use crate::ports::{Cuts, PortSet};
use crate::{Change, Effect, Family, tell};

/// How many flows are judged at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub usize);

impl Default for Limit {
    /// What takes some seconds.
    fn default() -> Self {
        Self(4_000_000)
    }
}

/// Whoever is at an end: the place in one of the lists of [`Groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Pods(usize),
    Nodes(usize),
    Outside(usize),
}

/// What becomes of some flows, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Becomes {
    pub(crate) effect: Effect,
    pub(crate) why: String,
    pub(crate) family: Option<Family>,
    pub(crate) ports: PortSet,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// What opens and closes.
    pub changes: Vec<Change>,
    /// Whether every flow was compared.
    pub complete: bool,
    /// Pods of which nothing is told, because each is said to have an address that another is said to have as well.
    pub unclear: Vec<PodKey>,
}

/// What opens and closes where a cluster becomes another one with the same pods and nodes.
pub fn compare(before: &Cluster, after: &Cluster, limit: Limit) -> Compared {
    let both = Both { before, after };
    let groups = Groups::of(both);
    let (rectangles, complete) = rectangles(both, &groups, limit);
    let unclear = groups.unclear.iter().copied().cloned().collect();
    Compared { changes: tell::changes(&groups, &rectangles), complete, unclear }
}

/// The same by their groups.
pub(crate) fn rectangles(both: Both<'_>, groups: &Groups<'_>, limit: Limit) -> (Vec<Rectangle>, bool) {
    let mut comparing = Comparing { both, groups, left: limit.0, found: BTreeMap::new() };
    let complete = comparing.all();
    (merge::rectangles(comparing.found, groups), complete)
}

/// What was found so far: from whom, by whom it is for.
pub(crate) type Found = BTreeMap<Becomes, BTreeMap<Unit, Vec<Unit>>>;

struct Comparing<'a> {
    both: Both<'a>,
    groups: &'a Groups<'a>,
    /// How many flows may still be judged.
    left: usize,
    found: Found,
}

impl Comparing<'_> {
    /// Compares every pair that can be otherwise; false if there were too many.
    fn all(&mut self) -> bool {
        let others = (0..self.groups.nodes.len()).map(Unit::Nodes);
        let others: Vec<Unit> = others.chain((0..self.groups.outside.len()).map(Unit::Outside)).collect();
        let changed = self.groups.pods.iter().enumerate().filter(|(_, pods)| pods.changed.any());
        for (at, pods) in changed {
            let own = Unit::Pods(at);
            for other in (0..self.groups.pods.len()).map(Unit::Pods).chain(others.iter().copied()) {
                // Two that change meet twice: those that come in are looked at first, at the other's turn.
                if pods.changed.ingress && !self.pair(other, own) {
                    return false;
                }
                if pods.changed.egress && !self.comes_in_otherwise(other) && !self.pair(own, other) {
                    return false;
                }
            }
        }
        true
    }

    fn comes_in_otherwise(&self, unit: Unit) -> bool {
        matches!(unit, Unit::Pods(at) if self.groups.pods[at].changed.ingress)
    }

    /// Compares flows from one group to another; false if no more may be judged.
    fn pair(&mut self, from: Unit, to: Unit) -> bool {
        let Some(lanes) = self.lanes(from, to) else { return true };
        let parts = self.cuts(from, to).parts();
        let cost = lanes.len() * parts.len();
        if cost > self.left {
            return false;
        }
        self.left -= cost;
        let mut by_family: BTreeMap<Family, BTreeMap<(Effect, String), PortSet>> = BTreeMap::new();
        for (source, destination) in lanes {
            let family = if destination.is_ipv4() { Family::V4 } else { Family::V6 };
            let becomes = by_family.entry(family).or_default();
            for (protocol, ports) in &parts {
                let flow = Flow { source: source.clone(), destination, protocol: *protocol };
                if let Some(found) = self.judged(&flow) {
                    becomes.entry(found).or_default().extend(ports);
                }
            }
        }
        let families: Vec<_> = by_family.values().collect();
        let alike = families.windows(2).all(|pair| pair[0] == pair[1]);
        for (index, (family, becomes)) in by_family.into_iter().enumerate() {
            let family = (!alike).then_some(family);
            for ((effect, why), ports) in becomes.into_iter().filter(|_| index == 0 || !alike) {
                let becomes = Becomes { effect, why, family, ports };
                self.found.entry(becomes).or_default().entry(to).or_default().push(from);
            }
        }
        true
    }

    /// What becomes of a flow, and why, if anything does.
    fn judged(&self, flow: &Flow) -> Option<(Effect, String)> {
        let [before, after] = [self.both.before, self.both.after].map(|cluster| judge(cluster, flow));
        match (before, after) {
            (Verdict::Allow { .. }, Verdict::Deny(reason)) => Some((Effect::Closes, denied(&reason))),
            (Verdict::Deny(reason), Verdict::Allow { egress, ingress }) => {
                let pass = match reason.direction {
                    Direction::Egress => egress,
                    Direction::Ingress => ingress,
                };
                Some((Effect::Opens, pass.to_string()))
            }
            _ => None,
        }
    }

    /// The ports that policies of both ends tell apart.
    fn cuts(&self, from: Unit, to: Unit) -> Cuts {
        let mut cuts = match to {
            Unit::Pods(at) => self.groups.pods[at].ingress.clone(),
            Unit::Nodes(_) | Unit::Outside(_) => Cuts::default(),
        };
        if let Unit::Pods(at) = from {
            let first = match to {
                Unit::Pods(at) => self.groups.pods[at].members.first().copied(),
                Unit::Nodes(_) | Unit::Outside(_) => None,
            };
            let later = first.and_then(|pod| self.both.after.pods().get(&pod.key));
            let targets: Vec<&Pod> = first.into_iter().chain(later.map(AsRef::as_ref)).collect();
            cuts.add(self.groups.pods[at].egress.iter().copied(), Direction::Egress, &targets);
        }
        cuts
    }

    /// The addresses of one that sends and one that it is for, in each family that both have, who stand for all of both
    /// groups; `None` if there is no such pair.
    fn lanes(&self, from: Unit, to: Unit) -> Option<Vec<(Source, IpAddr)>> {
        let pods = |at: usize| &self.groups.pods[at].members[..];
        let lanes = match (from, to) {
            (Unit::Pods(one), Unit::Pods(other)) => {
                let (from, to) = two(pods(one), pods(other))?;
                pairs(&from.addresses, &to.addresses, Source::Address)
            }
            (Unit::Pods(at), Unit::Nodes(node)) => {
                let (pod, (_, addresses)) = apart(pods(at), &self.groups.nodes[node].members)?;
                pairs(&pod.addresses, addresses, Source::Address)
            }
            (Unit::Nodes(node), Unit::Pods(at)) => {
                let (pod, (name, addresses)) = apart(pods(at), &self.groups.nodes[node].members)?;
                pairs(addresses, &pod.addresses, |address| Source::Host(name.clone(), address))
            }
            (Unit::Pods(at), Unit::Outside(region)) => {
                let other = [self.groups.outside[region].address];
                pairs(&pods(at).first()?.addresses, &other, Source::Address)
            }
            (Unit::Outside(region), Unit::Pods(at)) => {
                let other = [self.groups.outside[region].address];
                pairs(&other, &pods(at).first()?.addresses, Source::Address)
            }
            _ => return None,
        };
        (!lanes.is_empty()).then_some(lanes)
    }
}

/// One of each, not twice the same unless there is only one: what that sends to itself always passes.
fn two<'a>(from: &[&'a Pod], to: &[&'a Pod]) -> Option<(&'a Pod, &'a Pod)> {
    let (one, other) = (*from.first()?, *to.first()?);
    if one.key != other.key {
        return Some((one, other));
    }
    Some((one, to.get(1).copied().unwrap_or(one)))
}

/// A pod and a node that it isn't on.
fn apart<'a, 'n>(
    pods: &[&'a Pod],
    nodes: &[(&'n NodeName, &'n [IpAddr])],
) -> Option<(&'a Pod, (&'n NodeName, &'n [IpAddr]))> {
    let mut pairs = pods.iter().flat_map(|pod| nodes.iter().map(move |node| (*pod, *node)));
    pairs.find(|(pod, (name, _))| pod.node.as_ref() != Some(name))
}

fn pairs(from: &[IpAddr], to: &[IpAddr], source: impl Fn(IpAddr) -> Source) -> Vec<(Source, IpAddr)> {
    let alike = |one: &IpAddr| {
        let one = *one;
        to.iter()
            .copied()
            .filter(move |other| one.is_ipv4() == other.is_ipv4())
            .map(move |other| (one, other))
    };
    from.iter().flat_map(alike).map(|(one, other)| (source(one), other)).collect()
}

/// Why something is denied, whoever it is from and whatever it is.
pub fn denied(reason: &Reason) -> String {
    let count = reason.policies.len();
    let policies = if count == 1 { "policy" } else { "policies" };
    let isolator = reason.isolator.as_ref().map(|isolator| format!("selected by {isolator}; "));
    let refused = if reason.refused.is_empty() { "" } else { " (some are refused, so closed)" };
    let direction = reason.direction;
    format!("{direction}: {}no rule of {count} {policies} admits it{refused}", isolator.unwrap_or_default())
}
