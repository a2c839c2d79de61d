//! Network configurations, and calls that most tests make.

use selvedge_tests::{Answer, Call, Pod, Stage, Traces};
use serde_json::{Value, json};

/// A configuration for each way to attach pods.
pub(crate) const MODES: [fn(&Stage) -> Value; 2] = [tutorial, routed];

/// The tutorials' configuration with a run directory of the stage's own.
pub(crate) fn tutorial(stage: &Stage) -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": "mynet",
        "type": "selvedge",
        "network": "10.244.0.0/16",
        "subnet": "10.244.1.0/24",
        "runDir": stage.folder(),
    })
}

/// The same with routed pods.
pub(crate) fn routed(stage: &Stage) -> Value {
    with(tutorial(stage), json!({"attach": "routed"}))
}

/// A configuration whose addresses another plugin gives.
pub(crate) fn delegating(stage: &Stage, plugin: &str) -> Value {
    with(tutorial(stage), json!({"subnet": null, "ipam": {"type": plugin}}))
}

/// The configuration with the keys of `more` set.
pub(crate) fn with(mut config: Value, more: Value) -> Value {
    let (Some(object), Value::Object(more)) = (config.as_object_mut(), more) else {
        panic!("not two objects")
    };
    object.extend(more);
    config
}

/// The configuration as a runtime sends it with CHECK and DEL: with what ADD answered.
pub(crate) fn after(config: &Value, result: &Value) -> Value {
    with(config.clone(), json!({"prevResult": result}))
}

/// Attaches a container, which must succeed; the result.
pub(crate) fn add(stage: &Stage, config: &Value, container: &str, pod: &Pod) -> Value {
    Call::new("ADD", config.clone()).of(container, pod).run(stage.node()).result().clone()
}

/// Detaches a container.
pub(crate) fn del(stage: &Stage, config: &Value, container: &str, pod: &Pod) -> Answer {
    Call::new("DEL", config.clone()).of(container, pod).run(stage.node())
}

/// Checks a container.
pub(crate) fn check(stage: &Stage, config: &Value, container: &str, pod: &Pod) -> Answer {
    Call::new("CHECK", config.clone()).of(container, pod).run(stage.node())
}

/// What is on a stage's node now.
pub(crate) fn traces(stage: &Stage) -> Traces {
    Traces::on(stage.node(), stage.folder())
}

/// Fails unless a stage's node is again as it was.
pub(crate) fn must_be_back(before: &Traces, stage: &Stage) {
    before.must_be_back_on(stage.node(), stage.folder());
}

/// The first address of a result, without its prefix length.
pub(crate) fn address(result: &Value) -> String {
    let net = result["ips"][0]["address"].as_str().unwrap();
    net.split('/').next().unwrap().to_owned()
}

/// The name of the host end in a result: the last interface without a sandbox.
pub(crate) fn host_end(result: &Value) -> String {
    let interfaces = result["interfaces"].as_array().unwrap();
    let host = interfaces.iter().rfind(|interface| interface.get("sandbox").is_none()).unwrap();
    host["name"].as_str().unwrap().to_owned()
}
