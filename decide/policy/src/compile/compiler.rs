//! What was compiled, and what of it is kept when something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use selvedge_model::{Pod, PodKey};
use selvedge_ruleset::{ChainName, Set, SetName, Table};

use super::members::{Concerned, Members};
use super::pod::pods_at;
use crate::cluster::Cluster;
use crate::local::{LocalNode, LocalPod};
use selvedge_model::policy::{Direction, Policy};

/// If more addresses than this are concerned by a change, sets are made anew.
const MANY: usize = 1000;

/// The chains and sets of policy, and what they were made of: what has not changed since is kept the next time.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    cluster: Arc<Cluster>,
    table: Table,
    /// The chains of pods, by the policies that each is made of.
    chains: BTreeMap<ChainName, Vec<Arc<Policy>>>,
    /// Who is in the sets that change with the cluster's pods.
    members: BTreeMap<SetName, Arc<Members>>,
    pods: Pods,
    node: LocalNode,
}

/// The chains of each pod, ingress first.
type Pods = BTreeMap<PodKey, (Arc<Pod>, [Option<Option<ChainName>>; 2])>;

impl Compiled {
    /// The chains and sets.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The same with the table put into another form.
    pub(super) fn with(self, form: impl FnOnce(Table) -> Table) -> Self {
        Self { table: form(self.table), ..self }
    }

    /// The same for a later cluster, if nothing but who is in sets can have changed: nothing about the node, its pods and
    /// the policies in their namespaces.
    pub(super) fn with_members_of(&self, cluster: &Arc<Cluster>, node: &LocalNode) -> Option<Self> {
        let before = &self.cluster;
        let is_same = |(pod, address): (&LocalPod, IpAddr)| {
            pods_at(before, pod, address) == pods_at(cluster, pod, address)
        };
        let same_policies = cluster.policies().shares(before.policies());
        if !same_policies || !cluster.logs_as(before) || *node != self.node {
            return None;
        }
        let concerned = concerned(before, cluster)?;
        if !node.addresses().all(is_same) {
            return None;
        }
        let mut later = Self { cluster: Arc::clone(cluster), ..self.clone() };
        for (name, members) in &self.members {
            let edits: Vec<_> = concerned.iter().flat_map(|address| members.edits(address)).collect();
            if !edits.is_empty()
                && let Some(set) = later.table.sets.get_mut(name)
            {
                *set = set.clone().edited(edits);
            }
        }
        Some(later)
    }

    /// The same for who wants nothing else.
    pub fn into_table(self) -> Table {
        self.table
    }
}

/// Chains and sets under way.
pub(super) struct Compiler<'a> {
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) table: Table,
    before: &'a Compiled,
    /// The addresses whose pods, or their namespaces, are not as they were before; none if nothing is kept.
    concerned: Option<Vec<Concerned<'a>>>,
    chains: BTreeMap<ChainName, Vec<Arc<Policy>>>,
    members: BTreeMap<SetName, Arc<Members>>,
    pods: Pods,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(cluster: &'a Arc<Cluster>, table: Table, before: &'a Compiled) -> Self {
        let concerned = concerned(&before.cluster, cluster);
        let (chains, members, pods) = Default::default();
        Self { cluster, table, before, concerned, chains, members, pods }
    }

    pub(super) fn finish(self, node: LocalNode) -> Compiled {
        let Self { cluster, table, chains, members, pods, .. } = self;
        Compiled { cluster: Arc::clone(cluster), table, chains, members, pods, node }
    }

    /// Puts a set into the table unless it is there.
    pub(super) fn put(&mut self, name: SetName, set: impl FnOnce() -> Set) -> SetName {
        if !self.table.sets.contains_key(&name) {
            self.table.sets.insert(name.clone(), set());
        }
        name
    }

    /// Puts a set into the table that changes with the cluster's pods.
    pub(super) fn take(&mut self, name: &SetName, members: Arc<Members>) {
        let set = match (self.before.table.sets.get(name), &self.concerned) {
            (Some(set), Some(concerned)) => {
                set.clone().edited(concerned.iter().flat_map(|address| members.edits(address)))
            }
            _ => members.set(self.cluster),
        };
        self.table.sets.insert(name.clone(), set);
        self.members.insert(name.clone(), members);
    }

    /// Takes over a set of the last time, brought up to date; false if there was none.
    pub(super) fn keep(&mut self, name: &SetName) -> bool {
        let before = self.before;
        match (before.members.get(name), before.table.sets.get(name)) {
            (Some(members), _) => self.take(name, Arc::clone(members)),
            (None, Some(set)) => drop(self.put(name.clone(), || set.clone())),
            (None, None) => return false,
        }
        true
    }

    /// Takes over a chain of the last time, with its sets, if it was made of these very policies.
    pub(super) fn keep_chain(&mut self, name: &ChainName, policies: &[&Arc<Policy>]) -> bool {
        let before = self.before;
        let same = |made: &&Vec<Arc<Policy>>| {
            made.len() == policies.len()
                && made.iter().zip(policies).all(|(one, other)| Arc::ptr_eq(one, other))
        };
        before.chains.get(name).filter(same).is_some() && self.take_chain(name)
    }

    /// Takes over a chain of the last time, with its sets; false if there was none.
    fn take_chain(&mut self, name: &ChainName) -> bool {
        let before = self.before;
        let Some((made, chain)) = before.chains.get(name).zip(before.table.chains.get(name)) else {
            return false;
        };
        for set in chain.rules.iter().flat_map(|rule| rule.sets()) {
            if !self.table.sets.contains_key(set) {
                self.keep(set);
            }
        }
        self.table.chains.insert(name.clone(), chain.clone());
        self.chains.insert(name.clone(), made.clone());
        true
    }

    /// The chain that a pod had the last time, if nothing that it was made of has changed.
    pub(super) fn last_of(&mut self, pod: &Arc<Pod>, direction: Direction) -> Option<Option<ChainName>> {
        let (before, now, namespace) = (&self.before.cluster, self.cluster, &pod.key.namespace);
        let same_policies = now.policies().shares_within(before.policies(), namespace);
        if !same_policies || now.log(namespace) != before.log(namespace) {
            return None;
        }
        let (last, chains) = self.before.pods.get(&pod.key).filter(|(last, _)| last == pod)?;
        let (last, chain) = (Arc::clone(last), chains[direction as usize].clone()?);
        if let Some(name) = &chain
            && !self.table.chains.contains_key(name)
            && !self.take_chain(name)
        {
            return None;
        }
        self.remember((&last, direction), chain.clone());
        Some(chain)
    }

    /// Remembers which chain a pod has.
    pub(super) fn remember(&mut self, (pod, direction): (&Arc<Pod>, Direction), chain: Option<ChainName>) {
        let new = || (Arc::clone(pod), [None, None]);
        self.pods.entry(pod.key.clone()).or_insert_with(new).1[direction as usize] = Some(chain);
    }

    /// Remembers what a chain was made of.
    pub(super) fn made(&mut self, name: &ChainName, policies: impl IntoIterator<Item = &'a Arc<Policy>>) {
        self.chains.insert(name.clone(), policies.into_iter().cloned().collect());
    }
}

/// The addresses that any selector may judge otherwise than before.
fn concerned<'a>(before: &'a Cluster, now: &'a Cluster) -> Option<Vec<Concerned<'a>>> {
    let mut concerned = BTreeSet::new();
    let pods = now.pods().changes(before.pods());
    if pods.len() > MANY {
        return None;
    }
    for pod in pods.into_iter().flat_map(|(then, now)| then.into_iter().chain(now)) {
        concerned.extend(&pod.addresses);
    }
    for namespace in now.relabelled(before) {
        let pods = now.pods().within(namespace).iter().chain(before.pods().within(namespace));
        concerned.extend(pods.flat_map(|pod| &pod.addresses));
    }
    let all = concerned.iter().map(|address| Concerned::new((before, now), *address));
    (concerned.len() <= MANY).then(|| all.collect())
}
