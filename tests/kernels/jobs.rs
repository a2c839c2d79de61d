//! What is done on each kernel.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use selvedge_tests::program;

use crate::vm::Job;

/// What fits into `make test`.
pub(crate) fn brief() -> Vec<Job> {
    let jobs = [check(), lab("lab: VXLAN between two segments", "--nodes 2 --pods 1 --segments 2")];
    jobs.into_iter().map(|job| Job { limit: 240, ..job }).collect()
}

/// What `make kernels` does: with a word in JOBS, what of it has the word in its name.
pub(crate) fn wanted() -> Vec<Job> {
    let word = env::var("JOBS").unwrap_or_default();
    full().into_iter().filter(|job| job.shows.contains(&word)).collect()
}

fn full() -> Vec<Job> {
    let mut jobs = vec![check()];
    jobs.extend(labs());
    jobs.extend([
        tests("agent: drift of every kind is mended", "scenarios", "drift::"),
        tests("agent: an overlay and its peers come back", "scenarios", "transports::overlay::"),
        wireguard(),
        forwarder("udp: the forwarder carries both families", "tunnel::both tunnel::strangers tunnel::what"),
        forwarder("wireguard in user space: both families", "tunnel::wireguard::both"),
        tests("policies: a pod waits for them, and what they forbid ends", "scenarios", "policy::w"),
        tests("plugin: ADD, CHECK, DEL and GC, routed and bridged", "conformance", PLUGIN),
        tests("plugin: limits", "scenarios", "limits::"),
        tests("an uninstall leaves nothing", "scenarios", "uninstall::"),
    ]);
    jobs
}

const PLUGIN: &str =
    "add::add_1 add::add_7 check::chk_2 check::chk_4 del::del_3 gc::gc_1 --skip statements::";

/// Each way of attaching pods, each choice of families, each transport.
fn labs() -> Vec<Job> {
    let attached = ["routed", "bridge"].into_iter().flat_map(|attach| {
        ["dual", "ipv4", "ipv6"].map(|family| {
            (format!("lab: {attach}, {family}"), format!("--attach {attach} --family {family} --pods 1"))
        })
    });
    let transports = [
        ("direct, large packets", "--transport direct --mtu 9000"),
        ("native, two segments", "--transport native --segments 2"),
        ("auto, two segments", "--segments 2"),
        ("vxlan, two segments", "--transport vxlan --segments 2"),
        ("udp, two segments", "--transport udp --segments 2"),
        ("vxlan, two segments, bridge", "--transport vxlan --segments 2 --attach bridge"),
    ];
    let transports = transports.map(|(shows, flags)| (format!("lab: {shows}"), format!("{flags} --pods 1")));
    let mut jobs: Vec<Job> = attached.chain(transports).map(|(shows, flags)| lab(&shows, &flags)).collect();
    jobs.push(encrypted());
    jobs.push(Job {
        shows: "lab: bridge, with br_netfilter".to_owned(),
        line: format!(
            "modprobe br_netfilter && {} lab run --attach bridge",
            program("selvedgectl").display()
        ),
        limit: LIMIT,
    });
    jobs
}

/// A lab that the kernel encrypts: no process could make a device.
fn encrypted() -> Job {
    let job = lab("lab: wireguard, two segments", "--transport wireguard --segments 2 --pods 1");
    let line = format!("mv /dev/net /dev/away; {}; status=$?; mv /dev/away /dev/net; exit $status", job.line);
    Job { line, ..job }
}

/// After how many seconds a lab is stuck.
const LIMIT: u32 = 600;

/// Whether a node with this kernel can serve pods, and what it lacks.
fn check() -> Job {
    let line = format!("{} check --pod-cidr 10.244.0.0/16", program("selvedge-agent").display());
    Job { shows: "a node can serve pods".to_owned(), line, limit: LIMIT }
}

/// A lab, probed on every path.
fn lab(shows: &str, flags: &str) -> Job {
    let line = format!("{} lab run {flags}", program("selvedgectl").display());
    Job { shows: shows.to_owned(), line, limit: LIMIT }
}

/// Tests of another test program, those whose names have one of these in them.
fn tests(shows: &str, of: &str, names: &str) -> Job {
    let line = format!("{} {names}", test_program(of).display());
    Job { shows: shows.to_owned(), line, limit: LIMIT }
}

/// Tests of a forwarder: what it carries in them is much for a processor that is pretended.
fn forwarder(shows: &str, names: &str) -> Job {
    Job { limit: 2 * LIMIT, ..tests(shows, "scenarios", names) }
}

/// The kernel's WireGuard device, and nothing of it skipped.
fn wireguard() -> Job {
    let job = tests("wireguard: the device is set and read", "selvedge_wireguard", "kernel:: --nocapture");
    let line =
        format!("set -o pipefail; {} | tee /run/wireguard && ! grep -q ^skipped /run/wireguard", job.line);
    Job { line, ..job }
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
