//! Other kernels than this machine's: Debian's, each in a machine that qemu pretends without the help of the processor.
//!
//! What runs there are the programs under test and the other test programs, from this machine's files.
//! `make test` tries one kernel briefly, `make kernels` all of them at length, and writes `docs/kernels.md`.
#![cfg(test)]

use std::env;
use std::thread;

use selvedge_tests::skipped;

mod jobs;
mod table;
mod vm;

use vm::{Kernel, Ran};

/// What `make test` tries.
const ONE: &str = "6.12";

/// What `make kernels` tries.
const ALL: [&str; 3] = ["6.1", "6.12", "7.2"];

#[test]
fn a_lab_works_on_a_kernel_of_debians() {
    let Some(kernel) = Kernel::find(ONE) else {
        return skipped("no other kernel, or no qemu, could be unpacked");
    };
    match kernel.run(&jobs::brief(), |_| ()) {
        Some(ran) => must_be_well(&kernel, &ran),
        None => skipped("the machine that qemu pretends stood still"),
    }
}

#[test]
#[ignore = "takes many minutes: make kernels"]
fn what_works_here_works_on_debians_kernels() {
    let wanted = env::var("KERNEL").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let asked = |name: &&str| wanted.is_empty() || wanted.contains(name);
    let kernels = ALL.into_iter().filter(asked);
    let kernels: Vec<Kernel> =
        kernels.map(|name| Kernel::find(name).expect("make kernels has unpacked it")).collect();
    let run = |kernel: &Kernel| {
        kernel.run(&jobs::wanted(), |ran| tell(kernel, ran)).expect("the machine stood still")
    };
    // A machine often waits for its own clock: together they take less long.
    let columns: Vec<(Kernel, Vec<Ran>)> = thread::scope(|scope| {
        let running: Vec<_> =
            kernels.into_iter().map(|kernel| scope.spawn(move || (kernel.clone(), run(&kernel)))).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(!columns.is_empty(), "{wanted:?} are none of {ALL:?}");
    if columns.len() == ALL.len() && env::var_os("SELVEDGE_WRITE").is_some() {
        table::write(&columns);
    }
    for (kernel, ran) in &columns {
        must_be_well(kernel, ran);
    }
}

/// A line for a job, which is to be seen at once.
fn tell(kernel: &Kernel, ran: &Ran) {
    let outcome = if ran.is_well() { "ok" } else { "FAILED" };
    eprintln!("{} {}: {outcome}: {}", kernel.release, ran.shows, table::cell(ran));
}

fn must_be_well(kernel: &Kernel, ran: &[Ran]) {
    let failed: Vec<String> = ran
        .iter()
        .filter(|ran| !ran.is_well())
        .map(|ran| format!("{} ({:?}):\n{}", ran.shows, ran.status, ran.log))
        .collect();
    assert!(failed.is_empty(), "on {}:\n{}", kernel.release, failed.join("\n"));
}
