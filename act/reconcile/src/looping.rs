//! The loop itself.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use selvedge_datapath::Prune;
use selvedge_datapath::converge::{self, Desired, Observed, Step, TABLE};
use selvedge_model::{Cluster, IfName, chain};
use selvedge_policy::Revoker;
use tracing::{error, info, warn};

use self::revoking::Revoking;
use self::trigger::{comes_in_floods, goes_by_seen, is_cluster};
use crate::admission::{Admission, Admissions};
use crate::deferred::Deferred;
use crate::status::{Pass, State, Status, StepOutcome, StepResult, TOLD, There, Wanted, now_ms};

mod kernel;
mod revoking;
mod trigger;

pub use kernel::Kernel;
pub use trigger::Trigger;

/// How long triggers are gathered before a pass: long enough for one `ip` command's worth of notifications.
const GATHER: Duration = Duration::from_millis(10);

/// How many reasons for a pass are told one by one.
const REASONS: usize = 16;

/// How often what the kernel doesn't announce is looked at (most sysctls, the legacy tables, the conflist).
const GLANCE: Duration = Duration::from_millis(500);

/// After a pass the next one on account of the cluster alone waits this many times as long as it took, at most as long as
/// until a glance. Where a pass takes long, thousands of nodes would have a cluster that never rests take a core.
const REST: u32 = 3;

/// After a failure, the next try; it doubles up to the most.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// What is wanted, with what is to be said about it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What is wanted.
    pub desired: Desired,
    /// Who judges the flows that are tracked already, of the same policies as the table that is wanted: where it
    /// changes, those that are denied now are cut right after it. None where there is no policy.
    pub revoker: Option<Revoker>,
    /// The same in numbers and names.
    pub wanted: Deferred<Wanted>,
    /// What keeps part of it from working.
    pub problems: Vec<String>,
    /// What is worth knowing and keeps nothing from working.
    pub notes: Vec<String>,
    /// Attachments of which the cluster knows no Pod.
    pub without_pod: Vec<String>,
    /// The attachments that are in force once the tables are as desired.
    pub admitted: BTreeMap<IfName, Admission>,
    /// What keeps the node from serving pods at all.
    pub blocked: Option<String>,
}

/// The loop's state between passes.
pub struct Reconciler<K, D> {
    kernel: K,
    /// Decides from the node as observed and a complete cluster, with whether anything may be pruned on its account;
    /// there is none before a listing was complete. The error says what is missing yet.
    decide: D,
    resync: Duration,
    status: Arc<Mutex<Status>>,
    admissions: Admissions,
    cluster: Option<(Arc<Cluster>, Prune)>,
    /// What was wanted when a pass last succeeded in full: a difference from then on is drift.
    settled: Option<Desired>,
    /// The last observation, changed as we have changed the node since; none if we don't know what that came to.
    seen: Option<Observed>,
    /// When everything was read last.
    looked: Instant,
    retry: Option<Duration>,
    revoking: Revoking,
}

impl<K, D> Reconciler<K, D>
where
    K: Kernel,
    D: FnMut(Option<(&Arc<Cluster>, Prune)>, &Observed) -> Result<Decision, String>,
{
    /// A loop that has seen nothing yet. It looks at everything each `resync` even if nothing is announced.
    pub fn new(kernel: K, decide: D, resync: Duration, status: Arc<Mutex<Status>>) -> Self {
        let (admissions, revoking) = (Admissions::default(), Revoking::default());
        Self {
            kernel,
            decide,
            resync,
            status,
            admissions,
            cluster: None,
            settled: None,
            seen: None,
            looked: Instant::now(),
            retry: None,
            revoking,
        }
    }

    /// The same loop, which tells there of the attachments in force.
    #[must_use]
    pub fn admitting(self, admissions: Admissions) -> Self {
        Self { admissions, ..self }
    }

    /// Makes passes until it is told to end, or nobody can send a trigger any more.
    pub fn run(&mut self, triggers: &Receiver<Trigger>) {
        let mut retry_at = None;
        let mut rested = Instant::now();
        let mut glanced = rested;
        loop {
            let resync_at = self.looked + self.resync;
            let due = retry_at.map_or(resync_at, |at: Instant| at.min(resync_at));
            // What has come is not kept waiting by a glance that was due long before.
            let wait = due.min(glanced + GLANCE).saturating_duration_since(Instant::now());
            let mut because = match triggers.recv_timeout(wait) {
                Ok(first) => self.gather(first, triggers, rested),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => Vec::new(),
            };
            if because.contains(&Trigger::End) {
                return;
            }
            // A cluster that never rests keeps nothing from being looked at.
            if because.iter().all(goes_by_seen) && (Instant::now() >= due || glanced.elapsed() >= GLANCE) {
                glanced = Instant::now();
                because.extend(self.idle(due, retry_at.is_some()));
            }
            if because.is_empty() {
                continue;
            }
            let began = Instant::now();
            self.pass(because);
            let ended = Instant::now();
            rested = ended + ((ended - began) * REST).min(GLANCE);
            retry_at = self.retry.map(|after| Instant::now() + after);
        }
    }

    /// True if it tells of what has been seen already: our own changes are announced too.
    fn is_old(&self, trigger: &Trigger) -> bool {
        match trigger {
            Trigger::Rules(_, generation) => self.kernel.knows(*generation),
            Trigger::Announced(what) => self.seen.as_ref().is_some_and(|seen| seen.network.shows(what)),
            _ => false,
        }
    }

    /// Takes the triggers that come within a moment of the first, and changed clusters until the loop is rested. Of a
    /// flood of notifications, such as a routing daemon makes, a few stand for all; of clusters the last. An ADD that
    /// waits is kept waiting by none of them.
    fn gather(&self, first: Trigger, triggers: &Receiver<Trigger>, rested: Instant) -> Vec<Trigger> {
        let moment = Instant::now() + GATHER;
        let mut until = match &first {
            Trigger::Cluster(..) | Trigger::Measured(_) => rested,
            Trigger::Admit(_) => Instant::now(),
            first if self.is_old(first) => Instant::now(),
            _ => moment,
        };
        let mut because = vec![first];
        while let Ok(next) = triggers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            match &next {
                next if self.is_old(next) => continue,
                Trigger::Cluster(..) => because.retain(|earlier| !is_cluster(earlier)),
                Trigger::Measured(_) => {}
                Trigger::Admit(_) => until = Instant::now(),
                _ => until = until.min(Instant::now() + GATHER),
            }
            let superfluous = comes_in_floods(&next) && because.len() >= REASONS;
            if !superfluous && !because.contains(&next) {
                because.push(next);
            }
        }
        because.retain(|trigger| !self.is_old(trigger));
        because
    }

    /// Why to make a pass although nothing was announced.
    fn idle(&mut self, due: Instant, failed: bool) -> Option<Trigger> {
        if Instant::now() >= due {
            return Some(if failed { Trigger::Retry } else { Trigger::Resync });
        }
        self.settled.as_ref()?;
        self.kernel.glance().map(Trigger::Glance)
    }

    /// One pass: observe, decide, plan, apply, report.
    pub fn pass(&mut self, because: Vec<Trigger>) {
        for trigger in &because {
            if let Trigger::Cluster(cluster, prune) = trigger {
                self.cluster = Some((Arc::clone(cluster), *prune));
            }
        }
        let started = Instant::now();
        let by_seen = because.iter().all(goes_by_seen);
        let because: Vec<String> = because.iter().map(ToString::to_string).collect();
        let outcome = self.converge(by_seen);
        let (steps, drift) = match outcome {
            Ok(Outcome { steps, drift }) => (steps, drift),
            Err(state) => {
                self.settle(None, state);
                (Vec::new(), false)
            }
        };
        for step in steps.iter().filter(|step| drift && step.result == StepResult::Done) {
            warn!(object = step.object, step = step.step, because = because.join(", "), "repaired drift");
        }
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.status().enter(Pass { because, at_ms: now_ms(), took_us, steps, others: 0 }, drift);
    }

    fn converge(&mut self, by_seen: bool) -> Result<Outcome, State> {
        let mut observed = self.look(by_seen).map_err(|e| State::Failed { reasons: vec![chain(&e)] })?;
        self.status().there = There::of(&observed);
        let cluster = self.cluster.as_ref().map(|(cluster, prune)| (cluster, *prune));
        let mut decision = (self.decide)(cluster, &observed).map_err(|reason| State::Waiting { reason })?;
        let steps = converge::plan(&decision.desired, &observed);
        decision.problems.extend(converge::hung(&decision.desired, &observed).map(str::to_owned));
        let as_settled = self.settled.as_ref() == Some(&decision.desired);
        let drift = as_settled && !steps.iter().all(Step::tidies_up);
        let outcomes = self.apply(&steps, drift, (decision.revoker.as_ref(), &observed));
        if outcomes.iter().all(|outcome| outcome.object != TABLE || outcome.result == StepResult::Done) {
            self.admissions.publish(decision.admitted);
        }
        let failed: Vec<String> = outcomes.iter().filter_map(failure).chain(decision.blocked).collect();
        let state = match (failed.is_empty(), decision.problems.is_empty()) {
            (false, _) => State::Failed { reasons: failed },
            (true, false) => State::Degraded { reasons: decision.problems },
            (true, true) => State::Ready,
        };
        self.kernel.share(&decision.desired.tables);
        let mut status = self.status();
        (status.wanted, status.notes) = (decision.wanted, decision.notes);
        status.without_pod = decision.without_pod;
        drop(status);
        self.settle(Some(decision.desired), state);
        self.seen = self.settled.as_ref().filter(|_| steps.iter().all(|step| observed.foresee(step))).map(
            |desired| {
                observed.network.share(&desired.network);
                observed
            },
        );
        Ok(Outcome { steps: outcomes, drift })
    }

    /// Reads everything, unless the pass may go by what has been seen: what the kernel would have announced is as it
    /// was. Where somebody else has changed any rules since, everything is read too: his announcement counts as old from
    /// then on.
    fn look(&mut self, by_seen: bool) -> Result<Observed, K::Error> {
        if let Some(seen) = self.seen.take().filter(|_| by_seen)
            && let Some(tables) = self.kernel.tables()?
        {
            return Ok(Observed { tables, ..seen });
        }
        self.looked = Instant::now();
        self.kernel.observe()
    }

    /// Applies the steps; the conflist, which invites pods, only if all the others succeeded.
    fn apply(
        &mut self,
        steps: &[Step],
        drift: bool,
        judging: (Option<&Revoker>, &Observed),
    ) -> Vec<StepOutcome> {
        let (last, first): (Vec<Step>, Vec<Step>) =
            steps.iter().cloned().partition(|step| matches!(step, Step::Conflist(_)));
        let applied = self.revoking.apply(&mut self.kernel, &first, judging);
        let mut results: Vec<StepResult> = applied.steps.iter().map(result).collect();
        let whole = results.iter().all(|result| *result == StepResult::Done);
        let cut = applied.cut.map(cut);
        if whole {
            results.extend(self.kernel.apply(&last).iter().map(result));
        }
        let outcome = |(i, step): (usize, &Step)| StepOutcome {
            step: step.to_string(),
            object: step.object().to_owned(),
            result: results.get(i).cloned().unwrap_or(StepResult::Skipped),
        };
        let outcomes = first.iter().chain(&last).enumerate().map(outcome);
        let outcomes: Vec<StepOutcome> = outcomes.chain(cut).collect();
        tell(&outcomes, drift);
        outcomes
    }

    /// Enters how a pass ended, and when to try again.
    fn settle(&mut self, desired: Option<Desired>, state: State) {
        let failed = matches!(state, State::Failed { .. });
        self.retry = failed.then(|| self.retry.map_or(RETRY, |last| (last * 2).min(RETRY_MOST)));
        self.settled = desired.filter(|_| !failed);
        if state.serves() {
            self.kernel.serves();
        }
        let mut status = self.status();
        if status.state != state {
            info!(state = ?state, "the node's state changed");
            status.state = state;
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Outcome {
    steps: Vec<StepOutcome>,
    drift: bool,
}

fn result<E: std::error::Error>(outcome: &Result<(), E>) -> StepResult {
    match outcome {
        Ok(()) => StepResult::Done,
        Err(error) => StepResult::Failed(chain(error)),
    }
}

/// Tells of steps, except of repairs, which are told as such.
fn tell(outcomes: &[StepOutcome], drift: bool) {
    let mut done = 0;
    for outcome in outcomes {
        match &outcome.result {
            StepResult::Done => {
                done += 1;
                if !drift && done <= TOLD {
                    info!(step = outcome.step, "changed the node");
                }
            }
            StepResult::Failed(reason) => error!(step = outcome.step, reason, "a step failed"),
            StepResult::Skipped => {}
        }
    }
    if !drift && done > TOLD {
        info!(steps = done - TOLD, "changed the node in as many ways more");
    }
}

/// What became of flows, as the outcome of a step.
fn cut<E: std::error::Error>(outcome: Result<usize, E>) -> StepOutcome {
    let count = outcome.as_ref().map_or(String::new(), |count| format!("{count} "));
    StepOutcome {
        step: format!("cut {count}flows that are no longer allowed"),
        object: "flow".to_owned(),
        result: result(&outcome.map(drop)),
    }
}

fn failure(outcome: &StepOutcome) -> Option<String> {
    match &outcome.result {
        StepResult::Failed(reason) => Some(reason.clone()),
        StepResult::Done | StepResult::Skipped => None,
    }
}

#[cfg(test)]
mod tests;
