//! WireGuard: keys that may be told, and what a node's device is to hold.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use data_encoding::BASE64;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A node's public key (Curve25519), shown in base64 as `wg` shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The annotation of a Node that says it.
    pub const ANNOTATION: &str = "selvedge.dev/wireguard-public-key";
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the base64 of 32 bytes, 44 characters, as `wg pubkey` prints it")]
pub struct NoKey;

impl FromStr for PublicKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_not_base64| NoKey)?;
        bytes.try_into().map(Self).map_err(|_length| NoKey)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = NoKey;

    fn try_from(text: String) -> Result<Self, NoKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// The whole wanted state of a node's WireGuard device, be it the kernel's or a forwarder's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wireguard {
    /// Our own key, of which the device holds the private half.
    pub key: PublicKey,
    /// The UDP port of every node.
    pub port: u16,
    /// The other nodes, ordered by key; no key is there twice, nor a net.
    pub peers: Vec<WireguardPeer>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireguardPeer {
    /// Who it proves to be.
    pub key: PublicKey,
    /// Its address on the underlay.
    pub endpoint: IpAddr,
    /// What is behind it, in order: what goes there is encrypted for it, and nothing else may come from it.
    pub nets: Vec<IpNet>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_nothing_else_is_one() {
        let key = PublicKey([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.to_string().len(), 44);
        let short = BASE64.encode(&[7; 31]);
        let untidy = format!(" {key}");
        for text in ["", "node-a", &short, &untidy, &key.to_string()[1..]] {
            assert_eq!(text.parse::<PublicKey>(), Err(NoKey), "{text}");
        }
    }
}
