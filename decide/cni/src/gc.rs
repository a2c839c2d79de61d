//! Which attachments GC must leave alone.

use std::collections::BTreeSet;

use selvedge_model::AttachmentKey;

use crate::error::CniError;
use crate::json::{Field, Object};

/// The attachments that a runtime calls valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidAttachments {
    /// Exactly these, in recorded form ([`AttachmentKey::recorded`]); all others may go.
    Listed(BTreeSet<AttachmentKey>),
    /// The runtime doesn't say; only what provably serves no container may go.
    Unstated,
}

/// The specification's key, and the one that came before it and is still written beside it.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

impl ValidAttachments {
    /// Reads both keys and takes them together. `null` is an empty list: a runtime written in Go says so when no
    /// container is left.
    pub(crate) fn stated_in(conf: &Object<'_>) -> Result<Self, CniError> {
        if !KEYS.iter().any(|key| conf.states(key)) {
            return Ok(Self::Unstated);
        }
        let mut listed = BTreeSet::new();
        for key in KEYS {
            for item in conf.list(key)? {
                listed.insert(attachment(&item)?.recorded());
            }
        }
        Ok(Self::Listed(listed))
    }
}

fn attachment(item: &Field<'_>) -> Result<AttachmentKey, CniError> {
    let item = item.object()?;
    Ok(AttachmentKey {
        container: item.need("containerID")?.parsed()?,
        ifname: item.need("ifname")?.parsed()?,
    })
}

#[cfg(test)]
mod tests;
