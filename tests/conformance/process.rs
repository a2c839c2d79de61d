//! Process and I/O: IO-1 to IO-11.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use selvedge_tests::{Call, FakeIpam, Stage, program};
use serde_json::{Value, json};

use crate::config::{add, after, check, del, delegating, must_be_back, traces, tutorial, with};

#[test]
fn io_1_success_exits_with_0_and_an_error_object_with_another_code() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let config = tutorial(&stage);
    let call = Call::new("ADD", config.clone()).of("web-0", &pod);
    let first = call.run(stage.node());
    assert_eq!(first.code, 0);
    assert!(first.result().get("code").is_none());
    let second = call.run(stage.node());
    assert_eq!(second.code, 1);
    second.refusal();
}

#[test]
fn io_2_an_add_that_fails_late_prints_the_error_and_no_result() {
    let Some(stage) = Stage::new() else { return };
    // What the bridge is shows only once the address is reserved.
    let config = with(tutorial(&stage), json!({"bridge": "lo"}));
    let answer = Call::new("ADD", config).of("web-0", &stage.pod()).run(stage.node());
    let (code, message) = answer.refusal();
    assert!(code == 7 && message.contains("lo"), "{message}");
    assert!(answer.stdout.unwrap().get("ips").is_none());
}

#[test]
fn io_3_stderr_has_one_line_of_log_and_the_error_is_on_stdout() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let log = stage.folder().join("log");
    let config = with(tutorial(&stage), json!({"logFile": log}));
    let call = Call::new("ADD", config).of("web-0", &pod);
    let added = call.run(stage.node());
    let refused = call.run(stage.node());
    for (answer, result) in [(&added, "result=ok"), (&refused, "result=error 100")] {
        let line = answer.stderr.strip_suffix('\n').unwrap();
        for part in ["verb=ADD", "container=web-0", "interface=eth0", "took=", result] {
            assert!(line.contains(part) && !line.contains('\n'), "{part}: {line}");
        }
    }
    assert!(added.stderr.contains("addresses=10.244.1.2/24"), "{}", added.stderr);
    assert_eq!(fs::read_to_string(log).unwrap(), added.stderr + &refused.stderr);
}

#[test]
fn io_4_check_del_gc_and_status_print_nothing_when_they_succeed() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let config = tutorial(&stage);
    let result = add(&stage, &config, "web-0", &pod);
    Call::new("STATUS", config.clone()).run(stage.node()).done();
    check(&stage, &after(&config, &result), "web-0", &pod).done();
    Call::new("GC", config.clone()).run(stage.node()).done();
    del(&stage, &after(&config, &result), "web-0", &pod).done();
}

#[test]
fn io_5_an_answer_that_nobody_can_read_is_a_failure() {
    let Some(stage) = Stage::new() else { return };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run = || {
        let mut version = Command::new(program("selvedge"));
        version.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::null()).stdout(writer);
        version.stderr(Stdio::null()).status()
    };
    let status = stage.node().run(run).unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn io_5_an_add_whose_result_nobody_can_read_leaves_nothing() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let config = tutorial(&stage).to_string();
    let before = traces(&stage);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run = || {
        let mut add = Command::new(program("selvedge"));
        add.env_clear().env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "web-0").env("CNI_IFNAME", "eth0");
        add.env("CNI_NETNS", pod.path()).stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null());
        let mut child = add.spawn()?;
        child.stdin.take().unwrap().write_all(config.as_bytes())?;
        child.wait()
    };
    let status = stage.node().run(run).unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
    must_be_back(&before, &stage);
}

#[test]
fn io_6_a_delegated_plugin_dies_with_ours_and_keeps_no_pipe_open() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let ipam = FakeIpam::new(&stage, "exec sleep 60");
    let call = Call::new("ADD", delegating(&stage, FakeIpam::TYPE)).of("web-0", &pod);
    let running = call.with("CNI_PATH", &ipam.path()).start(stage.node());
    wait_for(|| !ipam.environment().is_empty());
    let killed = Instant::now();
    running.kill();
    assert!(killed.elapsed() < Duration::from_secs(20), "somebody kept stdout or stderr open");
}

#[test]
fn io_6_what_a_delegated_plugin_leaves_running_keeps_nobody_waiting() {
    let Some(stage) = Stage::new() else { return };
    let lines = r#"case $CNI_COMMAND in ADD)
        sleep 30 <&0 &
        echo 'a word to the wise' >&2
        echo '{"ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}' ;;
        esac"#;
    let (ipam, pod) = (FakeIpam::new(&stage, lines), stage.pod());
    let call = Call::new("ADD", delegating(&stage, FakeIpam::TYPE)).of("web-0", &pod);
    let called = Instant::now();
    let answer = call.with("CNI_PATH", &ipam.path()).run(stage.node());
    assert!(called.elapsed() < Duration::from_secs(20), "somebody kept stdout or stderr open");
    answer.result();
    assert!(answer.stderr.starts_with("a word to the wise\n"), "{}", answer.stderr);
}

#[test]
fn another_holder_of_the_nodes_lock_does_not_keep_an_add_waiting_for_ever() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let path = stage.folder().join("node.lock");
    let before = traces(&stage);
    let lock = fs::File::create(&path).unwrap();
    lock.lock().unwrap();
    let answer = Call::new("ADD", tutorial(&stage)).of("web-0", &pod).run(stage.node());
    let (code, message) = answer.refusal();
    assert!(code == 11 && message.contains("node.lock"), "{code} {message}");
    drop(lock);
    fs::remove_file(path).unwrap();
    must_be_back(&before, &stage);
}

#[test]
fn io_7_stdin_may_end_without_a_line_break_or_with_one_of_dos() {
    let Some(stage) = Stage::new() else { return };
    let config = tutorial(&stage);
    for text in [config.to_string(), format!("{config}\r\n"), format!("{config:#}\n").replace('\n', "\r\n")] {
        Call::new("STATUS", Value::Null).saying(text).run(stage.node()).done();
    }
}

#[test]
fn io_7_more_than_four_mebibytes_of_stdin_are_refused() {
    let Some(stage) = Stage::new() else { return };
    let config = with(tutorial(&stage), json!({"padding": "x".repeat(4 << 20)}));
    let answer = Call::new("ADD", config).of("web-0", &stage.pod()).run(stage.node());
    assert_eq!(answer.refusal().0, 5);
}

#[test]
fn io_7_version_answers_while_stdin_is_still_open() {
    let mut version = Command::new(program("selvedge"));
    version.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = version.stderr(Stdio::null()).spawn().unwrap();
    // `wait_with_output` would close it.
    let stdin = child.stdin.take().unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["cniVersion"], "1.1.0");
}

#[test]
fn io_8_the_environment_of_the_runtime_does_not_matter() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let call = Call::new("ADD", tutorial(&stage)).of("web-0", &pod);
    let noise =
        [("PATH", "/nowhere"), ("XDG_RUNTIME_DIR", ""), ("LANG", "tlh"), ("TRACEPARENT", "00-ab-cd-01")];
    let call = noise.into_iter().fold(call, |call, (name, value)| call.with(name, value));
    call.run(stage.node()).result();
}

#[test]
fn io_9_a_person_without_cni_command_is_told_what_this_is() {
    let output = Command::new(program("selvedge")).env_clear().stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("CNI plugin") && said.contains("0.1.0") && said.contains("1.1.0"), "{said}");
}

#[test]
fn io_9_an_unknown_command_is_refused_by_name() {
    let Some(stage) = Stage::new() else { return };
    let answer = Call::new("FROB", tutorial(&stage)).run(stage.node());
    assert_eq!(answer.refusal(), (4, "unknown CNI_COMMAND: FROB"));
}

#[test]
fn io_10_keys_are_matched_in_any_case_and_the_exact_one_wins() {
    let Some(stage) = Stage::new() else { return };
    let config = json!({
        "CNIVersion": "1.0.0", "NAME": "mynet", "Type": "selvedge", "SUBNET": "10.1.0.0/24", "RunDir": stage.folder(),
        "runtimeconfig": {"DNS": {"Servers": ["10.96.0.10"], "Searches": ["svc"], "Options": []}},
        "Subnet": "10.3.0.0/24", "subnet": "10.2.0.0/24",
    });
    let result = add(&stage, &config, "web-0", &stage.pod());
    assert_eq!(result["cniVersion"], "1.0.0");
    assert_eq!(result["ips"][0]["address"], "10.2.0.2/24");
    assert_eq!(result["dns"]["nameservers"], json!(["10.96.0.10"]));
}

#[test]
fn io_11_null_is_as_good_as_absent_and_a_number_may_be_a_float() {
    let Some(stage) = Stage::new() else { return };
    let nothing = json!({
        "mtu": 1.4e3, "bridge": null, "attach": null, "ipam": null, "dns": null, "args": null, "runtimeConfig": null,
        "prevResult": null, "ipMasq": null, "agent": null, "logFile": null, "nodeAddresses": null, "other": [{}],
    });
    let result = add(&stage, &with(tutorial(&stage), nothing), "web-0", &stage.pod());
    assert_eq!(result["interfaces"][1]["mtu"], 1400);
}

/// Waits until something is so.
pub(crate) fn wait_for(mut it: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !it() {
        assert!(Instant::now() < until, "it never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}
