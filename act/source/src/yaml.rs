//! YAML (and so JSON) as values that know where they were written.
//!
//! [`documents`] reads a text document by document, a [`Field`] reads the values of one of them, and every fault is
//! [`Located`]: line, column and the field's path. Plain scalars are typed by YAML 1.2's core schema: only `true` and
//! `false` are booleans. Merge keys (`<<`) are refused, since a reader that ignores them loses fields.

mod field;
mod json;
mod load;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

pub use field::Field;
pub use load::{Documents, documents};

/// A place in a text; both numbers start at 1, the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins; an alias is where its anchor is.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    /// Any other scalar, and every quoted one.
    Text(String),
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping.
    Map(BTreeMap<String, Entry>),
    /// A sequence or mapping that was left out, see [`documents`].
    Unread,
}

/// What stands under a mapping's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the key begins.
    pub at: Position,
    /// The value.
    pub node: Rc<Node>,
}

impl Value {
    /// The kind of value, as faults name it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Unread => "a list or mapping",
        }
    }

    fn is_collection(&self) -> bool {
        matches!(self, Self::List(_) | Self::Map(_))
    }
}

/// A fault and where it is. Displayed as `line:column: path: fault`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {}", self.what())]
pub struct Located {
    /// The place in the text.
    pub at: Position,
    /// The field's path from its object (`spec.podCIDRs[1]`), empty for the object itself and for faults of syntax.
    pub path: String,
    /// What is wrong.
    pub fault: Fault,
}

impl Located {
    /// Path and fault, for callers that show the place in their own way.
    pub fn what(&self) -> String {
        if self.path.is_empty() { self.fault.to_string() } else { format!("{}: {}", self.path, self.fault) }
    }
}

/// What can be wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no YAML; the parser's own words.
    #[error("{0}")]
    Syntax(String),
    /// It is not UTF-8.
    #[error("the text is not UTF-8")]
    Encoding,
    /// A mapping has a key twice.
    #[error("the key {key:?} stands twice in one mapping")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// Something other than text stands where a key belongs.
    #[error("only text can be a key")]
    NoKey,
    /// A merge key.
    #[error("merge keys (<<) are not supported; write the fields out")]
    MergeKey,
    /// A key that the reader doesn't know.
    #[error("unknown key; the keys here are {known}")]
    UnknownKey {
        /// The known ones, comma-separated.
        known: String,
    },
    /// A field that must be there is not.
    #[error("is missing")]
    Missing,
    /// A value of the wrong kind.
    #[error("must be {expected}, but is {found}")]
    Kind {
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A value of the right kind that breaks a rule.
    #[error("{value:?} {rule}")]
    Value {
        /// The value.
        value: String,
        /// The rest of a sentence that begins with the value: `is no CIDR`.
        rule: String,
    },
    /// A value that aliases make too large.
    #[error("is too large, with all that its aliases stand for")]
    TooLarge,
    /// A value whose own type says what is wrong with it.
    #[error("{0}")]
    Refused(String),
}

#[cfg(test)]
mod tests;
