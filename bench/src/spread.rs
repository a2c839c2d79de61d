//! Many times, as two figures.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    Add,
    Del,
    Version,
    /// All ADDs at once.
    Adds,
    /// All DELs at once.
    Dels,
}

/// The two figures of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    typical: Duration,
    p99: Duration,
}

impl Task {
    /// In the order in which they are shown.
    pub(crate) const ALL: [Self; 5] = [Self::Add, Self::Del, Self::Version, Self::Adds, Self::Dels];
}

impl Spread {
    /// Of calls that were made one after another. `None` without any.
    pub(crate) fn in_turn(times: &[Duration]) -> Option<Self> {
        Some(Self { typical: rank(times, 50)?, p99: rank(times, 99)? })
    }

    /// Of calls that began together, each timed from that moment on. `None` without any.
    pub(crate) fn at_once(times: &[Duration]) -> Option<Self> {
        Some(Self { typical: *times.iter().max()?, p99: rank(times, 99)? })
    }

    /// The median of calls made one after another; of calls made at once, the time until the last has returned.
    pub(crate) fn typical(&self) -> Duration {
        self.typical
    }

    /// What 99 of 100 calls do not exceed (nearest rank).
    pub(crate) fn p99(&self) -> Duration {
        self.p99
    }

    fn better_of(self, other: Self) -> Self {
        Self { typical: self.typical.min(other.typical), p99: self.p99.min(other.p99) }
    }
}

/// One side's best figures over the rounds.
#[derive(Debug, Default)]
pub(crate) struct Score(BTreeMap<Task, Spread>);

impl Score {
    /// Takes a round's figures in.
    pub(crate) fn take(&mut self, task: Task, spread: Option<Spread>) {
        if let Some(spread) = spread {
            self.0.entry(task).and_modify(|best| *best = best.better_of(spread)).or_insert(spread);
        }
    }

    pub(crate) fn get(&self, task: Task) -> Option<Spread> {
        self.0.get(&task).copied()
    }
}

/// The time at a percentile, by nearest rank.
pub(crate) fn rank(times: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort();
    let place = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(place - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn the_ranks_of_a_hundred_are_the_fiftieth_and_the_ninety_ninth() {
        let spread = Spread::in_turn(&millis((1..=100).rev())).unwrap();
        assert_eq!((spread.typical.as_millis(), spread.p99.as_millis()), (50, 99));
    }

    #[test]
    fn sixty_calls_have_their_slowest_as_p99() {
        assert_eq!(Spread::in_turn(&millis(1..=60)).unwrap().p99.as_millis(), 60);
    }

    #[test]
    fn calls_at_once_take_as_long_as_the_last() {
        assert_eq!(Spread::at_once(&millis([3, 9, 5])).unwrap().typical.as_millis(), 9);
    }

    #[test]
    fn no_calls_give_no_figures() {
        assert_eq!(Spread::in_turn(&[]), None);
        assert_eq!(Spread::at_once(&[]), None);
    }

    #[test]
    fn the_best_round_counts_for_each_figure() {
        let mut score = Score::default();
        score.take(Task::Add, Spread::in_turn(&millis([2, 2, 9])));
        score.take(Task::Add, Spread::in_turn(&millis([3, 3, 4])));
        let best = score.get(Task::Add).unwrap();
        assert_eq!((best.typical.as_millis(), best.p99.as_millis()), (2, 4));
    }
}
