//! Process and I/O, beyond the statements IO-1 to IO-11.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use selvedge_tests::{Call, FakeIpam, Stage, program};
use serde_json::json;

use crate::config::{add, delegating, must_be_back, traces, tutorial, with};

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
fn a_slow_start_of_a_pod_can_be_followed_by_the_trace_that_its_runtime_names() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let call = |verb| Call::new(verb, tutorial(&stage)).of("web-0", &pod);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for verb in ["ADD", "CHECK", "DEL"] {
        let answer = call(verb).with("TRACEPARENT", trace).run(stage.node());
        assert_eq!(answer.stderr.matches(&format!(" traceparent={trace} ")).count(), 1, "{}", answer.stderr);
    }
    let answer = call("DEL").with("TRACEPARENT", "garbled result=ok").run(stage.node());
    assert!(!answer.stderr.contains("trace") && !answer.stderr.contains("garbled"), "{}", answer.stderr);
}

#[test]
fn io_3_a_line_of_the_log_has_each_key_once_and_says_in_words_what_became_of_the_journal() {
    let Some(stage) = Stage::new() else { return };
    let config = with(tutorial(&stage), json!({"subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"]}));
    let (pod, broken, other) = (stage.pod(), stage.pod(), stage.pod());
    let refuse = || fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    broken.namespace().run(refuse).unwrap().unwrap();
    let call = |verb, container, pod| Call::new(verb, config.clone()).of(container, pod).run(stage.node());
    let answers = [
        call("ADD", "web-0", &pod),
        call("ADD", "web-1", &broken),
        call("ADD", "web-2", &other),
        Call::new("GC", with(config.clone(), json!({"cni.dev/valid-attachments": []}))).run(stage.node()),
        call("DEL", "web-0", &pod),
    ];
    let codes: Vec<i32> = answers.iter().map(|answer| answer.code).collect();
    assert_eq!(codes, [0, 1, 0, 0, 0]);
    for line in answers.iter().map(|answer| &answer.stderr) {
        assert_eq!(line.matches(" addresses=").count(), 1, "{line}");
    }
    assert!(
        answers[1].stderr.contains("addresses=10.244.1.3/24,fd00:10:244:1::3/64"),
        "{}",
        answers[1].stderr
    );
    let gone = "addresses=10.244.1.2/24,fd00:10:244:1::2/64,10.244.1.4/24,fd00:10:244:1::4/64 ";
    assert!(answers[3].stderr.contains(gone), "{}", answers[3].stderr);
    assert!(answers[0].stderr.contains("journal=\"made anew: there was none\""), "{}", answers[0].stderr);
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

/// Regression: every call waited for somebody to read its log, after it had answered.
#[test]
fn a_log_file_that_is_a_pipe_nobody_empties_keeps_nobody_waiting() {
    let Some(stage) = Stage::new() else { return };
    let fifo = stage.folder().join("log");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RWXU).unwrap();
    let (pod, config) = (stage.pod(), with(tutorial(&stage), json!({"logFile": fifo})));
    let add_and_del = || {
        let began = Instant::now();
        let call = |verb| {
            Call::new(verb, config.clone()).of("web-0", &pod).under(["timeout", "20"]).run(stage.node())
        };
        call("ADD").result();
        call("DEL").done();
        assert!(began.elapsed() < Duration::from_secs(10), "somebody was waited for");
    };
    add_and_del();
    // Somebody reads it, but too slowly.
    let mut pipe = fs::File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&fifo)
        .unwrap();
    while pipe.write(&[0; 256]).is_ok() {}
    add_and_del();
    let mut piece = [0; 8192];
    pipe.read_exact(&mut piece).unwrap();
    add_and_del();
    let mut rest = Vec::new();
    pipe.read_to_end(&mut rest).unwrap_err();
    assert!(String::from_utf8_lossy(&rest).contains("verb=ADD"), "what can be logged is logged");
}
