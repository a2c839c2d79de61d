//! Which Pod an attachment is, in few characters.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::names::{PodKey, base32};

/// How long one part is: 80 bits.
const LENGTH: usize = 16;

/// Which Pod an attachment is, as its owner record says it: `pod=NAMESPACE.NAME[.UID]`, of each the first 16 characters
/// of lower-case base32 of SHA-256, since the names themselves would not fit beside the addresses. NAME is of the
/// namespace and the name, `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodTag {
    namespace: String,
    name: String,
    uid: Option<String>,
}

/// What is no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pod's tag")]
pub struct NoTag {
    /// The text as read.
    pub text: String,
}

impl PodTag {
    /// The tag of a Pod; of any of that name where no UID is told.
    pub fn new(key: &PodKey, uid: Option<&str>) -> Self {
        Self { namespace: short(&key.namespace), name: short(&key.to_string()), uid: uid.map(short) }
    }

    /// True if the Pod is in that namespace.
    pub fn is_in(&self, namespace: &str) -> bool {
        self.namespace == short(namespace)
    }

    /// The part that Pods of the same name have alike.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if the Pod, of the right name, is the very one: it has one of these UIDs. A tag without a UID, and a Pod
    /// without any, are told by the name alone.
    pub fn is_of<'a>(&self, uids: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(own) = &self.uid else { return true };
        let mut uids = uids.into_iter().peekable();
        uids.peek().is_none() || uids.any(|uid| short(uid) == *own)
    }
}

fn short(text: &str) -> String {
    let mut short = base32(&Sha256::digest(text.as_bytes()));
    short.truncate(LENGTH);
    short
}

impl fmt::Display for PodTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod={}.{}", self.namespace, self.name)?;
        self.uid.as_ref().map_or(Ok(()), |uid| write!(f, ".{uid}"))
    }
}

impl FromStr for PodTag {
    type Err = NoTag;

    fn from_str(text: &str) -> Result<Self, NoTag> {
        let is_part = |part: &&str| {
            part.len() == LENGTH && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
        };
        let parts: Option<Vec<&str>> = text.strip_prefix("pod=").map(|parts| parts.split('.').collect());
        let own = |part: &str| part.to_owned();
        match parts.as_deref() {
            Some([namespace, name]) if [namespace, name].into_iter().all(is_part) => {
                Ok(Self { namespace: own(namespace), name: own(name), uid: None })
            }
            Some([namespace, name, uid]) if [namespace, name, uid].into_iter().all(is_part) => {
                Ok(Self { namespace: own(namespace), name: own(name), uid: Some(own(uid)) })
            }
            _ => Err(NoTag { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_reads_back_and_tells_its_pod_from_a_successor() {
        let key: PodKey = "shop/web-0".parse().unwrap();
        let tag = PodTag::new(&key, Some("u-1"));
        assert_eq!(tag.to_string().parse(), Ok(tag.clone()));
        assert!(tag.is_in("shop") && !tag.is_in("shopping"));
        assert_eq!(tag.name(), PodTag::new(&key, None).name());
        assert!(tag.is_of(["u-2", "u-1"]) && !tag.is_of(["u-2"]) && tag.is_of([]));
        let any = PodTag::new(&key, None);
        assert!(any.is_of(["u-2"]) && any.to_string().parse() == Ok(any));
        for text in ["", "pod=", "pod=a.b", "shop/web-0", &tag.to_string()[..40], &format!("{tag}.x")] {
            assert!(text.parse::<PodTag>().is_err(), "{text}");
        }
    }
}
