//! The lab as a person runs it: a test for each column of its matrix, in each mode of attachment and each choice of
//! families, and that nothing is left of it.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use selvedge_lab::matrix::{Matrix, Outcome, Probe};
use selvedge_lab::path::PathKind;
use selvedge_lab::plan::Place;
use selvedge_tests::{Stage, program, within};

use crate::site::alone;

/// A module of tests for each lab, which is run once for all of them.
macro_rules! labs {
    ($($lab:ident: $attach:literal, $family:literal, $families:literal;)*) => {$(
        mod $lab {
            use std::sync::OnceLock;

            use selvedge_lab::matrix::Matrix;
            use selvedge_lab::path::PathKind;

            /// The paths of one column: as many pairs of sender and receiver, all as expected.
            fn column(kind: PathKind, pairs: usize) {
                static RUN: OnceLock<Option<Matrix>> = OnceLock::new();
                let matrix = RUN.get_or_init(|| super::run($attach, $family));
                let Some(matrix) = matrix else { return };
                super::must_be_whole(matrix, kind, pairs * $families);
            }

            #[test]
            fn pods_reach_their_own_node() {
                column(PathKind::OwnNode, 6);
            }

            #[test]
            fn pods_reach_other_nodes() {
                column(PathKind::OtherNode, 12);
            }

            #[test]
            fn nodes_reach_pods() {
                column(PathKind::FromNode, 18);
            }

            #[test]
            fn pods_reach_pods_on_their_node() {
                column(PathKind::SameNodePod, 6);
            }

            #[test]
            fn pods_reach_pods_on_other_nodes() {
                column(PathKind::OtherNodePod, 24);
            }

            #[test]
            fn pods_reach_themselves() {
                column(PathKind::Itself, 6);
            }

            #[test]
            fn pods_reach_the_outside_as_their_node() {
                column(PathKind::Outside, 6);
            }
        }
    )*};
}

labs! {
    routed_dual: "routed", "dual", 2;
    routed_ipv4: "routed", "ipv4", 1;
    routed_ipv6: "routed", "ipv6", 1;
    bridged_dual: "bridge", "dual", 2;
    bridged_ipv4: "bridge", "ipv4", 1;
    bridged_ipv6: "bridge", "ipv6", 1;
}

/// Runs a lab of three nodes with two pods each; `None` if this user may not, which has been said.
fn run(attach: &str, family: &str) -> Option<Matrix> {
    run_lab(&["--attach", attach, "--family", family])
}

/// The same with any flags.
pub(crate) fn run_lab(flags: &[&str]) -> Option<Matrix> {
    hear_lab(flags).map(|(matrix, _)| matrix)
}

/// The same, with what was said on standard error.
pub(crate) fn hear_lab(flags: &[&str]) -> Option<(Matrix, String)> {
    Stage::new()?;
    let _alone = alone();
    let (mut command, mark) = lab(&[&["run", "--json"], flags].concat());
    let output = command.output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    let matrix: Matrix = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{complaints}"));
    // What failed is for the tests of the columns to say.
    let expected = i32::from(matrix.failed().next().is_some());
    assert_eq!(output.status.code(), Some(expected), "{complaints}");
    must_be_gone(&mark);
    Some((matrix, complaints.into_owned()))
}

fn must_be_whole(matrix: &Matrix, kind: PathKind, pairs: usize) {
    let probes: Vec<&Probe> = matrix.cells.iter().filter(|probe| probe.path.kind == kind).collect();
    // ICMP and TCP.
    assert_eq!(probes.len(), pairs * 2);
    let faults: Vec<String> = probes
        .iter()
        .filter_map(|probe| Some(format!("{}: {}", probe.path, probe.fault()?)))
        .chain(probes.iter().filter_map(|probe| wrongly_seen(probe)))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The source that the receiver saw, held against the lab's plan of addresses rather than the lab's own judgement:
/// pods are seen as pods by everybody but the outside.
fn wrongly_seen(probe: &Probe) -> Option<String> {
    let Outcome::Reached { seen_source } = &probe.outcome else { return None };
    let as_pod = matches!(probe.path.from, Place::Pod(_)) && probe.path.kind != PathKind::Outside;
    let from_node = matches!(probe.path.from, Place::Node(_));
    let among = |nets: [&str; 2]| nets.iter().any(|net| net.parse::<IpNet>().unwrap().contains(seen_source));
    let pods = among(["10.244.0.0/16", "fd00:10:244::/48"]);
    let nodes = among(["172.30.0.0/24", "fd00:30::/64"]);
    // A node is seen by its bridged pods as their gateway.
    let right = if as_pod { pods } else { nodes || (from_node && is_gateway(*seen_source)) };
    (!right).then(|| format!("{}: seen as {seen_source}", probe.path))
}

fn is_gateway(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[3] == 1,
        IpAddr::V6(v6) => v6.segments()[4..] == [0, 0, 0, 1],
    }
}

#[test]
fn nothing_is_left_of_a_lab_whose_front_process_was_killed() {
    let Some(_stage) = Stage::new() else { return };
    let _alone = alone();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let (mut command, mark) = lab(&["run"]);
    let mut front = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    within(20.0, "the lab has three agents", || {
        let processes = processes(&mark);
        let agents = processes.iter().filter(|line| line.contains("selvedge-agent")).count();
        if agents == 3 { Ok(()) } else { Err(format!("{processes:?}")) }
    });
    front.kill().unwrap();
    front.wait().unwrap();
    must_be_gone(&mark);
    assert_eq!(mounts(), before);
}

/// The command `selvedgectl lab …` and the variable that all processes of that lab have in their environment.
fn lab(arguments: &[&str]) -> (Command, String) {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let value = format!("{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
    let mut command = Command::new(program("selvedgectl"));
    command.arg("lab").args(arguments).env("SELVEDGE_SCENARIO", &value).stdin(Stdio::null());
    (command, format!("SELVEDGE_SCENARIO={value}\0"))
}

fn must_be_gone(mark: &str) {
    within(20.0, "every process of the lab is gone", || {
        let processes = processes(mark);
        if processes.is_empty() { Ok(()) } else { Err(format!("{processes:?}")) }
    });
}

/// The command lines of the processes with that variable.
fn processes(mark: &str) -> Vec<String> {
    let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let marked = entries.filter(|process| text(process.join("environ")).contains(mark));
    marked.map(|process| text(process.join("cmdline")).replace('\0', " ")).collect()
}
