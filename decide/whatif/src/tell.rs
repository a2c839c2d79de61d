//! Changes as they are told.

use std::collections::BTreeMap;

use crate::compare::Unit;
use crate::groups::{Groups, Region};
use crate::merge::Rectangle;
use crate::{Change, Parties, regions};

/// Pods of a namespace that are many.
const MANY: usize = 4;

/// The changes, those that close first.
pub(crate) fn changes(groups: &Groups<'_>, rectangles: &[Rectangle]) -> Vec<Change> {
    let census = Census::of(groups);
    let change = |rectangle: &Rectangle| Change {
        effect: rectangle.becomes.effect,
        from: census.parties(&rectangle.from),
        to: census.parties(&rectangle.to),
        protocols: rectangle.becomes.ports.to_string(),
        family: rectangle.becomes.family,
        why: rectangle.becomes.why.clone(),
    };
    rectangles.iter().map(change).collect()
}

/// How many there are of everybody.
struct Census<'a> {
    groups: &'a Groups<'a>,
    pods: usize,
    in_namespaces: BTreeMap<&'a str, usize>,
    nodes: usize,
}

impl<'a> Census<'a> {
    fn of(groups: &'a Groups<'a>) -> Self {
        let mut in_namespaces: BTreeMap<&str, usize> = BTreeMap::new();
        for pod in groups.pods.iter().flat_map(|pods| &pods.members) {
            *in_namespaces.entry(&pod.key.namespace).or_default() += 1;
        }
        Self {
            groups,
            pods: in_namespaces.values().sum(),
            in_namespaces,
            nodes: groups.nodes.iter().map(|nodes| nodes.members.len()).sum(),
        }
    }

    fn parties(&self, units: &[Unit]) -> Parties {
        let mut by_namespace: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut parties = Parties::default();
        let mut outside: Vec<Region> = Vec::new();
        for unit in units {
            match *unit {
                Unit::Pods(at) => self.groups.pods[at].members.iter().for_each(|pod| {
                    by_namespace.entry(&pod.key.namespace).or_default().push(pod.key.to_string());
                }),
                Unit::Nodes(at) => {
                    let names = self.groups.nodes[at].members.iter().map(|(name, _)| name.to_string());
                    parties.nodes.extend(names);
                }
                Unit::Outside(at) => outside.push(self.groups.outside[at]),
            }
        }
        parties.pod_count = by_namespace.values().map(Vec::len).sum();
        parties.every_pod = parties.pod_count >= MANY && parties.pod_count == self.pods;
        for (namespace, pods) in by_namespace.into_iter().filter(|_| !parties.every_pod) {
            let all = pods.len() >= MANY && self.in_namespaces.get(namespace) == Some(&pods.len());
            if all { parties.namespaces.push(namespace.to_owned()) } else { parties.pods.extend(pods) }
        }
        parties.pods.sort();
        parties.nodes.sort();
        if parties.nodes.len() == self.nodes && self.nodes > 1 {
            parties.every_node = true;
            parties.nodes.clear();
        }
        parties.everybody_outside = !outside.is_empty() && outside.len() == self.groups.outside.len();
        if !parties.everybody_outside {
            let ranges: Vec<_> = outside.iter().map(|region| region.range).collect();
            parties.networks = regions::networks(&ranges).iter().map(ToString::to_string).collect();
        }
        parties
    }
}
