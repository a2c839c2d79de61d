//! nftables and connection tracking over nfnetlink: listed, changed in transactions, watched.
//!
//! - [`NftSocket`]: lists tables as values of `selvedge-ruleset`, and applies its transactions
//! - [`Monitor`]: who changed which table
//! - [`Conntrack`]: deletes tracked connections
//!
//! What should be there is left to the callers; no `nft` binary is needed. Invariants: a listing is of one moment; a
//! transaction is made whole or not at all; what this crate writes it reads back as the same value, and what it
//! can't read is told as unknown, never passed over.

mod attribute;
mod compile;
mod decompile;
mod elements;
mod error;
mod expression;
mod list;
mod message;
mod place;
mod socket;
mod transaction;

pub use error::NftError;
pub use transaction::{Features, NftSocket};
