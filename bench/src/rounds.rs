//! The order in which the sides take their turns.

use std::thread;
use std::time::Duration;

use crate::error::BenchError;
use crate::say;
use crate::side::Side;
use crate::spread::{Score, Spread, Task};

/// How much is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Effort {
    /// Pods attached one after another in each round.
    #[arg(long, default_value_t = 60)]
    pub(crate) pods: usize,
    /// Pods attached at the same moment.
    #[arg(long, default_value_t = 100)]
    pub(crate) at_once: usize,
    /// Rounds, of which the best counts.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Leases in the network, for the figures of a network in use.
    #[arg(long, default_value_t = 4000)]
    pub(crate) leases: u16,
    /// How many pods are attached at once for the percentiles.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 100, 200])]
    pub(crate) crowds: Vec<usize>,
    /// How many leases the network has then.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 4_000, 16_000])]
    pub(crate) loads: Vec<u16>,
    /// Changes of a manifest, each timed to its route.
    #[arg(long, default_value_t = 60)]
    pub(crate) changes: u8,
}

impl Effort {
    /// The most pods that are attached to a node at the same time.
    pub(crate) fn most_pods(&self) -> usize {
        self.crowds.iter().copied().chain([self.pods, self.at_once, 1]).max().unwrap_or(1)
    }
}

/// After a DEL, until the next side's turn: the kernel goes on with the veth, and an agent with its reaping, under a
/// lock that the next call would wait for.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);
/// The same after many at once, and after the nodes were made.
pub(crate) const SETTLE_AFTER_MANY: Duration = Duration::from_secs(1);

/// Goes through the rounds, and returns each side's best figures in the order of the sides.
pub(crate) fn measure(sides: &mut [Side], effort: &Effort) -> Result<Vec<Score>, BenchError> {
    let mut scores: Vec<Score> = sides.iter().map(|_| Score::default()).collect();
    thread::sleep(SETTLE_AFTER_MANY);
    for round in 1..=effort.rounds {
        say(&format!("bench: round {round} of {}: one after another", effort.rounds));
        in_turn(sides, effort.pods, &mut scores)?;
        say(&format!("bench: round {round} of {}: {} at once", effort.rounds, effort.at_once));
        at_once(sides, effort.at_once, &mut scores)?;
    }
    Ok(scores)
}

fn in_turn(sides: &mut [Side], pods: usize, scores: &mut [Score]) -> Result<(), BenchError> {
    turns(sides, scores, (Task::Add, pods), Side::add)?;
    turns(sides, scores, (Task::Del, pods), |side| {
        let took = side.del();
        thread::sleep(SETTLE);
        took
    })?;
    turns(sides, scores, (Task::Version, pods), |side| side.version())
}

/// Lets every side make a call so many times, call by call; who begins changes, so that nobody always follows the same
/// other.
fn turns(
    sides: &mut [Side],
    scores: &mut [Score],
    (task, calls): (Task, usize),
    mut call: impl FnMut(&mut Side) -> Result<Duration, BenchError>,
) -> Result<(), BenchError> {
    let mut times = vec![Vec::with_capacity(calls); sides.len()];
    for turn in 0..calls {
        for place in 0..sides.len() {
            let side = (turn + place) % sides.len();
            times[side].push(call(&mut sides[side])?);
        }
    }
    for (score, times) in scores.iter_mut().zip(times) {
        score.take(task, Spread::in_turn(&times));
    }
    Ok(())
}

fn at_once(sides: &mut [Side], pods: usize, scores: &mut [Score]) -> Result<(), BenchError> {
    for (side, score) in sides.iter_mut().zip(scores) {
        score.take(Task::Adds, Spread::at_once(&side.add_at_once(pods)?));
        thread::sleep(SETTLE_AFTER_MANY);
        score.take(Task::Dels, Spread::at_once(&side.del_at_once()?));
        thread::sleep(SETTLE_AFTER_MANY);
    }
    Ok(())
}
