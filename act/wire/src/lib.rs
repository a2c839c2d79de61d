//! Netlink as every family of requests has it: sockets, messages and attributes.
//!
//! - [`Socket`]: asks the kernel and hears from it
//! - [`Request`], [`Message`]: what is sent and what is received
//! - [`Writer`], [`Reader`]: the attributes in them
//!
//! What requests say and what answers mean is left to `act/netlink` (links, addresses, routes) and `act/nft`.
//!
//! Invariants:
//! - a socket speaks for the network namespace it was opened in, whatever thread uses it
//! - no bytes make a reader panic: what is malformed is left out

mod attribute;
mod field;
mod message;
mod option;
mod refusal;
mod socket;

pub use attribute::{Reader, Writer};
pub use field::{text, u16_at, u32_at};
pub use message::{Message, Request, flag, messages};
pub use refusal::Refusal;
pub use socket::Socket;
