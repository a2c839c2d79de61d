//! Tables and chains.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::{ChainName, SetName};
use crate::rule::Rule;
use crate::set::Set;

/// A table's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// True if nobody but the socket that made it may change it, and it outlives that socket
    /// (`NFT_TABLE_F_OWNER|PERSIST`, Linux 6.9). Ask `Features` of `selvedge-nft` before wishing for it.
    pub owned: bool,
    /// Its sets and maps.
    pub sets: BTreeMap<SetName, Set>,
    /// Its chains.
    pub chains: BTreeMap<ChainName, Chain>,
}

impl Table {
    /// A table that anybody with the right to may change.
    pub fn new() -> Self {
        Self::default()
    }

    /// A table that only its owner may change and that outlives it.
    pub fn owned() -> Self {
        Self { owned: true, ..Self::default() }
    }

    /// The table with another's sets and chains; where both have one of a name, with the other's.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        let mut all = Self { owned: self.owned, ..other.clone() };
        for (name, set) in self.sets {
            all.sets.entry(name).or_insert(set);
        }
        for (name, chain) in self.chains {
            all.chains.entry(name).or_insert(chain);
        }
        all
    }

    /// True if a rule looks into that set.
    pub fn uses(&self, set: &SetName) -> bool {
        let mut rules = self.chains.values().flat_map(|chain| chain.rules.iter());
        rules.any(|rule| rule.sets().any(|used| used == set))
    }

    /// The table with a chain.
    #[must_use]
    pub fn chain(mut self, name: ChainName, chain: Chain) -> Self {
        self.chains.insert(name, chain);
        self
    }

    /// The table with a set or a map.
    #[must_use]
    pub fn set(mut self, name: SetName, set: Set) -> Self {
        self.sets.insert(name, set);
        self
    }
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Where packets enter it, unless they only get there by jump or goto.
    pub base: Option<Base>,
    /// Its rules, in their order. Clones share them.
    pub rules: Arc<[Rule]>,
}

impl Chain {
    /// A chain that packets reach by jump or goto.
    pub fn regular(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { base: None, rules: rules.into_iter().collect() }
    }

    /// A chain that packets enter at a hook.
    pub fn base(base: Base, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { base: Some(base), rules: rules.into_iter().collect() }
    }
}

/// Where packets enter a base chain, and what becomes of those that no rule decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    /// What it may do.
    pub kind: Kind,
    /// Where it sees packets.
    pub hook: Hook,
    /// Its place among the chains of the hook, lowest first; see [`priority`].
    pub priority: i32,
    /// What becomes of a packet at its end.
    pub policy: Policy,
}

impl Base {
    /// A filter chain that accepts at its end.
    pub const fn filter(hook: Hook, priority: i32) -> Self {
        Self { kind: Kind::Filter, hook, priority, policy: Policy::Accept }
    }

    /// A nat chain that accepts at its end.
    pub const fn nat(hook: Hook, priority: i32) -> Self {
        Self { kind: Kind::Nat, hook, priority, policy: Policy::Accept }
    }

    /// The same with another policy.
    #[must_use]
    pub const fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }
}

/// The kind of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Lets pass or drops.
    Filter,
    /// Rewrites addresses; sees only the first packet of a connection.
    Nat,
    /// Has the route looked up again if it changed the packet; output hook only.
    Route,
}

/// Where a base chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// All that come in, before routing.
    Prerouting,
    /// Those for this host.
    Input,
    /// Those that pass through.
    Forward,
    /// Those from this host.
    Output,
    /// All that go out, after routing.
    Postrouting,
}

/// What becomes of a packet at a base chain's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// It passes.
    Accept,
    /// It is thrown away.
    Drop,
}

/// The usual priorities of base chains in the IP families, by nft's names for them.
pub mod priority {
    /// Before connection tracking.
    pub const RAW: i32 = -300;
    /// After connection tracking.
    pub const MANGLE: i32 = -150;
    /// Rewriting destinations.
    pub const DSTNAT: i32 = -100;
    /// Filtering.
    pub const FILTER: i32 = 0;
    /// Rewriting sources.
    pub const SRCNAT: i32 = 100;
    /// Filtering in the family `bridge`.
    pub const BRIDGE_FILTER: i32 = -200;
}
