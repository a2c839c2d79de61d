//! Flows that are no longer allowed, cut right after the change that denies them.
//!
//! The change comes first: from then on no such flow is opened, however long it takes to list those that are. Then
//! connection tracking is listed, what is denied goes into the sets of revoked flows, its entries are deleted, and all that
//! again until there is nothing new. An agent that was stopped halfway does it at its start: then, too, every flow is
//! judged.

use selvedge_datapath::converge::{Observed, Step};
use selvedge_datapath::firewall::{self, AGENT};
use selvedge_policy::{Cut, Revoker, Unknown};
use selvedge_ruleset::{Change, Command, DataType, Policy, Transaction};
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
        self.judged &= !steps.iter().any(|step| closes(step, revoker.unknown()));
        let changes_policy = steps.iter().any(of_policy);
        let released = if changes_policy { revoker.released(&observed.tables, &AGENT) } else { Vec::new() };
        let outcomes = match released.is_empty() {
            true => kernel.apply(steps),
            false => kernel.apply(&with(steps, released)),
        };
        let committed =
            steps.iter().zip(&outcomes).all(|(step, outcome)| !of_policy(step) || outcome.is_ok());
        // What has failed denies nothing.
        let cut = if self.judged || !committed { None } else { self.cut(kernel, (revoker, observed)) };
        Applied { steps: outcomes, cut }
    }

    /// Cuts what is denied now, and those that came up meanwhile.
    fn cut<K: Kernel>(
        &mut self,
        kernel: &mut K,
        (revoker, observed): (&Revoker, &Observed),
    ) -> Option<Result<usize, K::Error>> {
        let mut count = 0;
        for _ in 0..ROUNDS {
            let Cut { changes, flows, .. } = match denied(kernel, revoker, observed) {
                Ok(cut) => cut,
                Err(why) => return Some(Err(why)),
            };
            self.judged = flows.is_empty();
            if self.judged {
                break;
            }
            if let Some(Err(why)) = kernel.apply(&with(&[], changes)).into_iter().next() {
                return Some(Err(why));
            }
            if let Err(why) = kernel.forget(&flows) {
                return Some(Err(why));
            }
            count += flows.len();
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

/// The steps with these changes at the end of the last transaction on the agent's table, or one of its own behind them.
fn with(steps: &[Step], changes: Vec<Change>) -> Vec<Step> {
    let mut steps = steps.to_vec();
    let mut commands = changes.into_iter().map(|change| Command { table: AGENT, change });
    match steps.iter_mut().rfind(|step| of_policy(step)) {
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
fn closes(step: &Step, unknown: Unknown) -> bool {
    let opens = |command: &Command| match &command.change {
        // Where what isn't in the maps passes, they close what they hold.
        Change::AddElements(elements) if unknown == Unknown::Open => {
            elements.set_type.data != DataType::Verdict
        }
        Change::AddChain(_, base) => base.is_none_or(|base| base.policy == Policy::Accept),
        Change::AddTable { .. } | Change::AddSet(..) | Change::AddElements(_) => true,
        Change::DeleteElements(elements) => firewall::tells_of_nodes(&elements.set),
        _ => false,
    };
    match step {
        Step::Rules(_, transaction) => of_policy(step) && !transaction.commands().iter().all(opens),
        Step::Net(_) | Step::Forwarder(_) | Step::Accept(..) => false,
        Step::Plugin | Step::Conflist(_) | Step::Superseded(_) => false,
    }
}

#[cfg(test)]
mod tests;
