//! The agent's one loop: observe, plan, apply, report.
//!
//! A [`Trigger`] says that something may have changed. The loop gathers those that come close together, looks at the
//! whole node, has its owner decide what is wanted, applies every step of the plan and reports each outcome. It never
//! gives up: what failed is tried again, at growing intervals, for as long as the agent runs. What is wanted comes
//! only from complete snapshots, so nothing is pruned on account of a partial one.
//!
//! [`Kernel`] is all that the loop needs of the world; `host` is the real one.

mod admission;
mod deferred;
mod encryptor;
mod forwarder;
mod forwarders;
mod host;
mod install;
mod look;
mod looping;
mod probe;
mod removal;
pub mod status;

pub use admission::{Admission, Admissions, Patience, Standing};
pub use deferred::Deferred;
pub use forwarder::Tunnel;
pub use host::{Host, HostError, Paths};
pub use look::{Sight, configurations, look};
pub use looping::{Decision, Kernel, Reconciler, Trigger};
pub use removal::{Leaving, Places};
pub use status::Status;
