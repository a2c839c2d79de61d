//! What a transaction would make of what is listed: the kernel's rules for changes, without a kernel.

use std::collections::btree_map::Entry;

use crate::listed::{Handle, Listed, ListedChain, ListedRule, ListedTable, Ownership, Seen};
use crate::name::{ChainName, SetName, TableId};
use crate::rule::Rule;
use crate::set::{Data, Element, Key, Set};
use crate::table::Base;
use crate::transaction::{Change, Command, Elements, Transaction};

/// The kernel would refuse a command, and with it the transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{command}`: {reason}")]
pub struct Refused {
    /// The command.
    pub command: Box<Command>,
    /// Why.
    pub reason: Reason,
}

/// Why the kernel would refuse a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// ENOENT
    #[error("no such table, chain, set, rule or element")]
    Missing,
    /// EEXIST
    #[error("already there, and different")]
    Exists,
    /// EBUSY
    #[error("something still leads to it")]
    Busy,
    /// EPERM
    #[error("another socket owns the table")]
    NotOwner,
}

/// The tables after a transaction.
pub fn after(listed: &Listed, transaction: &Transaction) -> Result<Listed, Refused> {
    let mut tables = listed.clone();
    for command in transaction.commands() {
        let refused = |reason| Refused { command: Box::new(command.clone()), reason };
        step(&mut tables, &command.table, &command.change).map_err(refused)?;
    }
    Ok(tables)
}

fn step(tables: &mut Listed, id: &TableId, change: &Change) -> Result<(), Reason> {
    match change {
        Change::AddTable { owned } => return add_table(tables, id, *owned),
        Change::DeleteTable => return tables.remove(id).map(drop).ok_or(Reason::Missing),
        _ => {}
    }
    let table = tables.get_mut(id).ok_or(Reason::Missing)?;
    if matches!(table.ownership, Ownership::Other { .. }) {
        return Err(Reason::NotOwner);
    }
    match change {
        Change::AddChain(name, base) => table.add_chain(name, *base),
        Change::FlushChain(name) => table.chain(name).map(|chain| chain.rules.clear()),
        Change::DeleteChain(name) => table.delete_chain(name),
        Change::AddRule { chain, before, rule } => table.add_rule(chain, *before, rule),
        Change::DeleteRule(chain, handle) => {
            let rules = &mut table.chain(chain)?.rules;
            let at = rules.iter().position(|rule| rule.handle == *handle).ok_or(Reason::Missing)?;
            rules.remove(at);
            Ok(())
        }
        Change::AddSet(name, set_type) => {
            let empty = Set::listed(set_type.clone(), []).ok_or(Reason::Missing)?;
            match table.sets.insert(name.clone(), Seen::Known(empty)) {
                Some(_) => Err(Reason::Exists),
                None => Ok(()),
            }
        }
        Change::DeleteSet(name) => table.delete_set(name),
        Change::AddElements(elements) => table.add_elements(elements),
        Change::DeleteElements(elements) => table.delete_elements(elements),
        Change::AddTable { .. } | Change::DeleteTable => Ok(()),
    }
}

fn add_table(tables: &mut Listed, id: &TableId, owned: bool) -> Result<(), Reason> {
    let fresh = if owned { Ownership::Mine } else { Ownership::Shared };
    match tables.entry(id.clone()) {
        Entry::Vacant(entry) => {
            entry.insert(ListedTable { ownership: fresh, ..ListedTable::default() });
            Ok(())
        }
        Entry::Occupied(mut entry) => match (owned, entry.get().ownership) {
            (_, Ownership::Other { .. }) => Err(Reason::NotOwner),
            (true, Ownership::Shared) => Err(Reason::Exists),
            (owned, _) => {
                let table = entry.get_mut();
                table.dormant = false;
                if owned {
                    table.ownership = Ownership::Mine;
                }
                Ok(())
            }
        },
    }
}

impl ListedTable {
    fn chain(&mut self, name: &ChainName) -> Result<&mut ListedChain, Reason> {
        self.chains.get_mut(name).ok_or(Reason::Missing)
    }

    fn add_chain(&mut self, name: &ChainName, base: Option<Base>) -> Result<(), Reason> {
        match self.chains.get_mut(name) {
            None => {
                self.chains.insert(name.clone(), ListedChain { base: Seen::Known(base), rules: Vec::new() });
            }
            Some(chain) => {
                let placed = |base: &Option<Base>| base.map(|base| (base.kind, base.hook, base.priority));
                if chain.base.known().map(placed) != Some(placed(&base)) {
                    return Err(Reason::Exists);
                }
                chain.base = Seen::Known(base);
            }
        }
        Ok(())
    }

    fn delete_chain(&mut self, name: &ChainName) -> Result<(), Reason> {
        self.chains.remove(name).ok_or(Reason::Missing)?;
        let by_rule = self.rules().any(|rule| rule.chains().any(|chain| chain == name));
        let by_map = self
            .sets
            .values()
            .filter_map(Seen::known)
            .any(|set| set.elements().values().any(|element| target(element) == Some(name)));
        if by_rule || by_map { Err(Reason::Busy) } else { Ok(()) }
    }

    fn delete_set(&mut self, name: &SetName) -> Result<(), Reason> {
        self.sets.remove(name).ok_or(Reason::Missing)?;
        if self.rules().any(|rule| rule.sets().any(|set| set == name)) { Err(Reason::Busy) } else { Ok(()) }
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains.values().flat_map(|chain| chain.rules.iter().map(|listed| &listed.rule))
    }

    fn add_rule(&mut self, name: &ChainName, before: Option<Handle>, rule: &Rule) -> Result<(), Reason> {
        let sets_there = rule.sets().all(|set| self.sets.contains_key(set));
        let chains_there = rule.chains().all(|chain| self.chains.contains_key(chain));
        if !(sets_there && chains_there) {
            return Err(Reason::Missing);
        }
        let handles = self.chains.values().flat_map(|chain| &chain.rules).map(|rule| rule.handle.0);
        let handle = Handle(handles.max().unwrap_or(0) + 1);
        let rules = &mut self.chain(name)?.rules;
        let at = match before {
            None => rules.len(),
            Some(before) => rules.iter().position(|rule| rule.handle == before).ok_or(Reason::Missing)?,
        };
        rules.insert(at, ListedRule { handle, rule: rule.clone() });
        Ok(())
    }

    fn add_elements(&mut self, added: &Elements) -> Result<(), Reason> {
        let chains_there =
            added.elements.values().filter_map(target).all(|chain| self.chains.contains_key(chain));
        let Some(Seen::Known(set)) = self.sets.get_mut(&added.set).filter(|_| chains_there) else {
            return Err(Reason::Missing);
        };
        if added.elements.iter().any(|(key, element)| !set.set_type().fits(key, element)) {
            return Err(Reason::Exists);
        }
        // One that is there stays as it is.
        let there = |key: &Key, data: &Data| set.elements().get(key).map(|there| there.data == *data);
        if added.elements.iter().any(|(key, element)| there(key, &element.data) == Some(false)) {
            return Err(Reason::Exists);
        }
        let new = added.elements.iter().filter(|(key, _)| !set.elements().contains_key(*key));
        let new: Vec<_> = new.map(|(key, element)| (key.clone(), Some(element.clone()))).collect();
        *set = set.clone().edited(new);
        Ok(())
    }

    fn delete_elements(&mut self, deleted: &Elements) -> Result<(), Reason> {
        let Some(Seen::Known(set)) = self.sets.get_mut(&deleted.set) else {
            return Err(Reason::Missing);
        };
        if deleted.elements.keys().any(|key| !set.elements().contains_key(key)) {
            return Err(Reason::Missing);
        }
        *set = set.clone().edited(deleted.elements.keys().map(|key| (key.clone(), None)));
        Ok(())
    }
}

fn target(element: &Element) -> Option<&ChainName> {
    match &element.data {
        Data::Verdict(verdict) => verdict.chain(),
        Data::Nothing | Data::Values(_) => None,
    }
}
