//! Why the store couldn't serve.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use selvedge_ipam::ChooseError;

use crate::store::OracleError;

/// Why a lease couldn't be read, made or freed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A file or directory of the store can't be used.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Somebody else held the lock all the time.
    #[error("lock {}: still held by another process after {:.1} s", path.display(), waited.as_secs_f32())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The journal must be rebuilt, and the kernel can't be asked.
    #[error("rebuild the lease journal from the kernel's links")]
    Oracle(#[source] OracleError),
    /// No addresses could be chosen, or the attachment has some already.
    #[error(transparent)]
    Choose(#[from] ChooseError),
}

impl LeaseError {
    /// True if the disk is full.
    pub(crate) fn is_for_want_of_room(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Self::File { source, .. } if full(source.kind()))
    }

    /// Puts an operation and a path on an error of the system's.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
