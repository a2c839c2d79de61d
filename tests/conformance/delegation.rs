//! IPAM by another plugin, beyond the statements DG-1 to DG-8.

use std::fs;
use std::path::{Path, PathBuf};

use selvedge_tests::{Answer, Call, FakeIpam, Stage, skipped};
use serde_json::{Value, json};

use crate::config::{MODES, address, after, delegating, must_be_back, traces, tutorial, with};
use crate::hand::{look, name};

/// The plugin's own error: a delegate that is of no use.
const DELEGATE: u64 = 103;

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

/// Regression: such an address was given to the pod, and such a route without what it was to have.
#[test]
fn an_address_that_is_not_for_pods_and_a_route_with_more_than_a_gateway_go_back_to_the_delegate() {
    let address = r#"{"ips": [{"address": "fe80::5/64"}]}"#;
    let route = r#"{"ips": [{"address": "10.9.0.2/24"}], "routes": [{"dst": "0.0.0.0/0", "table": 99}]}"#;
    for (answer, field) in [(address, "ips[0].address \"fe80::5/64\""), (route, "routes[0].table 99")] {
        let Some((refusal, calls)) = refused(&format!("[ $CNI_COMMAND != ADD ] || echo '{answer}'")) else {
            return;
        };
        let (code, message) = refusal.refusal();
        assert!(
            code == DELEGATE && message.contains(FakeIpam::TYPE) && message.contains(field),
            "{code} {message}"
        );
        assert_eq!(calls, ["ADD", "DEL"]);
    }
}
