//! IP packets as a tunnel in user space carries them.
//!
//! - [`Ends`]: whom a packet is from and for
//! - [`Peers`]: which node a packet goes to, and what each node may send
//! - [`KeyedPeers`]: the same where nodes are told by their keys; [`before`]: whose sessions a change leaves alone
//! - [`Message`]: what comes in WireGuard, told by its outside
//! - [`Offload`]: what a TUN device says of a packet besides its bytes
//! - [`Cut`]: one large packet of a TUN device as the many that fit the network
//! - [`Joiner`]: packets that follow one another in a TCP connection as one large packet
//!
//! Sockets and devices are left to `act/forward`.
//!
//! Invariants:
//! - no bytes make a reader panic: what is malformed is refused or left as it is
//! - what was cut and is joined again is the packet that was cut; only packets with a right checksum are joined

mod checksum;
mod cut;
mod ends;
mod join;
mod keyed;
mod message;
mod nets;
mod offload;
mod peers;

pub use cut::{Cut, Malformed};
pub use ends::Ends;
pub use join::{Joined, Joiner};
pub use keyed::{Before, KeyContradiction, KeyedPeers, before};
pub use message::{Message, SEALED};
pub use offload::{Offload, Segmentation};
pub use peers::{Contradiction, Peers, Unwelcome};
