//! What a runtime fills in for one container, beyond the statements on capabilities.

use selvedge_tests::{Call, Stage};
use serde_json::{Value, json};

use crate::config::{add, address, must_be_back, traces, tutorial, with};

fn with_runtime(stage: &Stage, runtime: &Value) -> Value {
    with(tutorial(stage), json!({"runtimeConfig": runtime}))
}

/// ADD must fail with this code, naming this key, and leave nothing.
fn refused(runtime: &Value, expected: u64, key: &str) {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let answer = Call::new("ADD", with_runtime(&stage, runtime)).of("web-0", &stage.pod()).run(stage.node());
    let (code, message) = answer.refusal();
    assert!(code == expected && message.to_lowercase().contains(key), "{runtime}: {code} {message}");
    must_be_back(&before, &stage);
}

#[test]
fn cap_what_is_not_supported_yet_is_refused_with_code_2_if_it_is_asked_for() {
    refused(&json!({"deviceID": "0000:00:1f.6"}), 2, "deviceid");
    refused(&json!({"infinibandGUID": "c2:11:22:33:44:55:66:77"}), 2, "infinibandguid");
}

#[test]
fn cap_what_asks_for_nothing_is_no_demand() {
    let Some(stage) = Stage::new() else { return };
    let runtime = json!({
        "portMappings": [{"hostPort": 0, "containerPort": 80, "protocol": "tcp"}, {"containerPort": 81}],
        "bandwidth": {"ingressRate": 0, "ingressBurst": 0},
    });
    add(&stage, &with_runtime(&stage, &runtime), "web-0", &stage.pod());
}

#[test]
fn cap_a_malformed_demand_is_refused_with_code_7() {
    refused(
        &json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "icmp"}]}),
        7,
        "protocol",
    );
    refused(&json!({"bandwidth": {"ingressRate": 1000}}), 7, "ingressrate");
    refused(&json!({"bandwidth": {"EgressBurst": 1000}}), 7, "egressburst");
    refused(&json!({"bandwidth": {"egressRate": 1000, "egressBurst": 1_u64 << 35}}), 7, "egressburst");
    refused(&json!({"mac": "01:00:5e:00:00:01"}), 7, "mac");
    refused(&json!({"ips": ["everywhere"]}), 7, "ips");
}

#[test]
fn cap_ips_are_given_or_the_add_is_refused() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let ips = |ips: Value| with_runtime(&stage, &json!({"ips": ips}));
    let result = add(&stage, &ips(json!(["10.244.1.77"])), "web-0", &pod);
    assert_eq!(address(&result), "10.244.1.77");
    let before = traces(&stage);
    let pod = stage.pod();
    for taken in [
        json!(["10.244.1.77"]),
        json!(["10.244.1.1"]),
        json!(["192.0.2.1"]),
        json!(["10.244.1.7", "10.244.1.8"]),
    ] {
        let answer = Call::new("ADD", ips(taken.clone())).of("web-1", &pod).run(stage.node());
        let (code, message) = answer.refusal();
        assert!(code >= 100 && message.contains(taken[0].as_str().unwrap()), "{message}");
        must_be_back(&before, &stage);
    }
}

#[test]
fn cap_an_address_may_be_asked_for_again_right_after_its_del() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let config = with_runtime(&stage, &json!({"ips": ["10.244.1.77/24"], "mac": "02:00:00:00:00:42"}));
    for _ in 0..2 {
        assert_eq!(address(&add(&stage, &config, "web-0", &pod)), "10.244.1.77");
        Call::new("DEL", config.clone()).of("web-0", &pod).run(stage.node()).done();
    }
}

#[test]
fn cap_ranges_of_the_runtime_come_before_the_configurations() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let ranges = json!({"ipRanges": [[{"subnet": "10.99.0.0/24", "rangeStart": "10.99.0.50"}]]});
    let result = add(&stage, &with_runtime(&stage, &ranges), "web-0", &pod);
    let addresses: Vec<_> = result["ips"].as_array().unwrap().iter().map(|ip| &ip["address"]).collect();
    assert_eq!(addresses, ["10.99.0.50/24", "10.244.1.2/24"]);
}
