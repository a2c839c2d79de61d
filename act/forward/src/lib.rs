//! Forwarders: packets of a TUN device go to other nodes in UDP, and theirs to the device; as they are (the udp
//! transport), or encrypted (WireGuard in user space).
//!
//! - [`udp`], [`wireguard`]: a forwarder at work, until it is told to end
//! - [`Client`]: how an agent tells it what to do, and hears how it does
//! - [`Task`], [`file()`]: what forwarders there are, and the names of their files
//!
//! Large packets of the device are cut up by the forwarder and sent with one system call (UDP_SEGMENT); what comes in
//! batches (UDP_GRO) is joined again. Each queue of the device has a thread for either direction and a socket.
//!
//! Which packets go where is decided by `decide/packet`. What becomes of them on the way is what differs between the
//! forwarders (`codec.rs`, `udp.rs`, `wireguard.rs`). WireGuard's messages and its cryptography are boringtun's. The
//! device's addresses, its MTU and the routes to it are left to the agent.
//!
//! Invariants:
//! - a packet is forwarded by one state, wholly before or wholly after a change
//! - nothing is taken from an address that is no node's, or in WireGuard without a node's key, nor a packet whose source
//!   is not behind the node that sent it
//! - what WireGuard's forwarder sends is encrypted; where there is no session with a node, packets wait for one
//! - our secret key stays in its file and here: it is read when its public half is told
//! - nothing is fragmented: what is too big is dropped and counted
//! - the device outlives the forwarder, so that routes stay; who deletes it, or the lock, ends the forwarder

mod client;
mod codec;
mod connection;
mod control;
mod counters;
mod device;
mod error;
mod inward;
mod kernel;
mod outward;
mod run;
mod sending;
mod shared;
mod socket;
mod task;
mod udp;
mod wireguard;

pub use client::{Answer, Client, PROTOCOL, Report, Request};
pub use counters::Counts;
pub use error::ForwardError;
pub use run::{Options, udp, wireguard};
pub use task::{Task, file};
