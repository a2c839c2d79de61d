//! The least change that makes what is observed what is desired.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_model::{Gather, SortedMap};

use crate::listed::{Listed, ListedChain, ListedTable, Ownership, Seen};
use crate::name::{ChainName, SetName, TableId};
use crate::rule::Rule;
use crate::set::{Data, Element, Key, Set};
use crate::table::{Base, Chain, Table};
use crate::transaction::{Change, Command, Elements, Transaction};

/// What of the observed tables is ours: only that is deleted where it isn't desired.
#[derive(Clone, Copy)]
pub enum Scope<'a> {
    /// The tables with all that is in them.
    Whole,
    /// The objects of which this is true. A table goes with the last object in it.
    Part(&'a dyn Fn(Object<'_>) -> bool),
}

/// Something in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// A chain.
    Chain(&'a ChainName),
    /// A set or a map.
    Set(&'a SetName),
}

impl Scope<'_> {
    fn holds(self, object: Object<'_>) -> bool {
        match self {
            Self::Whole => true,
            Self::Part(is_ours) => is_ours(object),
        }
    }
}

/// What must be done to `observed` so that it is `desired`, as far as the scope reaches; empty if nothing.
///
/// Elements and rules change one by one; elements of dynamic sets don't, whatever they are. A set or a chain is made anew only if its type or its hook changed, a table
/// only if it must come to be owned.
pub fn diff(desired: &BTreeMap<TableId, Table>, observed: &Listed, scope: Scope<'_>) -> Transaction {
    let ids: BTreeSet<&TableId> = desired.keys().chain(observed.keys()).gather();
    let commands = |id: &'_ TableId| {
        let changes = changes(desired.get(id), observed.get(id), scope);
        let id = id.clone();
        changes.into_iter().map(move |change| Command { table: id.clone(), change })
    };
    ids.into_iter().flat_map(commands).collect()
}

fn changes(desired: Option<&Table>, observed: Option<&ListedTable>, scope: Scope<'_>) -> Vec<Change> {
    match (desired, observed) {
        (None, None) => Vec::new(),
        (Some(desired), None) => {
            let mut changes = vec![Change::AddTable { owned: desired.owned }];
            changes.extend(content(desired, &ListedTable::default(), scope));
            changes
        }
        (None, Some(observed)) => undesired(observed, scope),
        (Some(desired), Some(observed)) => match step(desired, observed) {
            Step::Keep => content(desired, observed, scope),
            Step::Claim => {
                let mut changes = vec![Change::AddTable { owned: desired.owned }];
                changes.extend(content(desired, observed, scope));
                changes
            }
            Step::Replace => {
                let mut changes = vec![Change::DeleteTable];
                changes.extend(self::changes(Some(desired), None, scope));
                changes
            }
        },
    }
}

enum Step {
    Keep,
    /// Add it again: that adopts an orphan and wakes a dormant table.
    Claim,
    Replace,
}

/// An orphan serves where no owner is desired: its flag can't be taken away, and does no harm.
fn step(desired: &Table, observed: &ListedTable) -> Step {
    match (desired.owned, observed.ownership) {
        (true, Ownership::Shared) | (false, Ownership::Mine) => Step::Replace,
        (true, Ownership::Orphan | Ownership::Other { .. }) => Step::Claim,
        (true, Ownership::Mine) | (false, _) if observed.dormant => Step::Claim,
        (true, Ownership::Mine) | (false, _) => Step::Keep,
    }
}

fn undesired(observed: &ListedTable, scope: Scope<'_>) -> Vec<Change> {
    let all_chains = observed.chains.keys().all(|chain| scope.holds(Object::Chain(chain)));
    let all_sets = observed.sets.keys().all(|set| scope.holds(Object::Set(set)));
    if all_chains && all_sets {
        return vec![Change::DeleteTable];
    }
    content(&Table::default(), observed, scope)
}

/// What can't stay as it is: undesired, or in a way that can't be changed unlike what is desired.
struct Stale<'a> {
    chains: BTreeSet<&'a ChainName>,
    sets: BTreeSet<&'a SetName>,
}

/// Changes in an order that never leaves anything pointing to nothing: what points goes first and comes last.
fn content(desired: &Table, observed: &ListedTable, scope: Scope<'_>) -> Vec<Change> {
    let stale = stale(desired, observed, scope);
    let mut changes = Vec::new();
    let mut rules = Vec::new();
    for chain in stale.chains.iter().copied().filter(|chain| !observed.chains[*chain].rules.is_empty()) {
        changes.push(Change::FlushChain(chain.clone()));
    }
    for (name, chain, listed) in with_listed(&desired.chains, &observed.chains) {
        let kept = listed.filter(|_| !stale.chains.contains(name));
        let (deleted, added) = rule_changes(name, chain, kept, &stale);
        changes.extend(deleted);
        rules.extend(added);
    }
    let mut elements = Vec::new();
    for (name, set, listed) in with_listed(&desired.sets, &observed.sets) {
        let kept = listed.and_then(Seen::known).filter(|_| !stale.sets.contains(name));
        let (deleted, added) = element_changes(name, set, kept, &stale);
        changes.extend(deleted);
        elements.extend(added);
    }
    changes.extend(stale.sets.iter().map(|&set| Change::DeleteSet(set.clone())));
    changes.extend(stale.chains.iter().map(|&chain| Change::DeleteChain(chain.clone())));
    changes.extend(added_chains(desired, observed, &stale));
    changes.extend(added_sets(desired, observed, &stale));
    changes.extend(elements);
    changes.extend(rules);
    changes
}

fn stale<'a>(desired: &'a Table, observed: &'a ListedTable, scope: Scope<'_>) -> Stale<'a> {
    let chains = with_listed(&observed.chains, &desired.chains);
    let chains = chains.filter(|(name, listed, desired)| match desired {
        Some(chain) => !listed.base.known().is_some_and(|base| same_place(chain.base, *base)),
        None => scope.holds(Object::Chain(name)),
    });
    let sets = with_listed(&observed.sets, &desired.sets);
    let sets = sets.filter(|(name, listed, desired)| match desired {
        Some(set) => !listed.known().is_some_and(|listed| listed.set_type() == set.set_type()),
        None => scope.holds(Object::Set(name)),
    });
    Stale { chains: chains.map(|(name, ..)| name).gather(), sets: sets.map(|(name, ..)| name).gather() }
}

/// What one map holds, each with what the other has of the same name. Both are walked once, side by side: where there are
/// thousands, looking each of them up would take longer than all the rest.
fn with_listed<'a, K: Ord, A, B>(
    these: &'a BTreeMap<K, A>,
    others: &'a BTreeMap<K, B>,
) -> impl Iterator<Item = (&'a K, &'a A, Option<&'a B>)> {
    let mut others = others.iter().peekable();
    these.iter().map(move |(name, this)| {
        while others.next_if(|(other, _)| *other < name).is_some() {}
        (name, this, others.next_if(|(other, _)| *other == name).map(|(_, other)| other))
    })
}

/// A base chain's policy can be changed, its place can't.
fn same_place(desired: Option<Base>, observed: Option<Base>) -> bool {
    match (desired, observed) {
        (Some(desired), Some(observed)) => desired == Base { policy: desired.policy, ..observed },
        (None, None) => true,
        _ => false,
    }
}

fn added_chains<'a>(
    desired: &'a Table,
    observed: &'a ListedTable,
    stale: &'a Stale<'_>,
) -> impl Iterator<Item = Change> + 'a {
    let is_new = |(name, chain, listed): &(&ChainName, &Chain, Option<&ListedChain>)| match listed {
        Some(listed) => stale.chains.contains(*name) || listed.base.known() != Some(&chain.base),
        None => true,
    };
    let new = with_listed(&desired.chains, &observed.chains).filter(is_new);
    new.map(|(name, chain, _)| Change::AddChain(name.clone(), chain.base))
}

fn added_sets<'a>(
    desired: &'a Table,
    observed: &'a ListedTable,
    stale: &'a Stale<'_>,
) -> impl Iterator<Item = Change> + 'a {
    let sets = with_listed(&desired.sets, &observed.sets);
    let new = sets.filter(|(name, _, listed)| listed.is_none() || stale.sets.contains(*name));
    new.map(|(name, set, _)| Change::AddSet(name.clone(), set.set_type().clone()))
}

impl Stale<'_> {
    fn touches_rule(&self, rule: &Rule) -> bool {
        rule.sets().any(|set| self.sets.contains(set))
            || rule.chains().any(|chain| self.chains.contains(chain))
    }

    /// The elements that lead to a chain that can't stay as it is.
    fn touched<'a>(
        &'a self,
        elements: &'a SortedMap<Key, Element>,
    ) -> impl Iterator<Item = (&'a Key, &'a Element)> {
        let touches = |(_, element): &(&Key, &Element)| match &element.data {
            Data::Verdict(verdict) => verdict.chain().is_some_and(|chain| self.chains.contains(chain)),
            Data::Nothing | Data::Values(_) => false,
        };
        let elements = (!self.chains.is_empty()).then_some(elements);
        elements.into_iter().flatten().filter(touches)
    }
}

/// The rules at both ends that are the same stay; those between are replaced.
fn rule_changes(
    name: &ChainName,
    desired: &Chain,
    observed: Option<&ListedChain>,
    stale: &Stale<'_>,
) -> (Vec<Change>, Vec<Change>) {
    let listed = observed.map_or(&[][..], |chain| &chain.rules);
    let same =
        |i: usize, j: usize| desired.rules[i] == listed[j].rule && !stale.touches_rule(&listed[j].rule);
    let (wanted, present) = (desired.rules.len(), listed.len());
    let shorter = wanted.min(present);
    let head = (0..shorter).take_while(|&i| same(i, i)).count();
    let tail = (1..=shorter - head).take_while(|&i| same(wanted - i, present - i)).count();
    let gone = &listed[head..present - tail];
    let deleted = if gone.len() == present && present > 0 {
        vec![Change::FlushChain(name.clone())]
    } else {
        gone.iter().map(|rule| Change::DeleteRule(name.clone(), rule.handle)).collect()
    };
    let before = listed.get(present - tail).map(|rule| rule.handle);
    let added = desired.rules[head..wanted - tail].iter();
    let added = added.map(|rule| Change::AddRule { chain: name.clone(), before, rule: rule.clone() });
    (deleted, added.collect())
}

fn element_changes(
    name: &SetName,
    desired: &Set,
    observed: Option<&Set>,
    stale: &Stale<'_>,
) -> (Option<Change>, Option<Change>) {
    if desired.set_type().dynamic.is_some() {
        return (None, None);
    }
    let none = SortedMap::default();
    let (desired, set_type) = (desired.elements(), desired.set_type());
    let observed = observed.map_or(&none, Set::elements);
    let differing = |these: &SortedMap<Key, Element>, others| -> Option<Elements> {
        let touched = stale.touched(these);
        let chosen = these.difference(others).chain(touched);
        let elements: BTreeMap<Key, Element> =
            chosen.map(|(key, element)| (key.clone(), element.clone())).gather();
        let (set, set_type) = (name.clone(), set_type.clone());
        (!elements.is_empty()).then_some(Elements { set, set_type, elements })
    };
    let deleted = differing(observed, desired).map(Change::DeleteElements);
    let added = differing(desired, observed).map(Change::AddElements);
    (deleted, added)
}

#[cfg(test)]
mod tests;
