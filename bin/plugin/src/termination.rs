//! SIGTERM and SIGINT: noticed between two steps, so that ADD can undo what it did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use selvedge_cni::{CniError, code};
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

    /// Fails once a signal has come.
    pub(crate) fn check(&self) -> Result<(), CniError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(CniError::new(code::TRY_AGAIN, "interrupted by a signal; nothing was left behind"));
        }
        Ok(())
    }
}
