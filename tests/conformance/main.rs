//! The protocol as the executed plugin keeps it, on real kernel objects: a test for each statement that needs the
//! program, named by the statement's id. What needs no program is tested in `decide/cni`.
//!
//! - the protocol: `process`, `environment`, `add`, `del`, `check`, `gc`, `status`, `versions`, `delegation`,
//!   `capabilities`
//! - `tutorial`, `spoofing`: packets
//! - `defects`: what the scripts of the tutorials got wrong, each under its own name
//! - `crash`: kills, reboots, a journal that is gone
#![cfg(test)]

mod add;
mod capabilities;
mod check;
mod config;
mod crash;
mod defects;
mod del;
mod delegation;
mod environment;
mod gc;
mod hand;
mod machine;
mod process;
mod site;
mod spoofing;
mod status;
mod tutorial;
mod versions;
