//! What containerd makes of plugins that hang, fail, or lose it in the middle.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_tests::{Machine, within};
use serde_json::{Value, json};

use super::cri::Config;
use super::daemon::{CONFLIST, Daemon, Release, releases, routed};
use super::recorder;

/// A network whose addresses come from the plugin `fake-ipam`.
pub(crate) fn delegating() -> Value {
    routed(&json!({"subnet": null, "ipam": {"type": "fake-ipam"}}))
}

/// Makes `fake-ipam` of lines of shell.
pub(crate) fn fake_ipam(machine: &Machine, lines: &str) {
    let path = "/opt/cni/bin/fake-ipam";
    machine.write(path, format!("#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND >>/run/fake-ipam\n{lines}\n"));
    fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o755)).unwrap();
}

/// The verbs that `fake-ipam` was called with, but for STATUS.
fn asked(machine: &Machine) -> Vec<String> {
    let calls = fs::read_to_string(machine.path("/run/fake-ipam")).unwrap_or_default();
    calls.lines().filter(|verb| *verb != "STATUS").map(str::to_owned).collect()
}

#[test]
fn a_client_that_gives_up_on_a_hanging_delegate_leaves_no_process_and_no_trace() {
    for release in releases() {
        let Some(daemon) = Daemon::start(release, &delegating()) else { return };
        fake_ipam(&daemon.machine, "while [ $CNI_COMMAND = ADD ]; do sleep 0.1; done");
        let cri = daemon.cri();
        let began = Instant::now();
        let given_up = cri.run_within(Config::of("web-0"), Duration::from_secs(1));
        let given_up = given_up.unwrap_err();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}: {given_up}");
        within(20.0, "the call of the plugin is undone", || {
            let asked = asked(&daemon.machine);
            let left = ["fake-ipam", "selvedge"].map(|name| daemon.machine.processes(name));
            let good = asked == ["ADD", "DEL"] && left.iter().all(Vec::is_empty);
            if good { Ok(()) } else { Err(format!("{asked:?} {left:?}")) }
        });
        let del = recorder::calls(&daemon.machine, "DEL").pop().unwrap();
        assert!(del.stdin["prevResult"].is_null(), "{}", del.stdin);
        for id in cri.list() {
            cri.stop(&id).unwrap();
            cri.remove(&id).unwrap();
        }
        daemon.nothing_is_left();
    }
}

/// Were the delegate's words passed on, containerd would take the pod for detached.
#[test]
fn a_del_that_fails_is_heard_of_and_tried_again() {
    for release in releases() {
        let Some(daemon) = Daemon::start(release, &delegating()) else { return };
        fake_ipam(
            &daemon.machine,
            r#"case $CNI_COMMAND in
            ADD) echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.9/24", "gateway": "10.244.1.1"}]}' ;;
            DEL) [ -e /run/failed ] && exit 0
                touch /run/failed
                echo '{"cniVersion": "1.0.0", "code": 5, "msg": "lease 9 not found: No such file or directory"}'
                exit 1 ;;
            esac"#,
        );
        let cri = daemon.cri();
        let id = cri.run(Config::of("web-0")).unwrap();
        assert_eq!(cri.addresses(&id), ["10.244.1.9"]);
        let error = cri.stop(&id).expect_err("a DEL that failed was taken for one that succeeded");
        let message = error.message().to_lowercase();
        assert!(message.contains("lease 9"), "{message}");
        assert!(!message.contains("not found") && !message.contains("no such file"), "{message}");
        cri.stop(&id).unwrap();
        assert_eq!(asked(&daemon.machine), ["ADD", "DEL", "DEL"]);
        cri.remove(&id).unwrap();
        daemon.nothing_is_left();
    }
}

/// containerd has its network locked while it waits for STATUS, and every pod waits behind a conflist to be loaded.
#[test]
fn a_delegate_that_hangs_at_status_is_heard_of_and_stops_no_pod() {
    for release in releases().into_iter().filter(Release::is_2) {
        let Some(daemon) = Daemon::start(release, &routed(&json!({}))) else { return };
        fake_ipam(
            &daemon.machine,
            r#"case $CNI_COMMAND in
            STATUS) while :; do sleep 0.1; done ;;
            ADD) echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.9/24"}]}' ;;
            esac"#,
        );
        daemon.machine.write(CONFLIST, delegating().to_string());
        let (cri, asking) = (daemon.cri(), daemon.cri());
        let heard = within(20.0, "the delegate is asked", || {
            let (network, took) = cri.network();
            if network.good { Err(format!("{network:?}")) } else { Ok((network, took)) }
        });
        assert!(heard.0.message.contains("fake-ipam"), "{heard:?}");
        let began = Instant::now();
        let id = thread::scope(|scope| {
            let status = scope.spawn(|| asking.network());
            thread::sleep(Duration::from_millis(100));
            daemon.machine.write(CONFLIST, delegating().to_string());
            let id = cri.run(Config::of("web-0")).unwrap();
            status.join().unwrap();
            id
        });
        // The second that STATUS has, and time for a pod on a busy machine.
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        cri.end_all(&[id]);
        daemon.nothing_is_left();
    }
}

#[test]
fn pods_without_an_address_fail_again_and_again_and_cost_none() {
    for release in releases() {
        let Some(daemon) = Daemon::start(release, &routed(&json!({"subnet": "10.244.1.0/29"}))) else {
            return;
        };
        let cri = daemon.cri();
        let pods: Vec<_> =
            (0..8).map_while(|number| cri.run(Config::of(&format!("pod-{number}"))).ok()).collect();
        assert!((4..8).contains(&pods.len()), "{} pods in a /29", pods.len());
        for number in 0..5 {
            let error = cri.run(Config::of(&format!("late-{number}"))).unwrap_err();
            assert!(error.message().contains("10.244.1.0/29"), "{error}");
        }
        let (network, _) = cri.network();
        assert_eq!(network.good, !daemon.release.is_2(), "{network:?}");
        assert!(network.good || network.message.contains("10.244.1.0/29"), "{network:?}");
        cri.end_all(&pods[..1]);
        assert!(cri.network().0.good, "an address is free again");
        cri.run(Config::of("pod-again")).unwrap();
        cri.end_all(&cri.list());
        daemon.nothing_is_left();
    }
}
