use serde_json::{Value, json};

use super::*;
use crate::error::code;

fn network() -> NetworkName {
    "mynet".parse().unwrap()
}

fn stated(runtime: &Value) -> Result<RuntimeConfig, CniError> {
    let conf = json!({ "runtimeConfig": runtime });
    RuntimeConfig::stated_in(&Object::root(&conf).unwrap(), &network())
}

#[test]
fn what_is_honoured_is_read() {
    let runtime = stated(&json!({
        "ips": ["10.1.0.7/16", "fd00::7"], "mac": "0A:00:00:00:00:01", "ipRanges": [[{ "subnet": "10.2.0.0/16" }]],
        "cgroupPath": "/kubepods/x", "bandwidth": { "IngressRate": 1e6, "IngressBurst": 80_000 },
        "io.kubernetes.cri.pod-annotations": { "a.b/c": "d", "A.b/c": "e" }
    }))
    .unwrap();
    assert_eq!(runtime.requested.ips[0].prefix, Some(16));
    assert_eq!(runtime.requested.ips[1].prefix, None);
    assert_eq!(runtime.requested.mac.unwrap().to_string(), "0a:00:00:00:00:01");
    assert_eq!(runtime.ip_ranges.len(), 1);
    assert_eq!(runtime.cgroup_path.as_deref(), Some("/kubepods/x"));
    assert_eq!(runtime.pod_annotations.len(), 2);
    assert_eq!(runtime.bandwidth.ingress.unwrap().rate.get(), 1_000_000);
    assert_eq!(runtime.bandwidth.egress, None);
}

#[test]
fn aliases_are_read_as_a_list_and_as_podmans_map() {
    for aliases in [json!(["web", "www"]), json!({ "other": ["x"], "mynet": ["web", "www"] })] {
        assert_eq!(stated(&json!({ "aliases": aliases })).unwrap().aliases, ["web", "www"]);
    }
    assert!(stated(&json!({ "aliases": { "other": ["x"] } })).unwrap().aliases.is_empty());
}

#[test]
fn what_is_not_supported_yet_is_code_2_once_it_is_asked_for() {
    let rows = [("deviceID", json!("0000:00:1f.6")), ("infinibandGUID", json!("c2:11:22:33:44:55:66:77"))];
    for (key, value) in rows {
        let error = stated(&json!({ key: value })).unwrap_err();
        assert_eq!(error.code(), code::UNSUPPORTED_FIELD, "{key}: {error}");
        assert!(error.message().starts_with(&format!("runtimeConfig.{key} ")), "{error}");
    }
}

#[test]
fn nothing_asked_for_is_nothing_refused() {
    let runtime = json!({
        "portMappings": [{ "HostPort": 0, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" }, { "containerPort": 1 }],
        "bandwidth": { "IngressRate": 0, "IngressBurst": 0, "EgressRate": 0, "EgressBurst": 0 },
        "deviceID": "", "infinibandGUID": null
    });
    assert_eq!(stated(&runtime).unwrap(), RuntimeConfig::default());
    assert_eq!(
        stated(&json!({ "portMappings": null, "bandwidth": null })).unwrap(),
        RuntimeConfig::default()
    );
}

#[test]
fn malformed_values_are_code_7_before_anything_is_called_unsupported() {
    let port = json!([{ "hostPort": 80, "containerPort": 80 }]);
    let rows = [
        json!({ "portMappings": port, "bandwidth": { "ingressRate": 5 } }),
        json!({ "bandwidth": { "egressBurst": 5 } }),
        json!({ "bandwidth": { "egressRate": 5, "egressBurst": 34_359_738_368_u64 } }),
        json!({ "bandwidth": { "egressRate": -5 } }),
        json!({ "portMappings": port, "deviceID": 5 }),
        json!({ "portMappings": port, "ips": ["10.0.0.0.1"] }),
        json!({ "mac": "01:00:5e:00:00:01" }),
        json!({ "ips": "10.0.0.1" }),
        json!({ "ipRanges": [[{ "subnet": "x" }]] }),
        json!({ "aliases": "x" }),
        json!({ "io.kubernetes.cri.pod-annotations": { "a": 1 } }),
    ];
    for runtime in rows {
        let error = stated(&runtime).unwrap_err();
        assert_eq!(error.code(), code::CONFIG, "{runtime}: {error}");
        assert!(error.message().starts_with("runtimeConfig."), "{runtime}: {error}");
    }
}
