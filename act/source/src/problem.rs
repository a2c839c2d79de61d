//! What is wrong with the manifests and the files of keys, for the person who wrote them.

use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;
use selvedge_model::{NameError, NoKey};

use crate::object::ObjectKey;
use crate::yaml::{Located, Position};

/// Something wrong with one file. Displayed on one line: `FILE:LINE:COLUMN: OBJECT: FIELD: what is wrong`, without
/// the parts that aren't known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// The object, where the file says which one it is.
    pub object: Option<ObjectKey>,
    /// What is wrong.
    pub cause: Cause,
    /// What is in force in place of what is wrong.
    pub in_force: InForce,
}

/// What is in force in place of something that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InForce {
    /// What was last read well.
    LastGood,
    /// The closed form of a NetworkPolicy that was never read well.
    Closed,
    /// The object without the field that is no good.
    Rest,
    /// Nothing, and nothing ever was.
    Nothing,
    /// Nothing, though there may have been something before our first reading, which already failed.
    Unknown,
}

/// A place in the files. Displayed as `FILE:LINE:COLUMN`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The place in it; none for the whole file and for what an earlier version of it held.
    pub at: Option<Position>,
}

/// What can be wrong with a manifest, or a file of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The file, or the directory itself, can't be read.
    #[error("can't be read: {0}")]
    Unreadable(String),
    /// The file had objects and is empty now, as it is while somebody writes it.
    #[error("is empty now; delete the file to remove its objects")]
    Emptied,
    /// A document or a field of it is no good.
    #[error("{}", .0.what())]
    Fault(Located),
    /// A file of the directory of keys is no node's.
    #[error("is named like no node: {0}")]
    NoNode(NameError),
    /// A node's file holds no key.
    #[error("holds no key: it {0}")]
    NoKey(NoKey),
    /// A list is an item of a list.
    #[error("a list within a list is not read")]
    ListInList,
    /// Another place has the same object.
    #[error("is already declared at {first}, which stays in force")]
    Duplicate {
        /// The place that comes first.
        first: Place,
    },
    /// The pod network of a Node overlaps that of one that comes before it, or an earlier one of its own.
    #[error("podCIDR {cidr} overlaps {other} of {owner} at {first}, which keeps it")]
    Overlap {
        /// The network that the object goes without.
        cidr: IpNet,
        /// The network that it overlaps.
        other: IpNet,
        /// Whose that is.
        owner: ObjectKey,
        /// Where that is.
        first: Place,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        write!(f, "{}", self.cause)?;
        match self.in_force {
            InForce::LastGood => f.write_str(" (the last good state stays in force)"),
            InForce::Closed => f.write_str(" (the pods it selects are closed)"),
            InForce::Rest => f.write_str(" (counts as not there)"),
            InForce::Nothing | InForce::Unknown => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.at.map_or(Ok(()), |at| write!(f, ":{at}"))
    }
}
