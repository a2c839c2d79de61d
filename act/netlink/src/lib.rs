//! Links, addresses, routes, queueing and sysctls of one network namespace: observed, changed and watched.
//!
//! - [`RouteSocket`]: `observe*` reads what is there, `apply*` makes the changes that a
//!   [`NetStep`](selvedge_datapath::step::NetStep) names, `detach` and `reap_group` take veths away
//! - [`Monitor`]: the kernel's notifications
//! - [`Sysctls`]: the files below `/proc/sys`
//! - [`recorded`]: what was received once, read again
//!
//! What should be there is decided elsewhere. Calls block until the kernel has answered, which for rtnetlink it does
//! within the system call that asks.
//!
//! Invariants:
//! - a socket speaks for the namespace it was opened in, whatever thread uses it
//! - an observation is consistent: one that changed while it was read is read again
//! - of the kernel's answers only what we use is read, so that nothing on a foreign link can break an observation
//! - every step succeeds when it is already done

mod apply;
mod error;
mod monitor;
mod observe;
mod offload;
mod overlay;
mod reap;
mod record;
mod recorded;
mod request;
mod shaping;
mod socket;
mod sysctl;
#[cfg(test)]
mod tests;

pub use error::{NetlinkError, Refusal};
pub use monitor::{Event, Monitor, Notification};
pub use observe::Taken;
pub use recorded::recorded;
pub use socket::RouteSocket;
pub use sysctl::Sysctls;
