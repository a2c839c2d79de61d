//! containerd is killed while the plugin attaches a pod: the plugin ends on its own, and nobody hears its answer.

use std::fs;
use std::thread;

use selvedge_tests::{Traces, within};
use serde_json::json;

use super::cri::{Config, Cri};
use super::daemon::{Daemon, releases, routed};
use super::failing::{delegating, fake_ipam};
use super::recorder;

/// Shell: waits in the middle until it may go on.
const WAIT: &str = "touch /run/begun; while [ ! -e /run/go-on ]; do sleep 0.02; done";

/// Asks for a pod, kills containerd once the plugin is at work, and starts it again; the new connection, and the
/// sandbox's id.
fn killed_in_the_middle(daemon: &mut Daemon) -> (Cri, String) {
    let before = daemon.cri();
    thread::scope(|scope| {
        let asked = scope.spawn(|| before.run(Config::of("web-0")));
        until_there(daemon, "/run/begun");
        daemon.kill();
        asked.join().unwrap().unwrap_err();
    });
    daemon.restart();
    let cri = daemon.cri();
    let ids = cri.list();
    assert_eq!(ids.len(), 1, "{ids:?}");
    (cri, ids.concat())
}

fn until_there(daemon: &Daemon, file: &str) {
    let path = daemon.machine.path(file);
    within(10.0, file, || fs::exists(&path).unwrap().then_some(()).ok_or_else(|| daemon.log()));
}

fn removed(daemon: &Daemon, cri: &Cri, id: &str) {
    let dels = recorder::calls(&daemon.machine, "DEL");
    let del = dels.first().unwrap();
    assert_eq!(del.variable("CNI_CONTAINERID"), id);
    assert!(del.stdin["prevResult"].is_null(), "somebody heard the answer: {}", del.stdin);
    cri.remove(id).unwrap();
    daemon.nothing_is_left();
}

#[test]
fn a_pod_whose_add_nobody_heard_the_end_of_is_detached_when_it_is_stopped() {
    for release in releases() {
        let Some(mut daemon) = Daemon::start(release, &routed(&json!({}))) else { return };
        let attach = r#"/opt/cni/bin/selvedge <"$call.stdin" >/run/answer"#;
        recorder::order(&daemon.machine, "ADD", &format!("{attach}\n{WAIT}\nexit 0"));
        let (cri, id) = killed_in_the_middle(&mut daemon);
        daemon.machine.write("/run/go-on", "");
        let traces = Traces::on(daemon.machine.node(), &daemon.run_dir());
        assert_eq!(traces.with("lease").len(), 1, "{traces:?}");
        cri.stop(&id).unwrap();
        removed(&daemon, &cri, &id);
    }
}

#[test]
fn an_orphaned_add_takes_back_what_nobody_can_hear_of() {
    for release in releases() {
        let conflist = routed(&json!({"logFile": "/run/plugin.log"}));
        let Some(mut daemon) = Daemon::start(release, &conflist) else { return };
        recorder::order(&daemon.machine, "ADD", WAIT);
        let (cri, id) = killed_in_the_middle(&mut daemon);
        daemon.machine.write("/run/go-on", "");
        let log = daemon.machine.path("/run/plugin.log");
        let add = within(10.0, "the orphaned ADD ends", || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            log.lines().find(|line| line.contains("verb=ADD")).map(str::to_owned).ok_or(log)
        });
        assert!(!add.contains("result=ok"), "{add}");
        let traces = Traces::on(daemon.machine.node(), &daemon.run_dir());
        assert_eq!((traces.with("lease"), traces.with("slv")), (vec![], vec![]));
        cri.stop(&id).unwrap();
        removed(&daemon, &cri, &id);
    }
}

#[test]
fn a_pod_that_is_stopped_while_an_orphaned_add_is_at_work_is_detached_after_it() {
    for release in releases() {
        let Some(mut daemon) = Daemon::start(release, &delegating()) else { return };
        let answer = r#"echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.9/24"}]}'"#;
        fake_ipam(&daemon.machine, &format!("[ $CNI_COMMAND = ADD ] || exit 0\n{WAIT}\n{answer}"));
        let (cri, id) = killed_in_the_middle(&mut daemon);
        thread::scope(|scope| {
            let stopped = scope.spawn(|| cri.stop(&id));
            within(10.0, "DEL has come", || {
                recorder::calls(&daemon.machine, "DEL").pop().map(drop).ok_or_else(|| daemon.log())
            });
            assert!(!daemon.machine.processes("fake-ipam").is_empty(), "ADD has ended");
            daemon.machine.write("/run/go-on", "");
            stopped.join().unwrap().unwrap();
        });
        removed(&daemon, &cri, &id);
    }
}

#[test]
fn pods_outlive_containerd_and_keep_their_addresses_to_themselves() {
    for release in releases() {
        let Some(mut daemon) = Daemon::start(release, &routed(&json!({"type": "selvedge"}))) else { return };
        let old = daemon.cri().run(Config::of("web-0")).unwrap();
        daemon.kill();
        daemon.restart();
        let cri = daemon.cri();
        let new = cri.run(Config::of("web-1")).unwrap();
        assert_eq!(cri.addresses(&old), ["10.244.1.2", "fd00:10:244:1::2"]);
        assert_eq!(cri.addresses(&new), ["10.244.1.3", "fd00:10:244:1::3"]);
        cri.end_all(&[old, new]);
        daemon.nothing_is_left();
    }
}
