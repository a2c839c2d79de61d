//! What the sweeps found wrong, each under its own name.

use std::fs::{self, File};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use selvedge_leases::{Wait, lock_file};
use serde_json::Value;

use crate::fault;
use crate::judge::Harm;
use crate::kill;
use crate::scene::{Mode, Scene};
use crate::strace::{Ended, Inject, Point};
use crate::sweep::Sweep;

/// A call that waits for a lock ends so soon after it was asked to, though it would wait for ten seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(8);

#[test]
fn a_request_that_a_signal_interrupts_is_sent_again() {
    let sweep = Sweep { name: "interrupted requests", mode: Mode::AgentAway, ..fault::ADD };
    sweep.fail(&["EINTR"], |point| point.own && point.name == "sendto");
}

#[test]
fn a_namespace_is_opened_again_when_a_signal_interrupts() {
    let sweep = Sweep { name: "interrupted opening", mode: Mode::AgentAway, ..fault::ADD };
    sweep.fail(&["EINTR"], |point| point.own && point.name.starts_with("open"));
}

#[test]
fn a_directory_is_listed_again_when_a_signal_interrupts() {
    let sweep = Sweep { name: "interrupted listing", ..fault::GC };
    sweep.fail(&["EINTR"], |point| point.own && point.name.starts_with("open"));
}

#[test]
fn a_sysctl_that_cannot_be_read_is_not_taken_for_missing() {
    let sweep = Sweep { name: "sysctls that can't be read", ..fault::ADD };
    sweep.fail(&["EIO"], |point| point.own && point.name == "read");
}

#[test]
fn a_link_that_cannot_be_looked_up_is_not_taken_for_gone() {
    let sweep = Sweep { name: "links that can't be looked up", mode: Mode::AgentAway, ..fault::DEL };
    sweep.fail(&["EBUSY"], |point| point.own && point.name == "ioctl");
}

#[test]
fn a_shaper_that_cannot_be_looked_up_is_not_taken_for_none() {
    let sweep = Sweep { name: "shapers that can't be looked up", mode: Mode::Bridge, ..fault::DEL };
    sweep.fail(&["EBUSY"], |point| point.own && point.name == "ioctl");
}

#[test]
fn a_store_that_cannot_be_looked_for_is_not_taken_for_none() {
    let sweep = Sweep { name: "stores that can't be looked for", mode: Mode::AgentAway, ..fault::DEL };
    sweep.fail(&["EIO"], |point| point.own && point.name == "statx");
}

#[test]
fn a_del_that_cannot_delete_what_it_has_set_aside_says_so() {
    let sweep = Sweep { name: "sockets that can't be had", mode: Mode::AgentAway, ..fault::DEL };
    sweep.fail(&["ENOBUFS"], |point| point.own && point.name == "socket");
}

#[test]
fn gc_deletes_what_a_killed_del_has_set_aside() {
    let name = "kills of what is set aside";
    let judge = kill::another_add_and_gc;
    Sweep { name, mode: Mode::AgentAway, judge, ..kill::DEL }
        .kill_at(|point| point.own && point.name == "socket");
}

/// DEL returns at once while somebody else deletes what is set aside: nothing there may still be the pod's.
fn one_del_while_somebody_reaps(scene: &Scene, _ended: &Ended) -> Result<bool, Harm> {
    let reaping = lock_file(&scene.run_dir.join("reap.lock"), &Wait::most(Duration::ZERO))
        .map_err(|error| Harm::Untruth(error.to_string()))?;
    scene.must_do(&scene.call("DEL"))?;
    scene.must_have_no_eth0()?;
    // Closing it would not do: a process that another test is just starting has it open too.
    flock(&reaping, FlockOperation::Unlock).map_err(|error| Harm::Untruth(error.to_string()))?;
    scene.must_do(&scene.call("DEL"))?;
    scene.must_be_as_before()?;
    Ok(false)
}

#[test]
fn after_a_killed_del_one_del_takes_the_interface_at_once() {
    let name = "kills of DEL while somebody reaps";
    Sweep { name, mode: Mode::AgentAway, judge: one_del_while_somebody_reaps, ..kill::DEL }
        .kill_at(|point| point.own && matches!(point.name.as_str(), "sendto" | "setns"));
}

#[test]
fn after_a_killed_add_one_del_takes_the_interface_at_once() {
    let name = "kills of ADD while somebody reaps";
    Sweep { name, mode: Mode::AgentAway, judge: one_del_while_somebody_reaps, ..kill::ADD }
        .kill_at(|point| point.own && point.name == "sendto");
}

#[test]
fn the_agent_forgets_the_locks_of_killed_calls() {
    let name = "kills beside an agent";
    let judge = kill::the_pod_is_gone;
    Sweep { name, mode: Mode::Agent, judge, ..kill::ADD }
        .kill_at(|point| point.own && point.name == "fstatfs");
}

#[test]
fn an_add_that_waits_for_a_lock_ends_soon_after_it_is_asked_to() {
    let Some(scene) = Scene::new(Mode::Bridge) else { return };
    scene.attach();
    scene.call("DEL").run(scene.node()).done();
    let lock = File::options().write(true).open(scene.run_dir.join("ipam/mynet/lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let add = scene.call("ADD").start(scene.node());
    let attachments = scene.run_dir.join("ipam/mynet/att");
    selvedge_tests::within(10.0, "ADD is at work", || {
        let files = attachments.read_dir().unwrap().count();
        if files > 0 { Ok(()) } else { Err("no attachment is locked".to_owned()) }
    });
    // It has set its signal handlers before it locks the attachment.
    let told = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &add.id().to_string()]).status().unwrap().success());
    let answer = add.answer();
    assert_eq!(answer.refusal().0, 11, "{answer:?}");
    assert!(told.elapsed() < ENDS_WITHIN, "it took {:?}", told.elapsed());
    drop(lock);
    assert_eq!(scene.must_be_as_before(), Ok(()));
}

#[test]
fn an_add_that_is_given_no_stdout_fails_and_leaves_nothing() {
    let Some(scene) = Scene::new(Mode::Bridge) else { return };
    scene.boot();
    let call = scene.call("ADD").under(["sh", "-c", "exec \"$0\" >&-"]);
    let output = call.start(scene.node()).output();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("stdout"), "{output:?}");
    assert_eq!(scene.must_be_as_before(), Ok(()));
    // Whoever throws the answer away by hand is not stopped.
    let call = scene.call("ADD").under(["sh", "-c", "exec \"$0\" >/dev/null"]);
    assert!(call.start(scene.node()).output().status.success());
    scene.call("DEL").run(scene.node()).done();
}

#[test]
fn io_5_an_add_that_panics_over_a_pod_that_is_all_but_attached_answers_999_and_takes_it_back() {
    let Some(scene) = Scene::new(Mode::AgentAway) else { return };
    scene.boot();
    // Ports are published last, and under this lock. Whoever waits for a lock sleeps a little, and a sleep that fails is a
    // panic of the language's library.
    let lock = lock_file(&scene.run_dir.join("node.lock"), &Wait::most(Duration::ZERO)).unwrap();
    let journal = scene.run_dir.join("ipam/mynet/journal");
    let until_it_is_taken_back = thread::spawn(move || {
        // Freed (F) is what was on a link; of what wasn't, the reservation is undone (U).
        let freed = || fs::read_to_string(&journal).is_ok_and(|journal| journal.contains(" F web-0 eth0 "));
        let came_and_went = wait_until(freed);
        drop(lock);
        came_and_went
    });
    let asleep = Point { name: "nanosleep,clock_nanosleep".to_owned(), number: 1, own: true };
    let (ended, reached) = scene.disturb(&scene.publish(), &asleep, Inject::Error("EINVAL"));
    assert!(until_it_is_taken_back.join().unwrap(), "there was no pair yet: {ended:?}");
    assert!(reached && ended.status.code() == Some(1), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    let message = answer["msg"].as_str().unwrap();
    assert_eq!(answer["code"], 999, "{answer}");
    assert!(
        message.starts_with("defect in selvedge, please report it: ") && !message.contains('\n'),
        "{answer}"
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(scene.must_be_as_before(), Ok(()));
}

/// Waits until something is so; false if it doesn't come.
fn wait_until(it: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        if it() {
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}
