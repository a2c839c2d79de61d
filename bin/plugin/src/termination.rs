//! SIGTERM and SIGINT: noticed between two steps, so that ADD can undo what it did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use selvedge_cni::{CniError, code};
use selvedge_leases::{PATIENCE, Store, Wait};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Remembers that the process was asked to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Termination(Arc<AtomicBool>);

impl Termination {
    /// From now on the signals only leave a note.
    pub(crate) fn watch() -> Self {
        let noted = Self::default();
        for signal in [SIGTERM, SIGINT] {
            // Without the handler the signal ends the process, and the next DEL cleans up.
            signal_hook::flag::register(signal, Arc::clone(&noted.0)).ok();
        }
        noted
    }

    /// How long a lock is waited for: no longer than until a signal comes.
    pub(crate) fn wait(&self) -> Wait {
        Wait::most(PATIENCE).until(Arc::clone(&self.0))
    }

    /// The failure of a call that was asked to end meanwhile is that; any other stays what it is.
    pub(crate) fn or(&self, error: CniError) -> CniError {
        self.check().err().unwrap_or(error)
    }

    /// The same store, of which no lock is waited for once a signal has come.
    pub(crate) fn ends(&self, store: Store) -> Store {
        store.until(Arc::clone(&self.0))
    }

    /// Fails once a signal has come.
    pub(crate) fn check(&self) -> Result<(), CniError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(CniError::new(code::TRY_AGAIN, "interrupted by a signal; nothing was left behind"));
        }
        Ok(())
    }
}
