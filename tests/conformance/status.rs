//! STATUS, beyond the statements ST-1 to ST-6.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use selvedge_tests::{Answer, Call, Stage, skipped};
use serde_json::{Value, json};

use crate::config::{MODES, add, traces, tutorial, with};

#[test]
fn st_1_succeeds_on_a_fresh_node_and_makes_nothing_there() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let before = traces(&stage);
        Call::new("STATUS", configured(&stage)).run(stage.node()).done();
        assert_eq!(traces(&stage), before);
        assert_eq!(fs::read_dir(stage.folder()).unwrap().count(), 0);
    }
}

#[test]
fn st_1_with_an_agent_that_was_never_ready_it_is_50_and_with_one_that_was_it_is_good() {
    let Some(stage) = Stage::new() else { return };
    let config = with(tutorial(&stage), json!({"agent": stage.folder().join("agent.sock")}));
    let answer = Call::new("STATUS", config.clone()).run(stage.node());
    let (code, message) = answer.refusal();
    assert!(code == 50 && message.contains("selvedge-agent"), "{message}");
    fs::write(stage.folder().join("ready"), "").unwrap();
    Call::new("STATUS", config).run(stage.node()).done();
}

/// Regression: it waited for whoever held the lock, and a runtime sets up no pod before it has its answer.
#[test]
fn st_5_a_held_journal_keeps_nobody_waiting() {
    let Some(stage) = Stage::new() else { return };
    // Six addresses: the gateway's and five for pods.
    let config = with(tutorial(&stage), json!({"subnet": "10.244.1.0/29"}));
    let pods: Vec<_> = (0..5).map(|_| stage.pod()).collect();
    add(&stage, &config, "web-0", &pods[0]);
    asked_while_locked(&stage, &config, |answer| answer.done());
    for (number, pod) in pods.iter().enumerate().skip(1) {
        add(&stage, &config, &format!("web-{number}"), pod);
    }
    asked_while_locked(&stage, &config, |answer| assert_eq!(answer.refusal().0, 50));
}

/// Asks while somebody holds the journal's lock; more than half of the answers must be there in 50 ms. Not all: the
/// machine may be busy.
fn asked_while_locked(stage: &Stage, config: &Value, judge: impl Fn(&Answer)) {
    let path = stage.folder().join("ipam/mynet/lock");
    let lock = File::options().write(true).open(path).unwrap();
    lock.lock().unwrap();
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..9 {
        let asked = Instant::now();
        judge(&Call::new("STATUS", config.clone()).run(stage.node()));
        took.push(asked.elapsed());
    }
    took.sort();
    assert!(took[4] < Duration::from_millis(50), "{took:?}");
}

#[test]
fn status_is_not_in_versions_before_1_1_0() {
    let Some(stage) = Stage::new() else { return };
    let config = with(tutorial(&stage), json!({"cniVersion": "1.0.0"}));
    let answer = Call::new("STATUS", config).run(stage.node());
    let (code, message) = answer.refusal();
    assert!(code == 1 && message.contains("config version does not allow STATUS"), "{message}");
}

/// Regression: STATUS said that all was well where nothing could be written down, and each ADD failed.
#[test]
fn st_1_where_no_lease_can_be_written_down_it_is_50_and_says_why_and_nothing_is_made() {
    let Some(stage) = Stage::new() else { return };
    if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        return skipped("mount namespaces need root and unshare of util-linux");
    }
    let disk = stage.folder().join("disk");
    fs::create_dir(&disk).unwrap();
    fs::write(stage.folder().join("file"), "").unwrap();
    let on = |options: &str, verb: &str, folder: &Path| {
        let script =
            "mount -t tmpfs -o \"$0\" tmpfs \"$1\"; [ $0 != size=4k ] || echo > \"$1\"/full; exec \"$2\"";
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, options];
        let words = unshare.map(OsString::from).into_iter().chain([disk.clone().into()]);
        let call = Call::new(verb, with(tutorial(&stage), json!({"runDir": folder})));
        call.of("web-0", &stage.pod()).under(words).run(stage.node())
    };
    let before = traces(&stage);
    on("size=1m", "STATUS", &disk.join("run/selvedge")).done();
    let read_only = "Read-only file system";
    let full = "No space left on device";
    for (options, folder, why) in [
        ("ro", disk.clone(), read_only),
        ("ro", disk.join("run/selvedge"), read_only),
        ("size=4k", disk.join("run"), full),
        ("nr_inodes=1", disk.join("run"), full),
        ("ro", stage.folder().join("file"), "Not a directory"),
        ("ro", "/proc/nowhere".into(), "Operation not permitted"),
        ("ro", "/sys/nowhere".into(), "Operation not permitted"),
    ] {
        let answer = on(options, "STATUS", &folder);
        let (code, message) = answer.refusal();
        assert!(code == 50 && message.contains(why), "{options} {folder:?}: {code} {message}");
        on(options, "ADD", &folder).refusal();
        assert_eq!(traces(&stage), before, "{options} {folder:?}");
    }
}
