//! What it costs to be on another node: the packets of two pods by each transport, beside the same devices set up by
//! hand, and an agent with many peers.

mod hand;
pub(crate) mod packets;
mod pair;
pub(crate) mod peers;
mod stream;
mod ways;
