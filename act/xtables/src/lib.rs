//! Accept rules in the legacy iptables FORWARD chains, without the iptables binary.
//!
//! Where `iptables-legacy` or `ip6tables-legacy` has a filter table in the calling thread's network namespace,
//! forwarded packets pass its FORWARD chain whatever nftables says. [`set_accept`] keeps, at the head of that chain,
//! a network's rules `-s CIDR -j ACCEPT` and `-d CIDR -j ACCEPT`, each with the comment `selvedge NETWORK`, in the
//! very form in which those tools write, list and delete them.
//!
//! The iptables of nftables' making are another matter: their chains belong to the nftables crate.
//!
//! Invariants:
//! - No table is ever created: `/proc/net/ip_tables_names` is asked first, since any other question creates one.
//! - A rule without our comment is never changed, nor moved relative to another one, and keeps its counters.
//! - A change is written under the lock that iptables itself takes, `/run/xtables.lock`.
//!
//! `entry` and `table` are pure: bytes in, bytes out. `kernel`, `sockopt` and `lock` hold the system calls.

mod entry;
mod error;
mod forward;
mod kernel;
mod lock;
mod sockopt;
mod table;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use ipnet::IpNet;
use selvedge_model::NetworkName;

pub use error::{Malformed, XtablesError};
pub use forward::{accept, forward_chains};
use kernel::Socket;
use table::{Image, Table};

/// The file that iptables locks while it changes a table.
pub const LOCK_FILE: &str = "/run/xtables.lock";

/// How often a change is tried again when somebody who doesn't take the lock was faster.
const ATTEMPTS: usize = 10;

/// Which of the two filter tables. Displayed as the command that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `iptables-legacy`.
    Ipv4,
    /// `ip6tables-legacy`.
    Ipv6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "iptables-legacy",
            Self::Ipv6 => "ip6tables-legacy",
        })
    }
}

/// Which address of a packet a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The source: `-s`.
    From,
    /// The destination: `-d`.
    To,
}

/// Accept what comes from, or goes to, a network. Host bits of `cidr` count for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AcceptRule {
    /// The network.
    pub cidr: IpNet,
    /// Whether `cidr` holds the source or the destination.
    pub direction: Direction,
}

/// A rule in FORWARD that bears our comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRule {
    /// The network that the comment names.
    pub network: NetworkName,
    /// What it accepts; `None` if the rule is not of our making any more (edited, or an older version's), or no longer
    /// in force: it stands behind somebody else's.
    pub accept: Option<AcceptRule>,
}

/// What becomes of a packet that no rule of the chain decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It is forwarded.
    Accept,
    /// It is dropped.
    Drop,
}

/// The FORWARD chain of a filter table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The chain's policy.
    pub policy: Policy,
    /// The number of its rules, ours included.
    pub rules: usize,
    /// Our rules of every network, in the chain's order.
    pub ours: Vec<OwnRule>,
}

/// What [`set_accept`] did to our rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Rules that were missing.
    pub added: usize,
    /// Rules that should not have been there.
    pub removed: usize,
    /// Rules that stood behind somebody else's and are at the head again.
    pub moved: usize,
}

impl Change {
    /// True if everything was as it should be, and nothing was written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads the FORWARD chain; `None` where the table doesn't exist in this network namespace.
pub fn forward_policy(family: Family) -> Result<Option<Forward>, XtablesError> {
    if !kernel::filter_table_exists(family)? {
        return Ok(None);
    }
    Ok(Some(read(&Socket::open(family)?)?.forward()))
}

/// Makes the rules that bear `network`'s comment exactly `rules`, at the head of FORWARD; an empty slice removes them.
///
/// Nothing is added where the table doesn't exist, or where the chain accepts everything (policy ACCEPT and no rule).
/// The rules of other networks stay where they are, ahead of ours or behind. The lock is waited for up to five
/// seconds, and only taken if there is something to write.
///
/// # Errors
/// [`XtablesError::Refused`] for a `/0` and for a CIDR of the other family, whether or not the table exists.
/// After [`XtablesError::Counters`] the rules are as they should be; after every other error they are as before.
pub fn set_accept(
    family: Family,
    network: &NetworkName,
    rules: &[AcceptRule],
) -> Result<Change, XtablesError> {
    let wanted = wanted(family, network, rules)?;
    if !kernel::filter_table_exists(family)? {
        return Ok(Change::default());
    }
    let socket = Socket::open(family)?;
    if read(&socket)?.set_accept(network, &wanted).is_empty() {
        return Ok(Change::default());
    }
    let _lock = lock::hold(Path::new(LOCK_FILE), lock::PATIENCE)?;
    for _ in 0..ATTEMPTS {
        let mut table = read(&socket)?;
        let change = table.set_accept(network, &wanted);
        if change.is_empty() || write(&socket, &table)? == Written::Whole {
            return Ok(change);
        }
    }
    Err(XtablesError::Raced { family, attempts: ATTEMPTS })
}

/// The rules sorted, each once, if all of them can be had.
fn wanted(
    family: Family,
    network: &NetworkName,
    rules: &[AcceptRule],
) -> Result<Vec<AcceptRule>, XtablesError> {
    if !entry::comment_fits(network) {
        return Err(XtablesError::LongName { network: network.clone() });
    }
    let mut wanted = Vec::with_capacity(rules.len());
    for &AcceptRule { cidr, direction } in rules {
        let refused = |reason| XtablesError::Refused { family, cidr, reason };
        match (family, cidr) {
            (Family::Ipv4, IpNet::V6(_)) => return Err(refused("it is an IPv6 network")),
            (Family::Ipv6, IpNet::V4(_)) => return Err(refused("it is an IPv4 network")),
            _ if cidr.prefix_len() == 0 => return Err(refused("it would open the chain for everybody")),
            _ => wanted.push(AcceptRule { cidr: cidr.trunc(), direction }),
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}

fn read(socket: &Socket) -> Result<Table, XtablesError> {
    let family = socket.family();
    let raced = |image: &io::Result<Image>| image.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
    let image = (0..ATTEMPTS).map(|_| socket.read()).find(|image| !raced(image));
    let image = image.ok_or(XtablesError::Raced { family, attempts: ATTEMPTS })?;
    let image = image.map_err(|source| XtablesError::Read { family, source })?;
    Table::parse(family, &image).map_err(|source| XtablesError::Unreadable { family, source })
}

#[derive(PartialEq)]
enum Written {
    Whole,
    Raced,
}

fn write(socket: &Socket, table: &Table) -> Result<Written, XtablesError> {
    let family = socket.family();
    let image = table.image().map_err(|source| XtablesError::Unreadable { family, source })?;
    let old = match socket.replace(&image, table.read_entries()) {
        Ok(counters) => counters,
        Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Written::Raced),
        Err(source) => return Err(XtablesError::Replace { family, source }),
    };
    let counters = table.counters(&old);
    socket.add_counters(&counters).map_err(|source| XtablesError::Counters { family, source })?;
    Ok(Written::Whole)
}
