//! The lease journal on disk: locked, appended, replayed, rebuilt.
//!
//! A network's state is the directory `RUN_DIR/ipam/NETWORK`: `lock`, on which everybody who reads or writes holds an
//! flock, `journal`, and `att/`, one lock file for each attachment that a call is at work on.
//!
//! The directory is meant to be on tmpfs: after a power loss every pod is gone, and with them every lease. On any other
//! file system each write is followed by fdatasync. A journal of another boot or of another node namespace is void but
//! for its cursors and resting addresses. A journal that is missing or damaged is rebuilt from the kernel, through
//! [`Oracle`], before the first address is given out: an address whose pod lives never gets a second owner.
//!
//! Many processes read the journal at once, each before it has the lock; with the lock only what was added meanwhile is
//! read. Behind the journal's end the disk keeps room for a line that frees each lease, so that a disk that is full
//! keeps no lease from being freed.
//!
//! What the lines mean is `selvedge-ipam`'s; this crate does not choose addresses.

mod attachment;
mod error;
mod file;
mod kernel;
mod locked;
mod reading;
mod shapers;
mod store;
mod vacancy;

pub use attachment::AttachmentGuard;
pub use error::LeaseError;
pub use file::{Wait, lock_file, lock_node};
pub use kernel::HostEnds;
pub use locked::{Locked, Recovery};
pub use store::{Oracle, OracleError, PATIENCE, Store, boottime_ms};

#[cfg(test)]
mod tests;
