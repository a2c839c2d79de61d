//! Waiting for what a cluster does in its own time.

use std::thread;
use std::time::{Duration, Instant};

/// Looks every fifth of a second until there is what is looked for; how long that took comes with it.
///
/// # Panics
/// If there still isn't after so many seconds, with what was found last.
pub fn until<T>(seconds: u64, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        // The time is read first: whoever was kept from looking gets another look.
        let late = began.elapsed() > Duration::from_secs(seconds);
        match look() {
            Ok(found) => return found,
            Err(found) => assert!(!late, "{what}: not within {seconds} s: {found}"),
        }
        thread::sleep(Duration::from_millis(200));
    }
}
