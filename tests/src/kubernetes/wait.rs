//! Waiting for what a cluster does in its own time.

use std::time::Duration;

use crate::wait::wait;

/// Looks every fifth of a second until there is what is looked for.
///
/// # Panics
/// If there still isn't after so many seconds, with what was found last.
pub fn until<T>(seconds: u64, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    wait(Duration::from_secs(seconds), Duration::from_millis(200), what, look)
}
