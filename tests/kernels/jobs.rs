//! What is done on each kernel.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use selvedge_tests::program;

use crate::vm::Job;

/// What fits into `make test`.
pub(crate) fn brief() -> Vec<Job> {
    vec![check(), lab("lab: routed", "--nodes 2 --pods 1")]
}

/// What `make kernels` does.
pub(crate) fn full() -> Vec<Job> {
    let mut jobs = vec![check()];
    jobs.extend([
        tests(
            "plugin: ADD, CHECK, DEL and GC, routed and bridged",
            "conformance",
            "add:: check:: del::del_3 del::del_5 gc:: --skip statements::",
        ),
        tests("plugin: published ports", "conformance", "published::"),
        tests("plugin and agent: limits", "scenarios", "limits::"),
        tests("agent: drift of every kind is mended", "scenarios", "drift::"),
        tests(
            "agent: starts anew, and ends",
            "scenarios",
            "restart::a_ restart::the_ restart::told_ restart::what_",
        ),
        tests(
            "policies: from a pod's first packet on",
            "scenarios",
            "policy::no_pod policy::while_ policy::what_",
        ),
        tests("an uninstall leaves nothing", "scenarios", "uninstall::"),
    ]);
    for attach in ["routed", "bridge"] {
        for family in ["dual", "ipv4", "ipv6"] {
            jobs.push(lab(
                &format!("lab: {attach}, {family}"),
                &format!("--attach {attach} --family {family}"),
            ));
        }
    }
    jobs.push(Job {
        shows: "lab: bridge, with br_netfilter".to_owned(),
        line: format!(
            "modprobe br_netfilter && {} lab run --attach bridge",
            program("selvedgectl").display()
        ),
        limit: 300,
    });
    jobs
}

/// Whether a node with this kernel can serve pods, and what it lacks.
fn check() -> Job {
    let line = format!("{} check --pod-cidr 10.244.0.0/16", program("selvedge-agent").display());
    Job { shows: "a node can serve pods".to_owned(), line, limit: 120 }
}

/// A lab, probed on every path.
fn lab(shows: &str, flags: &str) -> Job {
    let line = format!("{} lab run {flags}", program("selvedgectl").display());
    Job { shows: shows.to_owned(), line, limit: 300 }
}

/// Tests of another test program, those whose names have one of these in them.
fn tests(shows: &str, of: &str, names: &str) -> Job {
    let line = format!("{} {names}", test_program(of).display());
    Job { shows: shows.to_owned(), line, limit: 1200 }
}

/// The newest one that cargo has built beside this one.
fn test_program(name: &str) -> PathBuf {
    let own = env::current_exe().unwrap();
    let beside = fs::read_dir(own.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let named = beside.filter(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-') && !rest.contains('.'))
    });
    let built = |path: &PathBuf| {
        fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    named
        .max_by_key(built)
        .unwrap_or_else(|| panic!("the test program {name} is not built: make kernels builds it"))
}
