//! The plugin as programs call it that nobody here wrote: what they hand over, what they make of the answer, and that
//! nothing is left when they are done. `make clients` unpacks or builds them; where one is not there, its tests say so.
//!
//! - `reference`: the reference plugins, before and behind ours in a chain, and as its IPAM
#![cfg(test)]

mod reference;
