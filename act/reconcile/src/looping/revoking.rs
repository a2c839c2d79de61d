//! Flows that are no longer allowed, cut with the change that denies them.
//!
//! Connection tracking is listed before the change, what is denied goes into the sets of revoked flows in the very
//! transaction, and its entries are deleted after that. What came up between the listing and the commit is found by
//! listing again, until there is nothing new. An agent that was stopped halfway does it all again at its start: then,
//! too, every flow is judged.

use selvedge_datapath::converge::{Observed, Step};
use selvedge_datapath::firewall::AGENT;
use selvedge_model::Tracked;
use selvedge_policy::{Cut, Revoker};
use selvedge_ruleset::{Change, Command, Policy, Transaction};
use tracing::warn;

use super::Kernel;

/// How often flows are listed at most. The second listing finds what came up meanwhile, a third one nothing.
const ROUNDS: usize = 4;

/// Whether every tracked flow has been judged by the policy that is in force.
#[derive(Debug, Default)]
pub(super) struct Revoking {
    judged: bool,
}

/// What became of the steps, and of flows.
pub(super) struct Applied<E> {
    /// The outcome of each step.
    pub(super) steps: Vec<Result<(), E>>,
    /// How many flows were cut, if any were to be, or what kept it from that: it is tried again with the next pass.
    pub(super) cut: Option<Result<usize, E>>,
}

impl Revoking {
    /// Makes the steps, as [`Kernel::apply`] does; where they may deny what was allowed, cuts the flows that are denied
    /// now. Where there is no policy, nothing is looked at.
    pub(super) fn apply<K: Kernel>(
        &mut self,
        kernel: &mut K,
        steps: &[Step],
        (revoker, observed): (Option<&Revoker>, &Observed),
    ) -> Applied<K::Error> {
        let Some(revoker) = revoker else {
            self.judged = false;
            return Applied { steps: kernel.apply(steps), cut: None };
        };
        self.judged &= !steps.iter().any(closes);
        let found = if self.judged { Ok(Cut::default()) } else { denied(kernel, revoker, observed) };
        let (cut, failed) = match found {
            Ok(cut) => (cut, None),
            // The change must not wait for that.
            Err(why) => (Cut::default(), Some(why)),
        };
        let changes_policy = steps.iter().any(of_policy);
        let released = if changes_policy { revoker.released(&observed.tables, &AGENT) } else { Vec::new() };
        let changes: Vec<Change> = cut.changes.into_iter().chain(released).collect();
        let mut outcomes = match changes.is_empty() {
            true => kernel.apply(steps),
            false => kernel.apply(&with(steps, changes)),
        };
        let extra = outcomes.drain(steps.len().min(outcomes.len())..).next();
        let committed =
            steps.iter().zip(&outcomes).all(|(step, outcome)| !of_policy(step) || outcome.is_ok());
        let cut = match (failed.or_else(|| extra.and_then(Result::err)), self.judged || !committed) {
            (Some(why), _) => Some(Err(why)),
            // Without the change, which has failed, or without one that denies anything.
            (None, true) => None,
            (None, false) => self.finish(kernel, cut.flows, (revoker, observed)),
        };
        Applied { steps: outcomes, cut }
    }

    /// Deletes the entries of the flows that are cut, and cuts those that came up meanwhile.
    fn finish<K: Kernel>(
        &mut self,
        kernel: &mut K,
        first: Vec<Tracked>,
        (revoker, observed): (&Revoker, &Observed),
    ) -> Option<Result<usize, K::Error>> {
        let mut count = 0;
        let mut flows = first;
        for _ in 1..ROUNDS {
            count += flows.len();
            let more = kernel.forget(&flows).and_then(|()| denied(kernel, revoker, observed));
            let more = match more {
                Ok(more) => more,
                Err(why) => return Some(Err(why)),
            };
            self.judged = more.flows.is_empty();
            if self.judged {
                break;
            }
            if let Some(Err(why)) = kernel.apply(&with(&[], more.changes)).into_iter().next() {
                return Some(Err(why));
            }
            flows = more.flows;
        }
        (count > 0).then_some(Ok(count))
    }
}

/// The tracked flows that are denied, and what cuts them.
fn denied<K: Kernel>(kernel: &mut K, revoker: &Revoker, observed: &Observed) -> Result<Cut, K::Error> {
    let flows = kernel.flows(&|flow| revoker.concerns(flow))?;
    let cut = revoker.cut(flows, &observed.tables, &AGENT);
    if cut.beyond > 0 {
        warn!(flows = cut.beyond, "more flows are denied now than can be cut both ways: their entries go");
    }
    Ok(cut)
}

/// The steps with these changes at the end of the transaction on the agent's table, or one of its own behind them.
fn with(steps: &[Step], changes: Vec<Change>) -> Vec<Step> {
    let mut steps = steps.to_vec();
    let mut commands = changes.into_iter().map(|change| Command { table: AGENT, change });
    match steps.iter_mut().find(|step| of_policy(step)) {
        Some(Step::Rules(_, transaction)) => transaction.extend(commands),
        _ => {
            let transaction: Transaction = commands.by_ref().collect();
            steps.extend((!transaction.is_empty()).then_some(Step::Rules(AGENT, transaction)));
        }
    }
    steps
}

fn of_policy(step: &Step) -> bool {
    matches!(step, Step::Rules(table, _) if *table == AGENT)
}

/// Whether a step may deny what was allowed. What isn't in policy's maps passes nowhere, and what is in a set of peers
/// or ports is admitted: so elements that come, and sets and chains that nothing leads to yet, deny nothing.
fn closes(step: &Step) -> bool {
    let opens = |command: &Command| match &command.change {
        Change::AddChain(_, base) => base.is_none_or(|base| base.policy == Policy::Accept),
        Change::AddTable { .. } | Change::AddSet(..) | Change::AddElements(_) => true,
        _ => false,
    };
    match step {
        Step::Rules(_, transaction) => of_policy(step) && !transaction.commands().iter().all(opens),
        Step::Net(_) | Step::Accept(..) | Step::Plugin | Step::Conflist(_) | Step::Superseded(_) => false,
    }
}

#[cfg(test)]
mod tests;
