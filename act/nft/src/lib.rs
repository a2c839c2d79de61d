//! nftables and connection tracking over nfnetlink: listed, changed in transactions, watched.
//!
//! - [`NftSocket`]: lists tables as values of `selvedge-ruleset`, and applies its transactions
//! - [`Mirror`]: tables that are listed again only where somebody else changed something
//! - [`Monitor`]: who changed which table
//! - [`Departures`]: the rules that went, and what they had counted
//! - [`Conntrack`]: lists and deletes tracked connections
//! - [`PacketLog`]: the packets that rules tell of
//! - [`recorded`]: what was received once, read again
//!
//! What should be there is left to the callers; no `nft` binary is needed. Invariants: a listing is of one moment; a
//! transaction is made whole or not at all; what this crate writes it reads back as the same value, and what it
//! can't read is told as unknown, never passed over.

mod compile;
mod conntrack;
mod decompile;
mod departures;
mod dynset;
mod elements;
mod error;
mod expression;
mod forward;
mod list;
mod load;
mod logging;
mod message;
mod mirror;
mod monitor;
mod packets;
mod place;
mod recorded;
mod socket;
mod transaction;
mod userdata;

pub use conntrack::Conntrack;
pub use departures::Departures;
pub use error::NftError;
pub use mirror::Mirror;
pub use monitor::{Author, Event, Monitor};
pub use packets::{Heard, PacketLog};
pub use recorded::recorded;
pub use transaction::{Features, NftSocket};

#[cfg(test)]
mod tests;
