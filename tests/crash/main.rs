//! What is left when a call of the plugin is killed or when the system fails it, at every point of its way.
#![cfg(test)]

mod fault;
mod judge;
mod kill;
mod scene;
mod strace;
mod sweep;
mod tally;
