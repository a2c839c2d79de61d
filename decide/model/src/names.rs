//! Names that come from outside, each valid once it exists.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a name was refused. The text names the kind of name and shows the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The value is empty.
    #[error("{what} is empty")]
    Empty {
        /// The kind of name.
        what: &'static str,
    },
    /// The value is longer than the kind allows.
    #[error("{what} {value:?} is longer than {max} bytes")]
    TooLong {
        /// The kind of name.
        what: &'static str,
        /// The value as given.
        value: String,
        /// The longest allowed, in bytes.
        max: usize,
    },
    /// The value has a character that the kind doesn't allow.
    #[error("{what} {value:?}: {rule}")]
    Character {
        /// The kind of name.
        what: &'static str,
        /// The value as given.
        value: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

/// Declares a string newtype whose values are checked by `$check`. Clones share the text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                $check(&text)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A CNI container id: `[A-Za-z0-9][A-Za-z0-9_.-]*`, of any length (CNI specification, section 2).
    ///
    /// Never used raw in a file name or an interface name.
    ContainerId, check_container_id
);
name!(
    /// A CNI network name: the same characters as a container id (CNI specification, section 1).
    NetworkName, check_network_name
);
name!(
    /// A Linux interface name: 1 to 15 bytes, not `.` or `..`, without `/`, `:` and white space.
    IfName, check_if_name
);
name!(
    /// The name of a Kubernetes Node: 1 to 253 bytes of lower-case letters, digits, `-` and `.`.
    NodeName, check_node_name
);

impl NetworkName {
    /// The longest network name, in bytes: it is the name of a directory, and part of longer names in the kernel.
    pub const MAX: usize = 200;
}

impl IfName {
    /// The longest interface name, in bytes (IFNAMSIZ less the terminator).
    pub const MAX: usize = 15;

    /// Fails if no link can be made under this name, though one may be called so: the kernel takes `%` for a pattern
    /// that it fills in, byte 0xA0 for a space, and has the sysctls of all links in folders `all` and `default`.
    pub fn can_be_made(&self) -> Result<(), NameError> {
        let rule = match self.as_str() {
            "all" | "default" => "is what the kernel calls the sysctls of all links",
            text if text.bytes().any(|b| matches!(b, b'%' | 0xa0)) => {
                "must not hold '%', nor a letter that the kernel takes for a space"
            }
            _ => return Ok(()),
        };
        Err(NameError::Character { what: IF_NAME, value: self.0.as_ref().to_owned(), rule })
    }
}

const IF_NAME: &str = "interface name";

const CNI_NAME_RULE: &str =
    "must start with a letter or a digit and go on with letters, digits, '_', '.' or '-'";

fn check_cni_name(what: &'static str, text: &str) -> Result<(), NameError> {
    let first = text.bytes().next().ok_or(NameError::Empty { what })?;
    let rest_ok = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first.is_ascii_alphanumeric() && rest_ok {
        return Ok(());
    }
    Err(NameError::Character { what, value: text.to_owned(), rule: CNI_NAME_RULE })
}

fn check_container_id(text: &str) -> Result<(), NameError> {
    check_cni_name("container id", text)
}

fn check_network_name(text: &str) -> Result<(), NameError> {
    let what = "network name";
    if text.len() > NetworkName::MAX {
        return Err(NameError::TooLong { what, value: text.to_owned(), max: NetworkName::MAX });
    }
    check_cni_name(what, text)
}

fn check_if_name(text: &str) -> Result<(), NameError> {
    let what = IF_NAME;
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > IfName::MAX {
        return Err(NameError::TooLong { what, value: text.to_owned(), max: IfName::MAX });
    }
    let bad = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
    if text == "." || text == ".." || text.chars().any(bad) {
        let rule = "must not be '.' or '..' nor hold '/', ':' or white space";
        return Err(NameError::Character { what, value: text.to_owned(), rule });
    }
    Ok(())
}

fn check_node_name(text: &str) -> Result<(), NameError> {
    let what = "node name";
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > 253 {
        return Err(NameError::TooLong { what, value: text.to_owned(), max: 253 });
    }
    if text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.')) {
        return Ok(());
    }
    let rule = "must consist of lower-case letters, digits, '-' and '.'";
    Err(NameError::Character { what, value: text.to_owned(), rule })
}

/// A pod, written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodKey {
    /// The pod's Kubernetes namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PodKey {
    type Err = NameError;

    /// Reads `namespace/name`; a bare name is a pod of the namespace `default`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        if namespace.is_empty() || name.is_empty() {
            return Err(NameError::Empty { what: "pod" });
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// One network applied to one container: CNI's key (specification, section 2, "Parameters").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// CNI_CONTAINERID.
    pub container: ContainerId,
    /// CNI_IFNAME.
    pub ifname: IfName,
}

impl AttachmentKey {
    /// The longest container id that is written down as it is, in bytes.
    pub const MAX_RECORDED_ID: usize = 64;

    /// The container id as records carry it: verbatim up to 64 bytes, otherwise the hex SHA-256 of it (64 bytes).
    pub fn recorded_id(&self) -> String {
        let id = self.container.as_str();
        if id.len() <= Self::MAX_RECORDED_ID {
            return id.to_owned();
        }
        data_encoding::HEXLOWER.encode(&Sha256::digest(id.as_bytes()))
    }

    /// The key as records carry it: the container id replaced by [`Self::recorded_id`].
    ///
    /// Two keys are the same attachment exactly when their recorded forms are equal.
    pub fn recorded(&self) -> Self {
        Self { container: ContainerId(self.recorded_id().into()), ifname: self.ifname.clone() }
    }
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.ifname)
    }
}

/// What every host end of a pod's veth pair is called at the front.
pub const HOST_VETH_PREFIX: &str = "slv";

/// What the device that limits what a pod sends is called at the front.
pub const SHAPER_PREFIX: &str = "slb";

/// What a link waiting to be reaped is called at the front.
pub const REAPED_PREFIX: &str = "slvr";

/// The name of the host end of an attachment's veth: `slv` and 12 characters of lower-case base32 of
/// SHA-256 over network, container and interface.
///
/// `salt` is 0 unless a foreign link already has that name; then the next salts are tried in order.
pub fn host_veth_name(network: &NetworkName, key: &AttachmentKey, salt: u8) -> IfName {
    let mut hash = Sha256::new();
    for part in [network.as_str(), &key.recorded_id(), key.ifname.as_str()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    if salt > 0 {
        hash.update([salt]);
    }
    let mut text = base32(&hash.finalize());
    text.truncate(12);
    IfName(format!("{HOST_VETH_PREFIX}{text}").into())
}

/// The name of the device that limits what a pod sends: as the pod's host end's, with another beginning.
pub fn shaper_name(host: &IfName) -> IfName {
    let host = host.as_str();
    let mut name = format!("{SHAPER_PREFIX}{}", host.strip_prefix(HOST_VETH_PREFIX).unwrap_or(host));
    while name.len() > IfName::MAX {
        name.pop();
    }
    IfName(name.into())
}

/// The name that a link gets when it goes into the reap group: `slvr` and 11 characters of base32 over its
/// present name and index, so that no later attachment of the same key finds its name taken.
pub fn reaped_name(name: &IfName, index: u32) -> IfName {
    let mut hash = Sha256::new();
    hash.update(name.as_str().as_bytes());
    hash.update(index.to_be_bytes());
    let mut text = base32(&hash.finalize());
    text.truncate(11);
    IfName(format!("{REAPED_PREFIX}{text}").into())
}

pub(crate) fn base32(bytes: &[u8]) -> String {
    data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
