//! A real control plane on this machine: `make kubernetes` builds and unpacks its programs, and whoever finds them there
//! may start it.
#![expect(clippy::unwrap_used, reason = "a test that finds its ground missing has failed")]

mod cable;
mod certificates;
mod daemon;
mod folder;
mod plane;
mod wait;

pub use cable::cable;
pub use certificates::{Authority, Identity};
pub use daemon::{Daemon, command, line};
pub use folder::{Folder, Programs, repository, run, say};
pub use plane::Plane;
pub use wait::until;
