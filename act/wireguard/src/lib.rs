//! A node's WireGuard key, and the kernel's WireGuard device.
//!
//! - [`SecretKey`]: read from its file, or made there
//! - [`Kernel`]: makes the device, says what it holds, and changes as little of that as need be
//!
//! What the device is to hold is decided elsewhere, and its link's address, MTU and alias are set as those of any link.
//!
//! Invariants:
//! - nobody but root reads the key's file, not even while it is written
//! - a secret is never shown: not by `Debug`, not in an error
//! - a session with a peer that stays as it is lives on
//! - no link of another kind is read, changed or deleted

mod change;
mod device;
mod kernel;
mod key;
mod message;

pub use kernel::{Kernel, WireguardError};
pub use key::{KeyError, SecretKey, key_file};
