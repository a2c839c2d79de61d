//! VERSION and the shapes of results to the letter, beyond the statements VER-1, RES-1 to RES-3 and CONV-1 to CONV-4.

use std::process::{Command, Stdio};

use selvedge_tests::{Call, Stage, program};
use serde_json::{Value, json};

use crate::config::{add, must_be_back, traces, tutorial, with};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

#[test]
fn ver_1_version_answers_with_what_runtimes_pass_and_without_a_configuration() {
    let mut version = Command::new(program("selvedge"));
    version.env_clear().stdin(Stdio::null()).envs([
        ("CNI_COMMAND", "VERSION"),
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", "dummy"),
        ("CNI_IFNAME", "dummy"),
        ("CNI_PATH", "dummy"),
    ]);
    let output = version.output().unwrap();
    assert!(output.status.success());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS}));
}

#[test]
fn conv_the_oldest_versions_have_an_address_and_routes_for_each_family_and_no_interfaces() {
    let Some(stage) = Stage::new() else { return };
    let config = with(tutorial(&stage), json!({"cniVersion": "0.2.0", "subnet": DUAL}));
    let result = add(&stage, &config, "web-0", &stage.pod());
    assert!(result.get("interfaces").is_none() && result.get("ips").is_none());
    let v4 = json!({"ip": "10.244.1.2/24", "gateway": "10.244.1.1",
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}]});
    let v6 = json!({"ip": "fd00:10:244:1::2/64", "gateway": "fd00:10:244:1::1",
        "routes": [{"dst": "::/0", "gw": "fd00:10:244:1::1"}]});
    assert_eq!((&result["ip4"], &result["ip6"]), (&v4, &v6));
}

#[test]
fn conv_what_a_version_has_no_place_for_is_refused_and_nothing_is_left() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let two = json!([[{"subnet": "10.244.1.0/25"}], [{"subnet": "10.244.1.128/25"}]]);
    let config =
        with(tutorial(&stage), json!({"cniVersion": "0.2.0", "subnet": null, "ipam": {"ranges": two}}));
    let answer = Call::new("ADD", config).of("web-0", &stage.pod()).run(stage.node());
    if answer.code != 0 {
        answer.refusal();
        must_be_back(&before, &stage);
    }
}
