//! Changes that the kernel makes all at once or not at all.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::listed::Handle;
use crate::name::{ChainName, SetName, TableId};
use crate::rule::Rule;
use crate::set::{Element, Key, SetType};
use crate::show::Braced;
use crate::table::Base;

/// Commands that take effect together. `Display` is the script for `nft -f`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    commands: Vec<Command>,
}

/// One command of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The table that is changed.
    pub table: TableId,
    /// The change.
    pub change: Change,
}

/// One change to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes the table, unless it is there; adopts an orphan if `owned`.
    AddTable {
        /// Whether the socket becomes its owner.
        owned: bool,
    },
    /// Deletes the table and all that is in it.
    DeleteTable,
    /// Makes a chain, or gives the one that is there another policy.
    AddChain(ChainName, Option<Base>),
    /// Deletes all rules of a chain.
    FlushChain(ChainName),
    /// Deletes a chain, which nothing may lead to.
    DeleteChain(ChainName),
    /// Adds a rule before another one, or at the chain's end.
    AddRule {
        /// The chain.
        chain: ChainName,
        /// The rule that it comes before.
        before: Option<Handle>,
        /// The rule.
        rule: Rule,
    },
    /// Deletes a rule.
    DeleteRule(ChainName, Handle),
    /// Makes an empty set or map.
    AddSet(SetName, SetType),
    /// Deletes a set or map, which no rule may look into.
    DeleteSet(SetName),
    /// Adds elements; those that are there stay as they are.
    AddElements(Elements),
    /// Deletes elements, all of which must be there.
    DeleteElements(Elements),
}

/// Some elements of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    /// The set.
    pub set: SetName,
    /// The set's type.
    pub set_type: SetType,
    /// The elements, each of that type.
    pub elements: BTreeMap<Key, Element>,
}

impl Transaction {
    /// The commands, in their order.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Adds a change at the end.
    pub fn push(&mut self, table: &TableId, change: Change) {
        self.commands.push(Command { table: table.clone(), change });
    }
}

impl Extend<Command> for Transaction {
    fn extend<I: IntoIterator<Item = Command>>(&mut self, commands: I) {
        self.commands.extend(commands);
    }
}

impl FromIterator<Command> for Transaction {
    fn from_iter<I: IntoIterator<Item = Command>>(commands: I) -> Self {
        Self { commands: commands.into_iter().collect() }
    }
}

impl Display for Transaction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.commands.iter().try_for_each(|command| writeln!(f, "{command}"))
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let table = &self.table;
        match &self.change {
            Change::AddTable { owned: false } => write!(f, "add table {table}"),
            Change::AddTable { owned: true } => write!(f, "add table {table} {{ flags owner,persist; }}"),
            Change::DeleteTable => write!(f, "delete table {table}"),
            Change::AddChain(chain, None) => write!(f, "add chain {table} {chain}"),
            Change::AddChain(chain, Some(base)) => {
                write!(f, "add chain {table} {chain} {{ {} }}", base.shown_in(table.family))
            }
            Change::FlushChain(chain) => write!(f, "flush chain {table} {chain}"),
            Change::DeleteChain(chain) => write!(f, "delete chain {table} {chain}"),
            Change::AddRule { chain, before: None, rule } => write!(f, "add rule {table} {chain} {rule}"),
            Change::AddRule { chain, before: Some(handle), rule } => {
                write!(f, "insert rule {table} {chain} handle {handle} {rule}")
            }
            Change::DeleteRule(chain, handle) => write!(f, "delete rule {table} {chain} handle {handle}"),
            Change::AddSet(set, set_type) => {
                let lines = set_type.lines().join("; ");
                write!(f, "add {} {table} {set} {{ {lines}; }}", set_type.word())
            }
            Change::DeleteSet(set) => write!(f, "delete set {table} {set}"),
            Change::AddElements(elements) => write!(f, "add element {table} {elements}"),
            Change::DeleteElements(elements) => write!(f, "delete element {table} {elements}"),
        }
    }
}

impl Display for Elements {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {{ ", self.set)?;
        for (i, (key, element)) in self.elements.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{}", Braced(key, element))?;
        }
        f.write_str(" }")
    }
}
