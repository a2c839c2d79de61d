//! Pods, nodes and outsiders that no policy of two clusters tells apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use selvedge_model::policy::{Direction, Peer, Peers, Policy, Ports, Rule, Which};
use selvedge_model::selector::{Requirement, Selector};
use selvedge_model::{Labels, NodeName, Pod, PodKey, Transport};
use selvedge_policy::Cluster;

use crate::ports::Cuts;
use crate::regions::{self, Regions};

/// Everybody who is at an end of a flow.
#[derive(Debug)]
pub(crate) struct Groups<'a> {
    pub(crate) pods: Vec<Pods<'a>>,
    pub(crate) nodes: Vec<Nodes<'a>>,
    pub(crate) outside: Vec<Region>,
    /// Pods that are said to have an address that another is said to have as well: they are in no group.
    pub(crate) unclear: Vec<&'a PodKey>,
}

/// Pods of one namespace that all policies treat alike, before and after.
#[derive(Debug)]
pub(crate) struct Pods<'a> {
    /// As they are now.
    pub(crate) members: Vec<&'a Pod>,
    /// Whether something that is said of them, or by the policies that isolate them in a direction, would be otherwise.
    pub(crate) changed: Changed,
    /// The ports that policies that isolate them cut.
    pub(crate) ingress: Cuts,
    /// The policies that isolate them for egress, by whose rules the other end's names count.
    pub(crate) egress: Vec<&'a Policy>,
}

/// What would be otherwise at some pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Changed {
    pub(crate) ingress: bool,
    pub(crate) egress: bool,
}

impl Changed {
    pub(crate) fn any(self) -> bool {
        self.ingress || self.egress
    }
}

/// Nodes whose addresses no block tells apart.
#[derive(Debug)]
pub(crate) struct Nodes<'a> {
    pub(crate) members: Vec<(&'a NodeName, &'a [IpAddr])>,
}

/// Addresses of nobody in the cluster that no block of a policy that matters tells apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region {
    pub(crate) range: (IpAddr, IpAddr),
    /// One that neither a pod nor a node has.
    pub(crate) address: IpAddr,
}

/// Two clusters with the same pods and nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Both<'a> {
    pub(crate) before: &'a Cluster,
    pub(crate) after: &'a Cluster,
}

/// What selectors, rules and blocks look at.
#[derive(Debug, Default)]
struct Looked<'a> {
    labels: BTreeSet<&'a str>,
    ports: BTreeSet<(&'a str, Transport)>,
    regions: Regions,
}

/// What all policies know of a pod.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    namespace: &'a str,
    before: Seen<'a>,
    after: Seen<'a>,
    places: Vec<IpAddr>,
}

/// What of a pod can be otherwise.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Seen<'a> {
    labels: Vec<(&'a str, &'a str)>,
    ports: Vec<(&'a str, Transport, u16)>,
}

impl<'a> Groups<'a> {
    pub(crate) fn of(both: Both<'a>) -> Self {
        let looked = Looked::at(&both.policies());
        let mut by_key: BTreeMap<Key<'a>, Vec<&'a Pod>> = BTreeMap::new();
        let mut unclear = Vec::new();
        let judged = both.before.pods().values().filter(|pod| Cluster::is_judged(pod));
        for pod in judged.filter(|pod| !pod.addresses.is_empty()) {
            if both.shares(pod) {
                unclear.push(&pod.key);
            } else {
                by_key.entry(looked.key(both, pod)).or_default().push(pod);
            }
        }
        let pods: Vec<Pods<'a>> =
            by_key.into_iter().map(|(key, members)| both.group(members, key.before != key.after)).collect();
        let outside = both.outside(&pods);
        Self { pods, nodes: both.nodes(&looked.regions), outside, unclear }
    }
}

impl<'a> Both<'a> {
    fn policies(self) -> Vec<&'a Policy> {
        let of = |cluster: &'a Cluster| cluster.policies().values().map(AsRef::as_ref);
        of(self.before).chain(of(self.after)).collect()
    }

    /// The pod as it would be.
    fn later(self, pod: &'a Pod) -> &'a Pod {
        self.after.pods().get(&pod.key).map_or(pod, AsRef::as_ref)
    }

    /// True if another pod is said to have one of its addresses.
    fn shares(self, pod: &Pod) -> bool {
        pod.addresses.iter().any(|address| self.before.with_address(*address).nth(1).is_some())
    }

    fn group(self, members: Vec<&'a Pod>, seen_otherwise: bool) -> Pods<'a> {
        let Some(first) = members.first().copied() else {
            return Pods {
                members,
                changed: Changed::default(),
                ingress: Cuts::default(),
                egress: Vec::new(),
            };
        };
        let later = self.later(first);
        let namespace = |cluster: &'a Cluster| cluster.namespaces().get(&first.key.namespace);
        let otherwise = seen_otherwise || namespace(self.before) != namespace(self.after);
        let isolating = |direction| -> [Vec<&'a Policy>; 2] {
            [(self.before, first), (self.after, later)].map(|(cluster, pod)| {
                cluster.isolating(pod, direction).map(|(policy, _)| policy.as_ref()).collect()
            })
        };
        let (ingress, egress) = (isolating(Direction::Ingress), isolating(Direction::Egress));
        let changed =
            Changed { ingress: otherwise || differ(&ingress), egress: otherwise || differ(&egress) };
        let mut cuts = Cuts::default();
        cuts.add(ingress.into_iter().flatten(), Direction::Ingress, &[first, later]);
        Pods { members, changed, ingress: cuts, egress: egress.concat() }
    }

    fn nodes(self, regions: &Regions) -> Vec<Nodes<'a>> {
        let mut by_place: BTreeMap<Vec<IpAddr>, Nodes<'a>> = BTreeMap::new();
        for (name, node) in self.before.nodes() {
            let places = node.addresses.iter().map(|address| regions.place(*address)).collect();
            let nodes = by_place.entry(places).or_insert_with(|| Nodes { members: Vec::new() });
            nodes.members.push((name, &node.addresses));
        }
        by_place.into_values().collect()
    }

    /// The outsiders that policies of the pods that change tell apart.
    fn outside(self, pods: &[Pods<'a>]) -> Vec<Region> {
        let changed = pods.iter().filter(|pods| pods.changed.any()).filter_map(|pods| pods.members.first());
        let isolating = changed.flat_map(|pod| {
            [(self.before, *pod), (self.after, self.later(pod))].into_iter().flat_map(|(cluster, pod)| {
                Direction::ALL.into_iter().flat_map(|direction| cluster.isolating(pod, direction))
            })
        });
        let mut policies: Vec<&Policy> = isolating.map(|(policy, _)| policy.as_ref()).collect();
        policies.sort_unstable_by_key(|policy| std::ptr::from_ref(*policy));
        policies.dedup_by_key(|policy| std::ptr::from_ref(*policy));
        let nodes = self.before.nodes().values().flat_map(|node| node.addresses.iter().copied());
        let taken: BTreeSet<IpAddr> = self.before.addresses().chain(nodes).collect();
        let all = Regions::of(policies).all().into_iter();
        all.filter_map(|range| Some(Region { range, address: regions::free(range, &taken)? })).collect()
    }
}

impl<'a> Looked<'a> {
    fn at(policies: &[&'a Policy]) -> Self {
        let mut looked = Self { regions: Regions::of(policies.iter().copied()), ..Self::default() };
        for policy in policies {
            looked.labels(&policy.selects);
            policy.ingress.iter().chain(&policy.egress).flatten().for_each(|rule| looked.rule(rule));
        }
        looked
    }

    fn rule(&mut self, rule: &'a Rule) {
        if let Peers::Of(peers) = &rule.peers {
            for peer in peers {
                if let Peer::Pods(peer) = peer {
                    self.labels(&peer.pods);
                }
            }
        }
        if let Ports::Of(ports) = &rule.ports {
            let named = ports.iter().filter_map(|port| match &port.which {
                Which::Named(name) => Some((name.as_str(), port.transport)),
                Which::All | Which::Numbers(_) => None,
            });
            self.ports.extend(named);
        }
    }

    fn labels(&mut self, selector: &'a Selector) {
        self.labels.extend(selector.requirements().map(|requirement| match requirement {
            Requirement::In(key, _)
            | Requirement::NotIn(key, _)
            | Requirement::Exists(key)
            | Requirement::DoesNotExist(key) => key.as_str(),
        }));
    }

    fn key(&self, both: Both<'a>, pod: &'a Pod) -> Key<'a> {
        Key {
            namespace: &pod.key.namespace,
            before: self.seen(pod),
            after: self.seen(both.later(pod)),
            places: pod.addresses.iter().map(|address| self.regions.place(*address)).collect(),
        }
    }

    fn seen(&self, pod: &'a Pod) -> Seen<'a> {
        let port = |(name, transport): &(&'a str, Transport)| {
            Some((*name, *transport, pod.port_named(name, *transport)?.get()))
        };
        Seen { labels: self.seen_labels(&pod.labels), ports: self.ports.iter().filter_map(port).collect() }
    }

    fn seen_labels(&self, labels: &'a Labels) -> Vec<(&'a str, &'a str)> {
        let all = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        all.filter(|(key, _)| self.labels.contains(key)).collect()
    }
}

/// Whether other policies isolate, or the same ones otherwise.
fn differ([before, after]: &[Vec<&Policy>; 2]) -> bool {
    let same = |(one, other): (&&Policy, &&Policy)| std::ptr::eq(*one, *other) || one == other;
    before.len() != after.len() || !before.iter().zip(after).all(same)
}
