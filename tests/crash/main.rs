//! What is left when a call of the plugin is killed or when the system fails it, at every point of its way.
#![cfg(test)]

mod concurrent;
mod defects;
mod exhaustion;
mod fault;
mod herd;
mod judge;
mod kill;
mod mounts;
mod reboot;
mod scene;
mod store;
mod storm;
mod strace;
mod sweep;
mod tally;
