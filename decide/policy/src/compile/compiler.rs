//! What was compiled, and what of it is kept when something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use selvedge_ruleset::{ChainName, Set, SetName, Table};

use super::members::Members;
use crate::cluster::Cluster;
use selvedge_model::policy::Policy;

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
}

impl Compiled {
    /// The chains and sets.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The same with the table put into another form.
    pub(super) fn with(self, form: impl FnOnce(Table) -> Table) -> Self {
        Self { table: form(self.table), ..self }
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
    concerned: Option<BTreeSet<IpAddr>>,
    chains: BTreeMap<ChainName, Vec<Arc<Policy>>>,
    members: BTreeMap<SetName, Arc<Members>>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(cluster: &'a Arc<Cluster>, table: Table, before: &'a Compiled) -> Self {
        let concerned = concerned(&before.cluster, cluster);
        Self { cluster, table, before, concerned, chains: BTreeMap::new(), members: BTreeMap::new() }
    }

    pub(super) fn finish(self) -> Compiled {
        let Self { cluster, table, chains, members, .. } = self;
        Compiled { cluster: Arc::clone(cluster), table, chains, members }
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
        let clusters = (&*self.before.cluster, &**self.cluster);
        let set = match (self.before.table.sets.get(name), &self.concerned) {
            (Some(set), Some(concerned)) => {
                set.clone().edited(concerned.iter().flat_map(|address| members.edits(clusters, *address)))
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
        let Some((made, chain)) = before.chains.get(name).filter(same).zip(before.table.chains.get(name))
        else {
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

    /// Remembers what a chain was made of.
    pub(super) fn made(&mut self, name: &ChainName, policies: impl IntoIterator<Item = &'a Arc<Policy>>) {
        self.chains.insert(name.clone(), policies.into_iter().cloned().collect());
    }
}

/// The addresses that any selector may judge otherwise than before.
fn concerned(before: &Cluster, now: &Cluster) -> Option<BTreeSet<IpAddr>> {
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
    (concerned.len() <= MANY).then_some(concerned)
}
