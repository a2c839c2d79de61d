//! A node's WireGuard key.
//!
//! - [`SecretKey`]: read from its file, or made there
//!
//! Invariants:
//! - nobody but root reads the file, not even while it is written
//! - a secret is never shown: not by `Debug`, not in an error

mod key;

pub use key::{KeyError, SecretKey, key_file};
