//! What the integration tests share: the programs that were built, a stage to run them on, and skipping said aloud.
//!
//! A test of one crate lives in that crate. Here are those that run the release programs, each on a [`Stage`] of its
//! own: namespaces that only the test holds, so that the machine it runs on is never changed and nothing is left
//! there when the test is killed.
#![expect(clippy::panic, reason = "a test that finds its ground missing has failed")]

mod agent;
mod api;
mod cluster;
mod front;
mod ipam;
pub mod kubernetes;
mod machine;
mod mirror;
mod picture;
mod plugin;
mod programs;
mod skip;
mod stage;
mod traces;
mod traffic;
mod wait;
mod watch;

pub use agent::Agent;
pub use api::{ApiServer, Faults, Stopped};
pub use cluster::{Attached, Cluster, Node};
pub use front::Front;
pub use ipam::FakeIpam;
pub use machine::{Machine, Ran};
pub use mirror::{Asker, Heard, Mirror, ask, must_be_silent};
pub use picture::Picture;
pub use plugin::{Answer, Call, Running};
pub use programs::{bin_dir, client, program};
pub use skip::skipped;
pub use stage::{Pod, Stage};
pub use traces::Traces;
pub use traffic::{Echo, Knocking, Stream, connect, knock};
pub use wait::within;
pub use watch::{Capture, DRIP, Drip, frames_with};
