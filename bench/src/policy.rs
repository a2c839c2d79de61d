//! What NetworkPolicy costs: the agent in a large cluster, and the packets of its pods.

pub(crate) mod control;
mod fleet;
mod notices;
pub(crate) mod packets;
pub(crate) mod traffic;
mod usual;
mod world;
mod xtables;
