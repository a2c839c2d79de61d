//! The node agent of Selvedge.

#[cfg_attr(not(test), expect(dead_code, reason = "the agent's loop, which reads it, is not there yet"))]
mod config;

fn main() {}
