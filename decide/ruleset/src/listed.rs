//! What the kernel shows of tables, including what this program has no types for.

use std::collections::BTreeMap;
use std::fmt;

use crate::name::{ChainName, SetName, TableId};
use crate::rule::Rule;
use crate::set::Set;
use crate::table::{Base, Chain, Table};

/// Tables as listed, by id. A table that isn't there has no entry.
pub type Listed = BTreeMap<TableId, ListedTable>;

/// A table as listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedTable {
    /// Who may change it.
    pub ownership: Ownership,
    /// True if somebody has put it to sleep, so that none of its chains sees a packet.
    pub dormant: bool,
    /// Its sets and maps.
    pub sets: BTreeMap<SetName, Seen<Set>>,
    /// Its chains.
    pub chains: BTreeMap<ChainName, ListedChain>,
}

/// Who may change a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    /// Anybody.
    #[default]
    Shared,
    /// Anybody: its owner has gone. -> `Mine` when a socket adopts it.
    Orphan,
    /// The socket that listed it. -> `Orphan` when that is closed.
    Mine,
    /// Another socket, which is still open.
    Other {
        /// Its netlink port: for a process's first socket, the process id.
        portid: u32,
    },
}

/// A rule that counts, and what it has counted since it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Its chain.
    pub chain: ChainName,
    /// The kernel's number for it.
    pub handle: Handle,
    /// The rule.
    pub rule: Rule,
    /// How many packets have come that far in it.
    pub packets: u64,
}

/// A chain as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedChain {
    /// Where packets enter it.
    pub base: Seen<Option<Base>>,
    /// Its rules, in their order.
    pub rules: Vec<ListedRule>,
}

/// A rule as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRule {
    /// By what it is deleted.
    pub handle: Handle,
    /// The rule; what could not be read stands in it as [`Statement::Unknown`](crate::Statement::Unknown).
    pub rule: Rule,
}

/// The number that a rule has as long as it exists, unique in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An object as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// One that could have been desired.
    Known(T),
    /// One that is beyond this program's types, in words.
    Unknown(String),
}

impl<T> Seen<T> {
    /// The object, if it could be read.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(object) => Some(object),
            Self::Unknown(_) => None,
        }
    }
}

impl ListedTable {
    /// The table as it would be desired, less all that could not be read.
    pub fn known(&self) -> Table {
        let sets = self.sets.iter().filter_map(|(name, set)| Some((name.clone(), set.known()?.clone())));
        let chains = self.chains.iter().filter_map(|(name, chain)| {
            let rules = chain.rules.iter().map(|listed| listed.rule.clone()).collect();
            Some((name.clone(), Chain { base: *chain.base.known()?, rules }))
        });
        let owned = matches!(self.ownership, Ownership::Mine | Ownership::Other { .. });
        Table { owned, sets: sets.collect(), chains: chains.collect() }
    }
}
