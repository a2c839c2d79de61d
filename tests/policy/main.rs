//! What policies mean, held against real packets: nodes, pods and somebody outside as namespaces, the tables that
//! `decide/policy` compiles loaded into the nodes, and a packet for each flow.
//!
//! - `random`: random clusters; `cases`: those that a person has written down
//! - `ground`: the namespaces and their wires; `seats`: which pod is where; `tables`: what the nodes' kernels hold
//! - `packet`, `post`, `probe`: packets, who sends and hears them, and what becomes of many at once
#![cfg(test)]

mod cases;
mod ground;
mod packet;
mod post;
mod probe;
mod random;
mod seats;
mod tables;
