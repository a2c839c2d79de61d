//! What the sweeps tried and what came of it, printed for whoever runs the tests.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::judge::Harm;

/// What one sweep, or all of them, came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// System calls at which the process was killed.
    pub(crate) killed: usize,
    /// System calls that were failed.
    pub(crate) failed: usize,
    /// Of the latter, how many calls of the plugin succeeded nonetheless.
    pub(crate) survived: usize,
    /// System calls in a thread beside the first, which strace can't be told apart from the first one's.
    pub(crate) beside: usize,
    /// Points that the call did not come to again.
    pub(crate) not_reached: usize,
    /// Points after which something was left.
    pub(crate) leaks: usize,
    /// Points after which an address had two owners.
    pub(crate) double_owners: usize,
    /// Points after which the plugin said something that was not so.
    pub(crate) untruths: usize,
}

impl Tally {
    /// Counts what was found wrong.
    pub(crate) fn count(&mut self, harm: &Harm) {
        match harm {
            Harm::Leak(_) => self.leaks += 1,
            Harm::DoubleOwner(_) => self.double_owners += 1,
            Harm::Untruth(_) => self.untruths += 1,
        }
    }

    /// Counts what another has counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.killed += other.killed;
        self.failed += other.failed;
        self.survived += other.survived;
        self.beside += other.beside;
        self.not_reached += other.not_reached;
        self.leaks += other.leaks;
        self.double_owners += other.double_owners;
        self.untruths += other.untruths;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { killed, failed, survived, beside, not_reached, leaks, double_owners, untruths } = self;
        write!(
            f,
            "{killed} kill points, {failed} faults ({survived} survived, {} refused), {not_reached} not reached, \
             {beside} in a thread beside, \
             {leaks} leaks, {double_owners} double owners, {untruths} untruths",
            failed - survived
        )
    }
}

/// The sum of the sweeps that have ended, and their names.
static TOTAL: Mutex<(Option<Tally>, BTreeSet<&'static str>)> = Mutex::new((None, BTreeSet::new()));

/// Prints what a sweep came to; with the last of these sweeps, the sum of all. What is tried again for a defect's sake
/// is not among them.
pub(crate) fn report(name: &'static str, tally: Tally, began: Instant, all: &[&'static str]) {
    say(name, tally, Some(began.elapsed()));
    if !all.contains(&name) {
        return;
    }
    let mut total = TOTAL.lock().unwrap_or_else(PoisonError::into_inner);
    total.0.get_or_insert_default().add(tally);
    total.1.insert(name);
    if total.1.len() == all.len() {
        say("all sweeps", total.0.unwrap_or_default(), None);
    }
}

fn say(name: &str, tally: Tally, took: Option<Duration>) {
    let took = took.map(|took| format!(", {:.1} s", took.as_secs_f64())).unwrap_or_default();
    write(&format!("crash: {name}: {tally}{took}\n"));
}

/// Not with `println!`, which the test harness keeps to itself when a test passes.
pub(crate) fn write(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
