//! containerd, as `ctr` and as the kubelet make it attach pods.
//!
//! Each scenario has a machine of its own and is played with the releases of containerd that Debian has: 1.6, which
//! knows the protocol up to 1.0.0, and 2.1, which also asks for STATUS. It ends with nothing left on the machine.

mod asked;
mod burst;
mod cri;
mod ctr;
mod daemon;
mod failing;
mod killed;
mod recorder;
mod status;
mod swap;
mod told;

use std::io::{self, Write};
use std::time::Duration;

/// Prints a measurement, which the test harness would keep to itself.
fn report(line: &str) {
    io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// How long the plugin took for each call of a verb that succeeded, by the lines of its log.
fn took(log: &str, verb: &str) -> Vec<Duration> {
    let ours = log
        .lines()
        .filter_map(|line| line.split_once(&format!("selvedge: verb={verb} ")))
        .map(|(_, fields)| fields);
    let took = ours.filter_map(|fields| fields.split_once("took=")?.1.split_once("ms result=ok"));
    took.map(|(ms, _)| Duration::from_secs_f64(ms.parse::<f64>().unwrap() / 1000.0)).collect()
}

/// Durations in short.
fn spread(took: &[Duration]) -> String {
    let mut sorted = took.to_vec();
    sorted.sort();
    let [median, slow, slowest] =
        [sorted.len() / 2, sorted.len() * 99 / 100, sorted.len() - 1].map(|at| sorted[at]);
    format!("p50 {median:.1?}, p99 {slow:.1?}, the slowest of {} {slowest:.1?}", sorted.len())
}
