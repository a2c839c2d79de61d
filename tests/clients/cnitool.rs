//! cnitool, on a node of its own.
//!
//! - `verbs`: add, check, del in every version; `sweep`: gc and status
//! - `chain`: the reference plugins before and behind ours
//! - `ipam`: the reference plugins that give addresses, for ours; `delegate`: some that fail
//! - `tool`: cnitool itself and its folders; `site`: a node with a host outside, and packets

mod chain;
mod delegate;
mod ipam;
mod site;
mod sweep;
mod tool;
mod verbs;

pub(crate) use tool::{Cnitool, Container, Suite};
