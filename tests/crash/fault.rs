//! Calls of which one system call fails: each succeeds with its whole effect, or says one error and leaves nothing that
//! one DEL doesn't take.

use serde_json::Value;

use crate::judge::Harm;
use crate::kill;
use crate::scene::{Mode, Scene};
use crate::strace::{Ended, Point};
use crate::sweep::{INTERRUPTIBLE, Sweep};

/// What a full, broken or rationed file system says, and a signal that comes in between.
const FILE_ERRORS: [&str; 4] = ["ENOSPC", "EIO", "EDQUOT", "EINTR"];

/// What an overloaded kernel says to a netlink socket.
const NETLINK_ERRORS: [&str; 3] = ["EBUSY", "ENOBUFS", "ETIMEDOUT"];

/// The system calls on files. Not close: it gives the descriptor back whatever it says, and strace would keep it.
const FILE_CALLS: &[&str] = &[
    "fdatasync",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getdents64",
    "lseek",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "pread64",
    "pwrite64",
    "read",
    "rename",
    "renameat",
    "renameat2",
    "stat",
    "statx",
    "unlink",
    "unlinkat",
    "write",
];

/// The system calls on sockets, and the one that looks links up.
const NETLINK_CALLS: &[&str] = &[
    "bind",
    "connect",
    "getsockname",
    "getsockopt",
    "ioctl",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "socket",
];

fn on_files(point: &Point) -> bool {
    point.own && FILE_CALLS.contains(&point.name.as_str())
}

/// Where a signal may come in between.
fn while_waiting(point: &Point) -> bool {
    point.own && INTERRUPTIBLE.contains(&point.name.as_str()) && NETLINK_CALLS.contains(&point.name.as_str())
}

fn on_netlink(point: &Point) -> bool {
    point.own && NETLINK_CALLS.contains(&point.name.as_str())
}

/// An ADD whose effect is judged.
pub(crate) const ADD: Sweep = Sweep {
    judge: |scene, ended| {
        let added = answer(ended)?;
        if let Some(result) = &added {
            let check = scene.check(result);
            if check.code != 0 {
                return Err(Harm::Untruth(format!("ADD succeeded, and CHECK says {check:?}")));
            }
        }
        scene.must_do(&scene.call("DEL"))?;
        scene.must_be_as_before()?;
        Ok(added.is_some())
    },
    ..kill::ADD
};

/// A DEL whose effect is judged.
pub(crate) const DEL: Sweep = Sweep {
    judge: |scene, ended| {
        let done = is_done(ended)?;
        if done {
            scene.must_be_as_before_but_for_locks()?;
        }
        scene.must_do(&scene.call("DEL"))?;
        scene.must_be_as_before()?;
        Ok(done)
    },
    ..kill::DEL
};

/// A GC of one of two, whose effect is judged.
pub(crate) const GC: Sweep = Sweep {
    mode: Mode::WideBridge,
    prepare: Scene::attach_both,
    call: |scene| scene.gc(&["web-1"]),
    tidy: |scene| scene.call_of_other("DEL").run(scene.node()).done(),
    judge: |scene, ended| {
        let done = is_done(ended)?;
        scene.other_must_be_whole()?;
        if !done {
            scene.must_do(&scene.gc(&["web-1"]))?;
        }
        scene.must_do(&scene.call_of_other("DEL"))?;
        scene.must_be_as_before()?;
        Ok(done)
    },
    ..ADD
};

/// The one document of a call that succeeded; `None` if it failed with one error object that says why.
fn answer(ended: &Ended) -> Result<Option<Value>, Harm> {
    let wrong = |what: &str| Err(Harm::Untruth(format!("{what}: {ended:?}")));
    let Ok(document) = serde_json::from_str::<Value>(&ended.stdout) else {
        return wrong("stdout is not one JSON document");
    };
    match ended.status.code() {
        Some(0) if document["ips"].as_array().is_some_and(|ips| ips.len() == 2) => Ok(Some(document)),
        Some(1) if says_why(&document) => Ok(None),
        _ => wrong("neither a result with success nor an error with failure"),
    }
}

/// True if a DEL or GC did its work; false if it failed with one error object that says why.
fn is_done(ended: &Ended) -> Result<bool, Harm> {
    if ended.status.code() == Some(0) && ended.stdout.is_empty() {
        return Ok(true);
    }
    let wrong = |what: &str| Err(Harm::Untruth(format!("{what}: {ended:?}")));
    // What go-cni takes for success.
    let said = ended.stdout.to_lowercase();
    if said.contains("not found") || said.contains("no such file or directory") {
        return wrong("containerd takes this failure for success");
    }
    match serde_json::from_str::<Value>(&ended.stdout) {
        Ok(document) if ended.status.code() == Some(1) && says_why(&document) => Ok(false),
        _ => wrong("neither success without a word nor one error with failure"),
    }
}

/// True for an error object that names what failed on what.
fn says_why(document: &Value) -> bool {
    let message = document["msg"].as_str().unwrap_or_default();
    document["code"].as_u64().is_some_and(|code| code > 0) && message.contains(' ') && !message.contains('\n')
}

#[test]
fn an_add_of_a_bridged_pod_survives_or_tells_every_failure_of_a_file() {
    Sweep { name: "file faults in ADD, bridge", ..ADD }.fail(&FILE_ERRORS, on_files);
}

#[test]
fn an_add_of_a_bridged_pod_survives_or_tells_every_failure_of_netlink() {
    Sweep { name: "netlink faults in ADD, bridge", ..ADD }.fail(&NETLINK_ERRORS, on_netlink);
}

#[test]
fn an_add_of_a_routed_pod_survives_or_tells_every_failure_of_a_file() {
    let name = "file faults in ADD, routed, agent away";
    Sweep { name, mode: Mode::AgentAway, ..ADD }.fail(&FILE_ERRORS, on_files);
}

#[test]
fn an_add_of_a_routed_pod_survives_or_tells_every_failure_of_netlink() {
    let name = "netlink faults in ADD, routed, agent away";
    Sweep { name, mode: Mode::AgentAway, ..ADD }.fail(&NETLINK_ERRORS, on_netlink);
}

#[test]
fn a_del_of_a_bridged_pod_survives_or_tells_every_failure_of_a_file() {
    Sweep { name: "file faults in DEL, bridge", ..DEL }.fail(&FILE_ERRORS, on_files);
}

#[test]
fn a_del_of_a_bridged_pod_survives_or_tells_every_failure_of_netlink() {
    Sweep { name: "netlink faults in DEL, bridge", ..DEL }.fail_in_turn(&NETLINK_ERRORS, on_netlink);
}

#[test]
fn a_del_of_a_routed_pod_survives_or_tells_every_failure_of_netlink() {
    let name = "netlink faults in DEL, routed, agent away";
    Sweep { name, mode: Mode::AgentAway, ..DEL }.fail(&NETLINK_ERRORS, on_netlink);
}

#[test]
fn a_compaction_survives_or_tells_every_failure_of_a_file() {
    let name = "file faults in DEL with compaction, routed, agent away";
    let prepare = Scene::attach_with_a_long_journal;
    Sweep { name, mode: Mode::AgentAway, prepare, shows: "rename", ..DEL }.fail(&FILE_ERRORS, on_files);
}

#[test]
fn a_gc_survives_or_tells_every_failure_of_a_file() {
    Sweep { name: "file faults in GC, bridge", ..GC }.fail_in_turn(&FILE_ERRORS, on_files);
}

#[test]
fn a_gc_survives_or_tells_every_failure_of_netlink() {
    Sweep { name: "netlink faults in GC, bridge", ..GC }.fail_in_turn(&NETLINK_ERRORS, on_netlink);
}

#[test]
fn an_add_survives_signals_between_its_questions_to_the_kernel() {
    Sweep { name: "signals in ADD, bridge", ..ADD }.fail(&["EINTR"], while_waiting);
}

#[test]
fn a_del_survives_signals_between_its_questions_to_the_kernel() {
    Sweep { name: "signals in DEL, bridge", ..DEL }.fail(&["EINTR"], while_waiting);
}
