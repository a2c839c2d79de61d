//! Waiting for what must come true soon.

use std::thread;
use std::time::{Duration, Instant};

use selvedge_lab::patience::patience;

/// Looks again and again until there is what is looked for; longer where `SELVEDGE_PATIENCE` says so.
///
/// # Panics
/// If there still isn't after so many seconds, with what was found last.
pub fn within<T>(seconds: f64, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    wait(Duration::from_secs_f64(seconds), Duration::from_millis(5), what, look)
}

pub(crate) fn wait<T>(
    time: Duration,
    pause: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let time = patience(time);
    let deadline = Instant::now() + time;
    loop {
        // The time is read first: whoever was kept from looking gets another look.
        let late = Instant::now() > deadline;
        match look() {
            Ok(found) => return found,
            Err(found) => assert!(!late, "{what}: not within {} s: {found}", time.as_secs_f64()),
        }
        thread::sleep(pause);
    }
}
