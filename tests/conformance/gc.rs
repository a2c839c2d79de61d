//! GC, beyond the statements GC-1 to GC-5.

use selvedge_tests::{Call, FakeIpam, Pod, Stage};
use serde_json::{Value, json};

use crate::config::{MODES, add, after, check, delegating, must_be_back, traces, tutorial, with};
use crate::hand::{look, name};

/// The configuration as a runtime sends it with GC.
fn valid(config: &Value, containers: &[&str]) -> Value {
    let list = |container: &&str| json!({"containerID": container, "ifname": "eth0"});
    let listed: Vec<Value> = containers.iter().map(list).collect();
    with(config.clone(), json!({"cni.dev/valid-attachments": listed}))
}

fn gc(stage: &Stage, config: Value) {
    Call::new("GC", config).run(stage.node()).done();
}

/// Pods `web-0` to `web-2`, attached.
fn three(stage: &Stage, config: &Value) -> Vec<(String, Pod, Value)> {
    let attach = |number| {
        let (container, pod) = (format!("web-{number}"), stage.pod());
        let result = add(stage, config, &container, &pod);
        (container, pod, result)
    };
    (0..3).map(attach).collect()
}

#[test]
fn gc_1_what_is_not_listed_goes_and_what_is_listed_stays_as_it_was() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let kept = stage.pod();
        let result = add(&stage, &config, "kept", &kept);
        let before = traces(&stage);
        let pods = three(&stage, &config);
        gc(&stage, valid(&config, &["kept"]));
        must_be_back(&before, &stage);
        check(&stage, &after(&config, &result), "kept", &kept).done();
        for (container, pod, _) in pods {
            assert!(
                !look(pod.namespace()).links.contains_key(&name("eth0")),
                "{container} has its interface"
            );
        }
    }
}

#[test]
fn gc_2_null_is_an_empty_list_and_takes_everything() {
    for (configured, list) in MODES.iter().flat_map(|mode| [(mode, json!(null)), (mode, json!([]))]) {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let before = traces(&stage);
        let _pods = three(&stage, &config);
        gc(&stage, with(config, json!({"cni.dev/valid-attachments": list})));
        must_be_back(&before, &stage);
    }
}

#[test]
fn gc_2_without_a_list_only_what_has_lost_its_namespace_goes() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let living = stage.pod();
        let result = add(&stage, &config, "living", &living);
        let before = traces(&stage);
        // The kernel deletes the pairs of namespaces that are gone in its own time.
        drop(three(&stage, &config));
        crate::process::wait_for(|| traces(&stage).with("link slv").len() == 1);
        assert_eq!(traces(&stage).with("lease").len(), 4);
        gc(&stage, config.clone());
        must_be_back(&before, &stage);
        check(&stage, &after(&config, &result), "living", &living).done();
    }
}

#[test]
fn gc_3_the_delegate_is_told_and_its_failure_keeps_nothing_else() {
    let Some(stage) = Stage::new() else { return };
    let ipam = FakeIpam::new(
        &stage,
        r#"case $CNI_COMMAND in
        ADD) echo '{"ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}' ;;
        GC) echo '{"cniVersion": "1.1.0", "code": 122, "msg": "cannot sweep"}'; exit 1 ;;
        esac"#,
    );
    let config = delegating(&stage, FakeIpam::TYPE);
    let pod = stage.pod();
    let before = traces(&stage);
    let call = |verb, config: &Value| Call::new(verb, config.clone()).with("CNI_PATH", &ipam.path());
    call("ADD", &config).of("web-0", &pod).run(stage.node()).result();
    let swept = valid(&config, &[]);
    let answer = call("GC", &swept).run(stage.node());
    assert_eq!(answer.refusal(), (122, "cannot sweep"));
    assert_eq!(ipam.calls(), ["ADD", "DEL", "GC"]);
    assert_eq!(serde_json::from_str::<Value>(&ipam.stdin()).unwrap(), swept);
    must_be_back(&before, &stage);
}

#[test]
fn gc_is_not_in_versions_before_1_1_0() {
    let Some(stage) = Stage::new() else { return };
    let config = with(tutorial(&stage), json!({"cniVersion": "1.0.0"}));
    let answer = Call::new("GC", valid(&config, &[])).run(stage.node());
    let (code, message) = answer.refusal();
    assert!(code == 1 && message.contains("config version does not allow GC"), "{message}");
}
