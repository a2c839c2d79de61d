//! DG-1 to DG-8 and CONV-1: IPAM by another plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use selvedge_tests::{Answer, Call, FakeIpam, Stage, skipped};
use serde_json::{Value, json};

use crate::config::{MODES, address, after, delegating, must_be_back, traces, tutorial, with};
use crate::hand::{look, name};

/// The plugin's own error: a delegate that is of no use.
const DELEGATE: u64 = 103;

const ONE_ADDRESS: &str = r#"case $CNI_COMMAND in ADD)
    echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}' ;;
    esac"#;

fn call(stage: &Stage, verb: &str, ipam: &FakeIpam) -> Call {
    Call::new(verb, delegating(stage, FakeIpam::TYPE)).with("CNI_PATH", &ipam.path())
}

/// What ADD answers with an IPAM plugin of these lines. Nothing may be left.
fn refused(lines: &str) -> Option<(Answer, Vec<String>)> {
    let stage = Stage::new()?;
    let (ipam, pod) = (FakeIpam::new(&stage, lines), stage.pod());
    let before = traces(&stage);
    let answer = call(&stage, "ADD", &ipam).of("web-0", &pod).run(stage.node());
    assert_ne!(answer.code, 0, "{:?}", answer.stdout);
    must_be_back(&before, &stage);
    assert!(!look(pod.namespace()).links.contains_key(&name("eth0")));
    Some((answer, ipam.calls()))
}

#[test]
fn dg_1_the_first_regular_file_of_the_name_in_cni_path_is_run() {
    let Some(stage) = Stage::new() else { return };
    let ipam = FakeIpam::new(&stage, ONE_ADDRESS);
    let folder = stage.folder().join("decoy");
    fs::create_dir_all(folder.join(FakeIpam::TYPE)).unwrap();
    let path = format!("/nowhere:{}::{}", folder.display(), ipam.path());
    let pod = stage.pod();
    let answer = call(&stage, "ADD", &ipam).with("CNI_PATH", &path).of("web-0", &pod).run(stage.node());
    assert_eq!(address(answer.result()), "10.9.0.2");
}

#[test]
fn dg_1_a_name_with_a_slash_is_never_run() {
    let Some(stage) = Stage::new() else { return };
    let ipam = FakeIpam::new(&stage, ONE_ADDRESS);
    let config = delegating(&stage, &format!("../plugins/{}", FakeIpam::TYPE));
    let call = Call::new("ADD", config).with("CNI_PATH", &ipam.path());
    assert_eq!(call.of("web-0", &stage.pod()).run(stage.node()).refusal().0, 7);
    assert!(ipam.calls().is_empty());
}

#[test]
fn dg_2_it_gets_our_environment_and_our_configuration_to_the_byte() {
    let Some(stage) = Stage::new() else { return };
    let (ipam, pod) = (FakeIpam::new(&stage, ONE_ADDRESS), stage.pod());
    let text = format!("{:#}\n ", with(delegating(&stage, FakeIpam::TYPE), json!({"x-unknown": [1.50]})));
    let call = call(&stage, "ADD", &ipam).saying(text.as_bytes()).of("web-0", &pod);
    let call = call.with("CNI_ARGS", "IgnoreUnknown=1;X=1").with("TRACEPARENT", "00-ab-cd-01");
    call.run(stage.node()).result();
    assert_eq!(ipam.stdin(), text);
    let netns = format!("CNI_NETNS={}", pod.path().display());
    let expected = [
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=web-0",
        "CNI_IFNAME=eth0",
        "CNI_ARGS=IgnoreUnknown=1;X=1",
        "TRACEPARENT=00-ab-cd-01",
        &netns,
    ];
    let environment = ipam.environment();
    for line in expected {
        assert!(environment.iter().any(|have| have == line), "{line}: {environment:?}");
    }
}

#[test]
fn dg_3_what_it_says_on_stderr_is_on_ours() {
    let Some(stage) = Stage::new() else { return };
    let ipam = FakeIpam::new(&stage, &format!("echo 'a word to the wise' >&2\n{ONE_ADDRESS}"));
    let pod = stage.pod();
    let answer = call(&stage, "ADD", &ipam).of("web-0", &pod).run(stage.node());
    assert!(answer.stderr.contains("a word to the wise\n"), "{}", answer.stderr);
}

#[test]
fn dg_4_its_error_object_is_passed_on_unchanged() {
    let object = r#"{"cniVersion": "1.1.0", "code": 123, "msg": "no lease to give", "details": "a\nb"}"#;
    let Some((answer, calls)) = refused(&format!("echo '{}'; exit 1", object.replace('\\', r"\\"))) else {
        return;
    };
    assert_eq!(answer.refusal(), (123, "no lease to give"));
    assert_eq!(answer.stdout.unwrap()["details"], "a\nb");
    assert_eq!(calls, ["ADD"]);
}

#[test]
fn dg_5_an_add_that_fails_after_it_gives_the_address_back() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (ipam, pod) = (FakeIpam::new(&stage, TWO_FAMILIES), stage.pod());
        let refuse = || fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        pod.namespace().run(refuse).unwrap().unwrap();
        let before = traces(&stage);
        let config = with(configured(&stage), json!({"subnet": null, "ipam": {"type": FakeIpam::TYPE}}));
        let call = Call::new("ADD", config).with("CNI_PATH", &ipam.path()).of("web-0", &pod);
        call.run(stage.node()).refusal();
        assert_eq!(ipam.calls(), ["ADD", "DEL"]);
        must_be_back(&before, &stage);
    }
}

const TWO_FAMILIES: &str = r#"case $CNI_COMMAND in ADD)
    echo '{"ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}, {"address": "fd09::2/64", "gateway": "fd09::1"}]}'
    esac"#;

#[test]
fn dg_6_a_plugin_that_is_just_being_replaced_is_tried_again() {
    let Some(stage) = Stage::new() else { return };
    let (ipam, pod) = (FakeIpam::new(&stage, ONE_ADDRESS), stage.pod());
    let program = PathBuf::from(ipam.path()).join(FakeIpam::TYPE);
    let being_written = fs::OpenOptions::new().append(true).open(program).unwrap();
    let add = call(&stage, "ADD", &ipam).of("web-0", &pod).start(stage.node());
    // Time for a first try, which this file, open for writing, makes fail.
    thread::sleep(Duration::from_millis(150));
    drop(being_written);
    assert_eq!(address(add.answer().result()), "10.9.0.2");
}

#[test]
fn dg_7_every_verb_is_forwarded() {
    let Some(stage) = Stage::new() else { return };
    let (ipam, pod) = (FakeIpam::new(&stage, ONE_ADDRESS), stage.pod());
    let before = traces(&stage);
    let result = call(&stage, "ADD", &ipam).of("web-0", &pod).run(stage.node()).result().clone();
    let config = after(&delegating(&stage, FakeIpam::TYPE), &result);
    let check = Call::new("CHECK", config).with("CNI_PATH", &ipam.path()).of("web-0", &pod);
    check.run(stage.node()).done();
    for verb in ["STATUS", "DEL", "GC"] {
        call(&stage, verb, &ipam).of("web-0", &pod).run(stage.node()).done();
    }
    assert_eq!(ipam.calls(), ["ADD", "CHECK", "STATUS", "DEL", "GC"]);
    must_be_back(&before, &stage);
}

#[test]
fn dg_8_an_answer_that_is_no_result_is_refused_by_the_plugins_name() {
    let useless = [
        ("garbage", "echo 'half a {'"),
        ("nothing", ":"),
        ("null", "echo null"),
        ("no addresses", r#"echo '{"cniVersion": "1.0.0", "ips": []}'"#),
        ("an address that is none", r#"echo '{"ips": [{"address": "10.9.0.2"}]}'"#),
        ("two documents", r#"echo '{"ips": [{"address": "10.9.0.2/24"}]} {}'"#),
        ("a silent failure", "exit 1"),
        ("a failure with words", "echo oops; exit 7"),
        ("a kill", "kill -9 $$"),
    ];
    for (what, lines) in useless {
        let Some((answer, _)) = refused(lines) else { return };
        let (code, message) = answer.refusal();
        assert!(code == DELEGATE && message.contains(FakeIpam::TYPE), "{what}: {code} {message}");
    }
}

#[test]
fn dg_8_an_add_that_was_refused_for_its_delegates_answer_gives_the_address_back() {
    for lines in ["half a {", r#"{"ips": [{"address": "10.9.0.2"}]}"#] {
        let Some((_, calls)) = refused(&format!("[ $CNI_COMMAND = ADD ] && echo '{lines}'")) else { return };
        assert_eq!(calls, ["ADD", "DEL"], "{lines}");
    }
}

#[test]
fn conv_1_a_result_of_any_version_is_understood() {
    let answers = [
        r#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.9.0.2/24", "gateway": "10.9.0.1"}}"#,
        r#"{"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}"#,
        r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}"#,
        r#"{"ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}"#,
    ];
    for answer in answers {
        let Some(stage) = Stage::new() else { return };
        let (ipam, pod) = (FakeIpam::new(&stage, &format!("echo '{answer}'")), stage.pod());
        let added = call(&stage, "ADD", &ipam).of("web-0", &pod).run(stage.node());
        let ip = &added.result()["ips"][0];
        assert_eq!((&ip["address"], &ip["gateway"]), (&json!("10.9.0.2/24"), &json!("10.9.0.1")), "{answer}");
    }
}

#[test]
fn the_reference_host_local_gives_addresses_and_gets_them_back() {
    let ipam = json!({"ranges": [[{"subnet": "10.9.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]});
    with_reference("host-local", ipam, |stage, config, path| {
        let store = stage.folder().join("host-local");
        let config = with(
            config,
            json!({"ipam": {
            "type": "host-local", "dataDir": store, "ranges": [[{"subnet": "10.9.0.0/24"}]]}}),
        );
        round(stage, &config, path, "10.9.0.2");
        let kept = fs::read_dir(store.join("mynet")).unwrap().flatten();
        let kept: Vec<_> = kept.map(|entry| entry.file_name()).collect();
        assert!(!kept.iter().any(|file| file == "10.9.0.2"), "{kept:?}");
    });
}

#[test]
fn the_reference_static_gives_its_address() {
    let ipam = json!({"addresses": [{"address": "10.9.0.7/24", "gateway": "10.9.0.1"}]});
    with_reference("static", ipam, |stage, config, path| round(stage, &config, path, "10.9.0.7"));
}

/// ADD, CHECK and DEL; nothing may be left.
fn round(stage: &Stage, config: &Value, path: &str, expected: &str) {
    let pod = stage.pod();
    let before = traces(stage);
    let call =
        |verb, config: &Value| Call::new(verb, config.clone()).with("CNI_PATH", path).of("web-0", &pod);
    let result = call("ADD", config).run(stage.node()).result().clone();
    assert_eq!(address(&result), expected);
    call("CHECK", &after(config, &result)).run(stage.node()).done();
    call("DEL", config).run(stage.node()).done();
    must_be_back(&before, stage);
}

fn with_reference(plugin: &str, ipam: Value, test: impl Fn(&Stage, Value, &str)) {
    let folders = ["/usr/lib/cni", "/opt/cni/bin"].map(Path::new);
    let Some(folder) = folders.into_iter().find(|folder| folder.join(plugin).is_file()) else {
        skipped("the reference CNI plugins are not installed");
        return;
    };
    let Some(stage) = Stage::new() else { return };
    let folder: PathBuf = folder.to_owned();
    let config = with(tutorial(&stage), json!({"cniVersion": "1.0.0", "subnet": null, "ipam": ipam}));
    let config = with_type(config, plugin);
    test(&stage, config, folder.to_str().unwrap());
}

fn with_type(mut config: Value, plugin: &str) -> Value {
    config["ipam"]["type"] = json!(plugin);
    config
}
