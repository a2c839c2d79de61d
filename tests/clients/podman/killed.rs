//! kill -9: of containers, of what holds them, and of podman in the middle of its work.

use std::fs::{self, File};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use selvedge_tests::{Echo, within};
use serde_json::{Value, json};

use super::host::{Host, conflist, dual, must_answer, routed};

/// Kills what a container of these runs, or what looks after it, and removes the container.
fn removed_after_a_kill_of(network: Value, program: &str) {
    let name = network["name"].as_str().unwrap().to_owned();
    let Some(host) = Host::new(&[network]) else { return };
    let web = host.start("web", &format!("--network {name}"));
    let process = if program == "conmon" { host.machine().processes("conmon")[0] } else { web.process };
    host.machine().kill(process);
    let state = || host.podman("inspect --format {{.State.Running}} web").must_succeed().to_owned();
    if program == "sleep" {
        within(10.0, "podman sees that the container is dead", || match &*state() {
            "false" => Ok(()),
            other => Err(other.to_owned()),
        });
    }
    host.podman("rm --force --time 0 web").must_succeed();
    let again = host.start("web", &format!("--network {name}"));
    let _echo = Echo::serve(&again.space);
    must_answer(host.machine().node(), &again.addresses("eth0"));
    host.remove_all();
}

#[test]
fn a_container_that_is_killed_leaves_nothing() {
    removed_after_a_kill_of(dual(), "sleep");
    removed_after_a_kill_of(routed(), "sleep");
}

#[test]
fn a_container_whose_conmon_is_killed_leaves_nothing_once_it_is_removed() {
    removed_after_a_kill_of(dual(), "conmon");
    removed_after_a_kill_of(routed(), "conmon");
}

#[test]
fn a_container_that_is_killed_and_started_again_is_attached_once() {
    for (name, network) in [("dual", dual()), ("routed", routed())] {
        let Some(host) = Host::new(&[network]) else { return };
        host.start("web", &format!("--network {name}"));
        for _ in 0..3 {
            host.podman("kill --signal KILL web").must_succeed();
            within(10.0, "podman sees that the container is dead", || {
                let ran = host.podman("start web");
                let running = host.podman("inspect --format {{.State.Running}} web");
                let up = ran.code == Some(0) && running.must_succeed() == "true";
                if up { Ok(()) } else { Err(format!("{ran:?}")) }
            });
        }
        let web = host.container("web");
        let _echo = Echo::serve(&web.space);
        must_answer(host.machine().node(), &web.addresses("eth0"));
        host.remove_all();
    }
}

/// How far `podman run` has come: what is on the machine then.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// The container has a namespace.
    Namespace,
    /// The plugin has written the lease.
    Lease,
    /// libcni has written the plugin's result.
    Result,
    /// Something looks after the container.
    Conmon,
}

impl Point {
    /// What changes when a run comes so far.
    fn mark(self, host: &Host) -> Vec<String> {
        let machine = host.machine();
        let names = |folder: &str| {
            let entries = fs::read_dir(machine.path(folder)).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect()
        };
        let journal = machine.path("/run/selvedge/ipam/small/journal");
        match self {
            Self::Namespace => names("/run/netns"),
            Self::Lease => fs::read_to_string(journal).into_iter().collect(),
            Self::Result => names("/var/lib/cni/results"),
            Self::Conmon => machine.processes("conmon").iter().map(ToString::to_string).collect(),
        }
    }
}

/// Kills podman so many milliseconds after it came so far with a container; whether it knows of that afterwards.
fn killed_in_run(host: &Host, point: Point, milliseconds: u64) -> bool {
    let before = point.mark(host);
    let mut run = host.command("podman");
    // Without a name: podman may find it taken by a container that it can't remove any more.
    run.args(["run", "--detach", "--network", "small", "localhost/box", "sleep", "1000"]);
    let log = File::create(host.machine().path("/run/podman.log")).unwrap();
    let mut run = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    within(20.0, "podman comes so far", || {
        let said = || fs::read_to_string(host.machine().path("/run/podman.log"));
        if point.mark(host) == before { Err(format!("{point:?}: {:?}", said())) } else { Ok(()) }
    });
    thread::sleep(Duration::from_millis(milliseconds));
    for process in host.machine().processes("podman") {
        // It may have ended meanwhile.
        let _ran = host.run("sh", &["-c", &format!("kill -9 {process}")]);
    }
    run.wait().unwrap();
    within(10.0, "the plugin ends", || {
        let running = host.machine().processes("selvedge");
        if running.is_empty() { Ok(()) } else { Err(format!("{running:?}")) }
    });
    !host.podman("ps --all --quiet").must_succeed().is_empty()
}

/// What a person does after podman was killed, beyond `podman rm`: takes away the mounts and files of a container that
/// podman knows nothing of, its namespace among them.
const TIDY: &str = "
    sed -n 's,.* \\(/var/lib/containers/[^ ]*/shm\\) .*,\\1,p' /proc/mounts | xargs -r umount -l
    podman rm --force --time 0 --all
    for space in /run/netns/*; do [ ! -e $space ] || { umount -l $space; rm $space; }; done
    rm -rf /var/lib/cni/results";

/// Five addresses, and many more kills: the pool must find again what nobody gave back.
fn podman_is_killed_in_run(attach: &str) {
    let plugin = json!({"attach": attach, "network": "10.244.0.0/16", "subnet": "10.244.1.0/29"});
    let Some(host) = Host::new(&[conflist("small", plugin)]) else { return };
    let mut known = 0;
    for point in [Point::Namespace, Point::Lease, Point::Result, Point::Conmon] {
        for milliseconds in [0, 10, 30] {
            known += usize::from(killed_in_run(&host, point, milliseconds));
            host.run("sh", &["-c", TIDY]).must_succeed();
        }
    }
    assert!(known > 0, "podman never knew of a container that it was killed over");
    let mut addresses: Vec<_> =
        (0..5).map(|number| host.start(&format!("c{number}"), "--network small").address("eth0")).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 5, "{addresses:?}");
    host.remove_all();
}

#[test]
fn what_podman_leaves_when_it_is_killed_in_run_is_found_again_when_bridged() {
    podman_is_killed_in_run("bridge");
}

#[test]
fn what_podman_leaves_when_it_is_killed_in_run_is_found_again_when_routed() {
    podman_is_killed_in_run("routed");
}
