//! Whether the loop still turns.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When the count of passes last changed, by the clock that nobody sets. It is as exact as [`Health::check`] is called
/// often.
#[derive(Debug)]
pub(super) struct Health {
    patience: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    passes: u64,
    since: Instant,
}

/// The loop doesn't turn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no pass of the loop has ended for {} s; after {} s it counts as stuck", silent.as_secs(), patience.as_secs())]
pub(super) struct Stuck {
    silent: Duration,
    patience: Duration,
}

impl Health {
    /// The health of a loop that starts now: it has as long for its first pass as for any other.
    pub(super) fn starting(patience: Duration) -> Self {
        Self { patience, seen: Mutex::new(Seen { passes: 0, since: Instant::now() }) }
    }

    /// Takes note of the count of passes at a moment, and judges.
    pub(super) fn check(&self, passes: u64, now: Instant) -> Result<(), Stuck> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.passes != passes {
            *seen = Seen { passes, since: now };
        }
        let silent = now.saturating_duration_since(seen.since);
        if silent < self.patience { Ok(()) } else { Err(Stuck { silent, patience: self.patience }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_loop_that_ends_no_pass_is_stuck_after_a_while() {
        let health = Health::starting(MINUTE);
        let start = Instant::now();
        assert_eq!(health.check(0, start + MINUTE / 2), Ok(()));
        let stuck = health.check(0, start + MINUTE).unwrap_err();
        assert_eq!(
            stuck.to_string(),
            "no pass of the loop has ended for 60 s; after 60 s it counts as stuck"
        );
    }

    #[test]
    fn every_pass_gives_it_as_long_again() {
        let health = Health::starting(MINUTE);
        let start = Instant::now();
        assert!(health.check(0, start + 2 * MINUTE).is_err());
        assert_eq!(health.check(1, start + 2 * MINUTE), Ok(()));
        assert_eq!(health.check(1, start + 3 * MINUTE - Duration::from_secs(1)), Ok(()));
        assert!(health.check(1, start + 3 * MINUTE).is_err());
        assert_eq!(health.check(7, start + 4 * MINUTE), Ok(()));
    }
}
