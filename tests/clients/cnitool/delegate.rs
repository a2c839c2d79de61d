//! IPAM plugins that fail, and what a person at cnitool sees of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_tests::{bin_dir, within};
use serde_json::json;

use super::{Cnitool, Suite};
use crate::ip;

/// What a delegate does when it is asked for an address; to everything else it says yes.
fn with_delegate(suite: Suite, attach: &str, lines: &str) -> Option<Cnitool> {
    let tool = Cnitool::of(suite)?;
    let mut ours = tool.ours(attach);
    (ours["subnet"], ours["ipam"]) = (json!(null), json!({"type": "doubtful"}));
    tool.configure(suite.newest(), &[ours]);
    tool.plugin("doubtful", &format!("#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\n{lines}\n"));
    Some(tool)
}

#[test]
fn whatever_a_delegate_fails_with_cnitool_shows_one_line_that_names_it_and_nothing_is_left() {
    let failures = [
        ("garbage", "echo 'half a {'", "answered ADD with what is no JSON"),
        ("a silent failure", "exit 1", "exited with 1 without an error object"),
        ("a kill", "kill -9 $$", "was killed by signal 9"),
        ("no addresses", r#"echo '{"cniVersion": "1.0.0", "ips": []}'"#, "answered ADD without an address"),
        ("not a program", "exec /nonexistent", "exited with 127"),
    ];
    for (suite, (what, lines, said_of_it)) in
        Suite::ALL.iter().flat_map(|suite| failures.map(|failure| (*suite, failure)))
    {
        let Some(tool) = with_delegate(suite, "bridge", lines) else { return };
        let (web, before) = (tool.container("web"), tool.footprint());
        let said = tool.run("add", &web);
        let answer = tool.answered("ADD").unwrap();
        assert_eq!(answer["code"], 103, "{what}: {answer}");
        let reason = said.reason();
        assert!(reason.contains("IPAM plugin doubtful") && reason.contains(said_of_it), "{what}: {reason}");
        assert!(!ip::has_link(web.namespace(), "eth0"));
        tool.must_be_back(&before);
        tool.run("del", &web).done();
        tool.must_be_back(&before);
    }
}

#[test]
fn a_delegates_result_of_an_older_version_reaches_cnitool_in_its_own() {
    let results = [
        r#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.9.0.2/24", "gateway": "10.9.0.1"}}"#,
        r#"{"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}"#,
    ];
    for (suite, result) in Suite::ALL.iter().flat_map(|suite| results.map(|result| (*suite, result))) {
        let Some(tool) = with_delegate(suite, "bridge", &format!("echo '{result}'")) else { return };
        let (web, before) = (tool.container("web"), tool.footprint());
        let added = tool.add(&web);
        assert_eq!(added["cniVersion"], suite.newest());
        let ip = &added["ips"][0];
        assert_eq!((&ip["address"], &ip["gateway"]), (&json!("10.9.0.2/24"), &json!("10.9.0.1")));
        tool.run("check", &web).done();
        tool.run("del", &web).done();
        tool.must_be_back(&before);
    }
}

/// The process whose id is in a file.
fn process(file: &Path) -> String {
    within(20.0, "it starts", || {
        let id = fs::read_to_string(file).unwrap_or_default().trim().to_owned();
        if id.is_empty() { Err("no id yet".to_owned()) } else { Ok(id) }
    })
}

fn lives(id: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // One that nobody has waited for yet is dead.
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Whoever is killed by the kernel because another died is so in a moment.
fn must_die(id: &str) {
    within(20.0, "the delegate dies", || if lives(id) { Err(id.to_owned()) } else { Ok(()) });
}

fn that_hangs(tool: &Cnitool) -> String {
    let file = tool.var_lib().with_file_name("delegate.pid");
    let lines = format!("echo $$ > {}\nexec sleep 100", file.display());
    tool.plugin("doubtful", &format!("#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\n{lines}\n"));
    file.display().to_string()
}

#[test]
fn a_delegate_that_hangs_is_killed_by_our_deadline_and_cnitool_goes_on() {
    let Some(tool) = with_delegate(Suite::Sid, "routed", "") else { return };
    let file = that_hangs(&tool);
    let (web, before) = (tool.container("web"), tool.footprint());
    let begun = Instant::now();
    let said = tool.run("add", &web);
    assert!(begun.elapsed() < Duration::from_secs(60), "runtimes give up after a minute");
    assert_eq!(tool.answered("ADD").unwrap()["code"], 103);
    assert!(said.reason().contains("took too long and was killed"), "{said:?}");
    must_die(&process(Path::new(&file)));
    tool.must_be_back(&before);
    tool.run("del", &web).done();
    tool.must_be_back(&before);
}

#[test]
fn a_delegate_that_hangs_dies_with_a_plugin_whose_client_lost_patience() {
    for suite in Suite::ALL {
        let Some(tool) = with_delegate(suite, "bridge", "") else { return };
        let file = that_hangs(&tool);
        let ours = tool.var_lib().with_file_name("selvedge.pid");
        let real = bin_dir().join("selvedge");
        tool.plugin(
            "selvedge",
            &format!("#!/bin/sh\necho $$ > {}\nexec {}\n", ours.display(), real.display()),
        );
        let (web, before) = (tool.container("web"), tool.footprint());
        thread::scope(|scope| {
            let add = scope.spawn(|| tool.run("add", &web));
            let (delegate, plugin) = (process(Path::new(&file)), process(&ours));
            assert!(lives(&delegate) && lives(&plugin));
            // As the Go library does when its caller's deadline passes.
            let killed = Instant::now();
            assert!(Command::new("kill").args(["-KILL", &plugin]).status().unwrap().success());
            let said = add.join().unwrap();
            assert!(killed.elapsed() < Duration::from_secs(10), "somebody kept cnitool waiting");
            assert!(!said.reason().is_empty());
            must_die(&delegate);
        });
        tool.run("del", &web).done();
        tool.must_be_back(&before);
    }
}
