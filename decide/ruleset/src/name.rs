//! Names of tables and of what is in them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// The address family of a table: which packets its chains see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 only.
    Ip,
    /// IPv6 only.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// ARP.
    Arp,
    /// Frames that a bridge forwards.
    Bridge,
    /// Ingress and egress of a device.
    Netdev,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Arp => "arp",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        })
    }
}

/// The text is no name that nft could read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no nft name: 1 to 255 letters, digits, '_', '-', '.' or '/', a letter or '_' first")]
pub struct ObjectNameError {
    /// The text as given.
    pub value: String,
}

const fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > 255 || !(bytes[0].is_ascii_alphabetic() || bytes[0] == b'_') {
        return false;
    }
    let mut i = 1;
    while i < bytes.len() {
        if !(bytes[i].is_ascii_alphanumeric() || matches!(bytes[i], b'_' | b'-' | b'.' | b'/')) {
            return false;
        }
        i += 1;
    }
    true
}

/// A name's text: clones share it, of which a table has thousands.
#[derive(Debug, Clone)]
enum Text {
    Literal(&'static str),
    Shared(Arc<str>),
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// Declares a newtype of an nft name.
macro_rules! object_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
            /// The name in a program's own text: meant for constants, where a bad one doesn't compile.
            ///
            /// # Panics
            /// If the text is no nft name.
            pub const fn literal(text: &'static str) -> Self {
                assert!(is_name(text), "no nft name");
                Self(Text::Literal(text))
            }

            /// The name as the kernel lists it: other programs may use any characters.
            pub fn listed(text: impl Into<String>) -> Self {
                Self(Text::Shared(text.into().into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ObjectNameError;

            fn from_str(text: &str) -> Result<Self, ObjectNameError> {
                if is_name(text) {
                    return Ok(Self(Text::Shared(text.into())));
                }
                Err(ObjectNameError { value: text.to_owned() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

object_name!(
    /// A table's name.
    TableName
);
object_name!(
    /// A chain's name.
    ChainName
);
object_name!(
    /// The name of a set or a map.
    SetName
);

/// A table, written `inet selvedge`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: TableName,
}

impl TableId {
    /// The id of a table in a program's own text.
    ///
    /// # Panics
    /// If the text is no nft name.
    pub const fn literal(family: Family, name: &'static str) -> Self {
        Self { family, name: TableName::literal(name) }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}
