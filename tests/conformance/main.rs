//! The protocol as the executed plugin keeps it, on real kernel objects: tests named by the id of a
//! statement of the protocol. What needs no program is tested in `decide/cni`.
//!
//! - `statements`: each statement once, asked of ours and of the reference plugins
//! - the protocol in more detail: `process`, `environment`, `add`, `del`, `check`, `gc`, `status`, `versions`,
//!   `delegation`, `capabilities`
//! - `bandwidth`: limits, measured
//! - `renamed`: host ends without their name or their record
//! - `further`: a container's second interface and network
//! - `ports`: published ports and whose they are
//! - `taken`: addresses and routes that somebody has already
//! - `tutorial`, `spoofing`, `published`, `sctp`: packets
//! - `defects`: what the scripts of the tutorials got wrong, each under its own name
//! - `crash`: kills, reboots, a journal that is gone
#![cfg(test)]

mod add;
mod bandwidth;
mod capabilities;
mod check;
mod config;
mod crash;
mod defects;
mod del;
mod delegation;
mod environment;
mod further;
mod gc;
mod hand;
mod machine;
mod ports;
mod process;
mod published;
mod renamed;
mod sctp;
mod site;
mod spoofing;
mod statements;
mod status;
mod taken;
mod tutorial;
mod versions;
