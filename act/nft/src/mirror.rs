//! Tables as they are, without listing them each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::io::Errno;
use selvedge_ruleset::after::after;
use selvedge_ruleset::listed::{ListedRule, ListedTable, Ownership, Seen};
use selvedge_ruleset::{ChainName, Change, Listed, SetName, Table, TableId, Transaction};
use selvedge_wire::Socket;

use crate::error::NftError;
use crate::list;
use crate::transaction::NftSocket;

/// How many commands a transaction may have for its effect to be reckoned instead of listed.
const FEW: usize = 256;

/// Tables as they were last listed, and as we have changed them since. They are listed again once anybody else has
/// changed anything: the kernel counts the generations of its rules.
///
/// What packets put into dynamic sets and what runs out in them is no new generation: those are listed each time.
#[derive(Debug)]
pub struct Mirror {
    ids: Vec<TableId>,
    seen: Option<(u32, Arc<Listed>)>,
}

impl Mirror {
    /// Of these tables, of which nothing is known yet.
    pub fn new(ids: impl Into<Vec<TableId>>) -> Self {
        Self { ids: ids.into(), seen: None }
    }

    /// The generation that was seen last.
    pub fn generation(&self) -> Option<u32> {
        self.seen.as_ref().map(|(generation, _)| *generation)
    }

    /// True if what was seen last is not older than that generation.
    pub fn knows(&self, generation: u32) -> bool {
        // They are counted beyond the largest number.
        self.generation().is_some_and(|seen| seen.wrapping_sub(generation) < u32::MAX / 2)
    }

    /// The tables as they are at one moment; one that isn't there has no entry.
    ///
    /// # Errors
    /// What could not be listed.
    pub fn list(&mut self, socket: &mut NftSocket) -> Result<Arc<Listed>, NftError> {
        let last = self.seen.take();
        let ids = &self.ids;
        let look = |socket: &mut Socket| match &last {
            Some((generation, listed)) if is_ours(listed) && list::generation(socket)? == *generation => {
                with_dynamic(socket, listed)
            }
            _ => list::tables(socket, ids, list::Depth::Elements).map(Arc::new),
        };
        let (listed, generation) = socket.steady("tables", look)?;
        self.seen = Some((generation, Arc::clone(&listed)));
        Ok(listed)
    }

    /// The same unless anybody else has changed any rules since they were seen last.
    ///
    /// # Errors
    /// What could not be listed.
    pub fn unless_changed(&mut self, socket: &mut NftSocket) -> Result<Option<Arc<Listed>>, NftError> {
        let (now, last) = (socket.generation()?, self.generation());
        let tables = self.list(socket)?;
        Ok(Some(tables).filter(|_| last == Some(now) && self.generation() == last))
    }

    /// Makes all changes at once, or none of them, and knows then what they came to.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn apply(&mut self, socket: &mut NftSocket, transaction: &Transaction) -> Result<(), NftError> {
        let last = self.seen.take();
        socket.apply(transaction)?;
        let few = transaction.commands().len() <= FEW;
        let Some((before, listed)) = last.filter(|_| few && !transaction.is_empty()) else { return Ok(()) };
        let next = before.checked_add(1).unwrap_or(1);
        let Ok(listed) = after(&listed, transaction) else { return Ok(()) };
        let mut listed = Some(listed);
        let look = |socket: &mut Socket| match listed.take() {
            Some(listed) if list::generation(socket)? == next => {
                relisted(socket, listed, transaction).map(Some)
            }
            _ => Ok(None),
        };
        // What can't be looked at now is listed the next time.
        if let Ok((Some(listed), generation)) = socket.steady("tables", look) {
            self.seen = Some((generation, Arc::new(listed)));
        }
        Ok(())
    }

    /// Has the sets that are as desired share their elements with what is desired: they are compared at a glance then.
    pub fn share(&mut self, desired: &BTreeMap<TableId, Table>) {
        let Some((_, listed)) = &mut self.seen else { return };
        let mut equal: Vec<(&TableId, &SetName)> = Vec::new();
        for (id, table) in desired {
            let Some(there) = listed.get(id) else { continue };
            let is_equal = |(name, set): &(&SetName, &selvedge_ruleset::Set)| {
                let there = there.sets.get(*name).and_then(Seen::known);
                there.is_some_and(|there| !there.shares(set) && there == *set)
            };
            equal.extend(table.sets.iter().filter(is_equal).map(|(name, _)| (id, name)));
        }
        if equal.is_empty() {
            return;
        }
        let listed = Arc::make_mut(listed);
        for (id, name) in equal {
            if let Some(table) = listed.get_mut(id) {
                table.sets.insert(name.clone(), Seen::Known(desired[id].sets[name].clone()));
            }
        }
    }
}

/// False if the table may become another's without a new generation: its owner can go.
fn is_ours(listed: &Listed) -> bool {
    listed.values().all(|table| !matches!(table.ownership, Ownership::Other { .. }))
}

/// The tables with what is in their dynamic sets now.
fn with_dynamic(socket: &mut Socket, listed: &Arc<Listed>) -> Result<Arc<Listed>, Errno> {
    let mut listed = Arc::clone(listed);
    let dynamic = |table: &ListedTable| -> Vec<SetName> {
        let is_dynamic = |set: &Seen<_>| set.known().is_some_and(is_dynamic);
        table.sets.iter().filter(|(_, set)| is_dynamic(set)).map(|(name, _)| name.clone()).collect()
    };
    let all: Vec<(TableId, SetName)> = listed
        .iter()
        .flat_map(|(id, table)| dynamic(table).into_iter().map(move |set| (id.clone(), set)))
        .collect();
    for (id, name) in all {
        let Some(Seen::Known(set)) = listed[&id].sets.get(&name) else { continue };
        let now = list::elements_of(socket, &id, &name, set.set_type())?;
        if now.as_ref() != Some(set) {
            let now =
                now.map_or_else(|| Seen::Unknown("elements that can't be read".to_owned()), Seen::Known);
            Arc::make_mut(&mut listed).get_mut(&id).map(|table| table.sets.insert(name, now));
        }
    }
    Ok(listed)
}

fn is_dynamic(set: &selvedge_ruleset::Set) -> bool {
    set.set_type().dynamic.is_some()
}

/// The tables with the handles that the kernel gave to the rules of changed chains.
fn relisted(socket: &mut Socket, mut listed: Listed, transaction: &Transaction) -> Result<Listed, Errno> {
    let changed = transaction.commands().iter().filter_map(|command| match &command.change {
        Change::AddRule { chain, .. } | Change::DeleteRule(chain, _) => Some((&command.table, chain)),
        _ => None,
    });
    let changed: BTreeSet<(&TableId, &ChainName)> = changed.collect();
    for (id, name) in changed {
        let rules = list::rules(socket, id, Some(name))?;
        if let Some(chain) = listed.get_mut(id).and_then(|table| table.chains.get_mut(name)) {
            let rules = rules.into_iter().map(|read| ListedRule { handle: read.handle, rule: read.rule });
            chain.rules = rules.collect();
        }
    }
    Ok(listed)
}
