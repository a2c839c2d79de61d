//! The forwarder of the udp transport: packets of a TUN device go to other nodes in UDP, and theirs to the device.
//!
//! - [`run`]: the forwarder at work, until it is told to end
//! - [`Client`]: how an agent tells it what to do, and hears how it does
//!
//! An IP packet is the payload of a UDP packet as it is. Large packets of the device are cut up by the forwarder and
//! sent with one system call (UDP_SEGMENT); what comes in batches (UDP_GRO) is joined again. Each queue of the device
//! has a thread for either direction and a socket.
//!
//! Which packets go where is decided by `decide/packet`. The device's addresses, its MTU and the routes to it are left
//! to the agent.
//!
//! Invariants:
//! - a packet is forwarded by one state, wholly before or wholly after a change
//! - nothing is taken from an address that is no node's, nor a packet whose source is not behind the node that sent it
//! - nothing is fragmented: what is too big is dropped and counted
//! - the device outlives the forwarder, so that routes stay; who deletes it, or the lock, ends the forwarder

mod client;
mod control;
mod counters;
mod device;
mod error;
mod inward;
mod kernel;
mod outward;
mod run;
mod shared;
mod socket;

pub use client::{Answer, Client, PROTOCOL, Report, Request};
pub use counters::Counts;
pub use error::ForwardError;
pub use run::{Options, run};

/// The forwarder's device.
const DEVICE: &str = selvedge_model::mark::UDP_DEVICE;
