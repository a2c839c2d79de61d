//! nftables tables as typed values: shown as nft prints them, compared, turned into transactions.
//!
//! - [`name`], [`value`], [`field`]: the vocabulary: tables and what is in them by name, values in a packet, and the
//!   places in a packet where they stand
//! - [`matching`], [`mod@rule`]: what a rule looks for and does, built by functions named as nft spells them
//! - [`logging`], [`headers`]: what is told of packets, and how often, and what a packet's first bytes say
//! - [`set`], [`table`]: sets, maps, chains and tables
//! - [`show`]: all of it as `nft list` prints it
//! - [`listed`], [`transaction`], [`mod@diff`]: what the kernel shows, changes to it, and the least change towards what
//!   is desired
//! - [`mod@after`]: what a transaction would make of what is listed, without a kernel
//! - [`mod@trace`]: what would become of a packet, without a kernel
//! - [`shape`]: a check of a whole table that needs no kernel
//! - [`foreign`]: rules of ours in other people's forward chains
//!
//! Bytes and netlink are left to `selvedge-nft`. Invariants: a set's elements all have the set's type; no rule spells
//! out what nft implies (`meta nfproto ipv4` before `ip saddr`), so equal rules are equal values; everything that is
//! printed is sorted; applying a diff gives what was desired, and the diff of equals is empty.

pub mod after;
pub mod diff;
pub mod field;
pub mod foreign;
pub mod headers;
pub mod listed;
pub mod logging;
pub mod matching;
pub mod name;
pub mod rule;
pub mod set;
pub mod shape;
pub mod show;
pub mod table;
pub mod trace;
pub mod transaction;
pub mod value;

pub use diff::{Object, Scope, diff};
pub use field::Field;
pub use headers::Headers;
pub use listed::{Handle, Listed, ListedChain, ListedRule, ListedTable, Ownership, Seen};
pub use logging::{Limit, Log, LogPrefix, Logged, Per};
pub use matching::{Match, TcpFlags, Test};
pub use name::{ChainName, Family, ObjectNameError, SetName, TableId, TableName};
pub use rule::{Comment, Rule, Statement, Verdict};
pub use set::{Data, DataType, Element, Set, SetType};
pub use table::{Base, Chain, Hook, Kind, Policy, Table, priority};
pub use trace::{Packet, Traced, Untraceable, trace};
pub use transaction::{Change, Command, Elements, Transaction};
pub use value::{EtherType, Icmp6Type, IcmpType, IpVersion, KeyType, L4Proto, PacketType, Part, Value};
