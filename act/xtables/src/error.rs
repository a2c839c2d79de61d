//! What can go wrong, by operation.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use selvedge_model::NetworkName;

use crate::Family;

/// A filter table could not be read or changed. Unless the text says otherwise nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum XtablesError {
    /// A rule that must not be, or can't be, in that table.
    #[error("no accept rule for {cidr} in {family}'s FORWARD chain: {reason}")]
    Refused {
        /// The table.
        family: Family,
        /// The network as given.
        cidr: IpNet,
        /// Why not.
        reason: &'static str,
    },
    /// The network's name doesn't fit in a comment of 255 bytes.
    #[error("network {network}: the name is too long for an iptables comment (at most 246 bytes)")]
    LongName {
        /// The network.
        network: NetworkName,
    },
    /// The list of tables could not be read.
    #[error("read {}, to see whether {family} has a filter table", path.display())]
    Names {
        /// The table.
        family: Family,
        /// The list.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No socket to talk to the kernel through.
    #[error("open a socket for {family}'s filter table")]
    Socket {
        /// The table.
        family: Family,
        /// The cause.
        source: io::Error,
    },
    /// The kernel didn't hand the table out.
    #[error("read {family}'s filter table (needs CAP_NET_ADMIN)")]
    Read {
        /// The table.
        family: Family,
        /// The cause.
        source: io::Error,
    },
    /// The table is not laid out as a filter table is.
    #[error("understand {family}'s filter table")]
    Unreadable {
        /// The table.
        family: Family,
        /// The cause.
        source: Malformed,
    },
    /// The lock file could not be opened or locked.
    #[error("lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Somebody held the lock all the time.
    #[error("{} was locked by another iptables for {waited:?} (see `fuser {}`)", path.display(), path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The table changed under our hands, each time.
    #[error("{family}'s filter table changed during each of {attempts} attempts to read or replace it")]
    Raced {
        /// The table.
        family: Family,
        /// How often it was tried.
        attempts: usize,
    },
    /// The kernel refused the changed table.
    #[error("replace {family}'s filter table")]
    Replace {
        /// The table.
        family: Family,
        /// The cause.
        source: io::Error,
    },
    /// The rules were changed, but all counters of the table stand at what was counted since: somebody who doesn't
    /// take the lock changed the table in between.
    #[error("the rules in {family}'s filter table are in place, but its counters could not be restored")]
    Counters {
        /// The table.
        family: Family,
        /// The cause.
        source: io::Error,
    },
}

/// Bytes that are no filter table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at}")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Where, from the start of the table.
    pub at: usize,
}
