//! Cases that a person has written down: who reaches whom, by every port of every protocol and in both families, is
//! what is judged and what becomes of real packets.

use std::time::Instant;

use selvedge_policy::testing::cases::{Case, SERVED, cases, combinations};
use selvedge_policy::testing::world::Trip;
use selvedge_policy::{Flow, judge};
use selvedge_ruleset::{Change, Transaction};

use crate::ground::Attach;
use crate::probe::Site;

#[test]
fn the_cases_of_kubernetes_own_suite_come_out_on_real_packets() {
    let Some(mut site) = Site::new(Attach::Routed) else { return };
    walk_all(&mut site, &cases(), 50);
}

/// Targets, peers, ports and protocols, in combination, one policy on top of another, and changes of all sorts.
#[test]
fn what_policies_are_made_of_means_the_same_in_every_combination_on_real_packets() {
    let Some(mut site) = Site::new(Attach::Routed) else { return };
    walk_all(&mut site, &combinations(), 200);
}

/// Goes through cases on one site, one state after another, and fails with all that came out otherwise.
fn walk_all(site: &mut Site, cases: &[Case], at_least: usize) {
    let begun = Instant::now();
    let mut flows = 0;
    let mut wrong = Vec::new();
    for case in cases {
        let (compared, faults) = walk(site, case);
        flows += compared;
        wrong.extend(faults);
    }
    let states: usize = cases.iter().map(|case| case.steps.len()).sum();
    println!(
        "{} cases, {states} states, {flows} flows compared by real packets, in {:.1} s",
        cases.len(),
        begun.elapsed().as_secs_f64()
    );
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many flows were compared, and each state of the case in which packets fare otherwise than they are to.
fn walk(site: &mut Site, case: &Case) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (number, step) in case.steps.iter().enumerate() {
        let cluster = step.world.cluster();
        let done = site.bring_to(&cluster);
        assert!(number == 0 || !done.iter().any(begins_anew), "{}: a table is made anew", case.name);
        let (trips, flows): (Vec<Trip>, Vec<Flow>) = step.world.trips(&SERVED).into_iter().unzip();
        let flows: Vec<(Flow, bool)> =
            trips.iter().zip(flows).map(|(trip, flow)| (flow, step.allows(trip))).collect();
        let arrived = site.probe(&flows);
        compared += arrived.iter().flatten().count();
        let faults =
            trips.iter().zip(&flows).zip(arrived).filter_map(|((trip, (flow, allowed)), arrived)| {
                let verdict = judge(&cluster, flow);
                let is_right = arrived == Some(*allowed) && verdict.is_allowed() == *allowed;
                (!is_right).then(|| format!("  {trip:?} should be {allowed}, arrived {arrived:?}, {verdict}"))
            });
        let faults: Vec<String> = faults.collect();
        if !faults.is_empty() {
            wrong.push(format!("{}, state {number}, {}:\n{}", case.name, faults.len(), faults.join("\n")));
        }
    }
    (compared, wrong)
}

fn begins_anew(transaction: &Transaction) -> bool {
    transaction
        .commands()
        .iter()
        .any(|command| matches!(command.change, Change::DeleteTable | Change::AddTable { .. }))
}
