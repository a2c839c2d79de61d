//! A cluster out of network namespaces on one machine: nodes on one segment or two, a router, a host beyond it, one real node
//! agent a node, and pods that are attached by the real plugin. It is demo, test bed and bug report at once.
//!
//! - [`shape`], [`plan`], [`path`], [`matrix`]: what is asked for, who is in it, which paths must work, what became of
//!   them; values only
//! - [`limits`]: what is too much for one machine; [`patience`]: and what is slow on it
//! - [`topology`], `obstacle`, [`probe`]: the network on the kernel, what it drops, and packets along every path
//! - [`cluster`], [`agent`], [`runtime`], [`status`]: the lab while it stands
//! - [`supervisor`], [`session`], [`enter`]: the process that holds it, and those who talk to it
//!
//! What the agents and the plugin do is theirs: the lab starts them and looks at what packets see.
//!
//! Invariants:
//! - nothing is ever made in the host's network namespace, and nothing but the state directory of a standing lab in
//!   its file system
//! - the lab ends with its first process, however that ends, and nothing of it is left then
//! - no other program is needed than the agent and the plugin

pub mod agent;
pub mod cluster;
mod contain;
pub mod enter;
pub mod limits;
mod manifest;
pub mod matrix;
mod obstacle;
pub mod path;
pub mod patience;
pub mod plan;
pub mod probe;
pub mod runtime;
pub mod session;
pub mod shape;
pub mod status;
pub mod supervisor;
pub mod topology;
mod wire;
