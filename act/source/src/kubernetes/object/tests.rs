use serde_json::{Value, json};

use super::*;

fn kept<K: Followed>(value: Value) -> Result<K::Kept, String> {
    serde_json::from_value::<K>(value).map_err(|why| why.to_string())?.keep()
}

#[test]
fn a_node_has_the_subnets_of_either_field_and_its_internal_addresses() {
    let addresses =
        json!([{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "fd00::1"}]);
    let object =
        |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec, "status": {"addresses": addresses}});
    let old = kept::<ApiNode>(object(json!({"podCIDR": "10.0.0.7/24"}))).unwrap();
    let new =
        kept::<ApiNode>(object(json!({"podCIDR": "x", "podCIDRs": ["10.0.0.0/24"], "taints": []}))).unwrap();
    assert_eq!((&old, old.pod_cidrs[0].to_string().as_str()), (&new, "10.0.0.0/24"));
    assert_eq!(old.addresses, ["fd00::1".parse::<IpAddr>().unwrap()]);
    let bare = kept::<ApiNode>(json!({"metadata": {"name": "a"}})).unwrap();
    assert!(bare.pod_cidrs.is_empty() && bare.addresses.is_empty());
}

#[test]
fn a_pod_has_what_its_newer_fields_say_and_else_the_older() {
    let object = |status: Value| {
        json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u", "labels": {"a": ""}},
            "spec": {"nodeName": "n", "hostNetwork": true}, "status": status})
    };
    let old = kept::<ApiPod>(object(json!({"podIP": "10.0.0.1"}))).unwrap();
    let new = kept::<ApiPod>(object(json!({"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.1"}]}))).unwrap();
    assert_eq!(old, new);
    assert!(old.host_network && old.key.to_string() == "shop/web" && old.labels["a"].is_empty());
    let waiting = kept::<ApiPod>(json!({"metadata": {"namespace": "d", "name": "p"}})).unwrap();
    assert_eq!((waiting.node, waiting.addresses, waiting.uid), (None, Vec::new(), None));
}

#[test]
fn a_pod_has_the_named_ports_of_the_containers_that_run_beside_each_other() {
    let pod = |phase: &str| {
        json!({"metadata": {"namespace": "d", "name": "p"}, "status": {"phase": phase}, "spec": {
            "containers": [
                {"name": "a", "image": "i", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]},
                {"name": "b", "ports": [{"containerPort": 53, "name": "dns", "protocol": "UDP"},
                    {"containerPort": 82, "name": "http", "protocol": "TCP"},
                    {"containerPort": 0, "name": "none"}, {"containerPort": 5, "name": "x", "protocol": "DCCP"}]}],
            "initContainers": [
                {"ports": [{"containerPort": 9, "name": "once"}]},
                {"restartPolicy": "Always", "ports": [{"containerPort": 10, "name": "mesh"}]}]}})
    };
    let running = kept::<ApiPod>(pod("Running")).unwrap();
    let port = |name, transport| running.port_named(name, transport).map(NonZeroU16::get);
    assert_eq!(port("http", Transport::Tcp), Some(80));
    assert_eq!(port("http", Transport::Udp), None);
    assert_eq!(port("dns", Transport::Udp), Some(53));
    assert_eq!(port("mesh", Transport::Tcp), Some(10));
    assert_eq!(running.ports.len(), 4);
    let finished = ["Pending", "Running", "Unknown", "Succeeded", "Failed"]
        .map(|phase| kept::<ApiPod>(pod(phase)).unwrap());
    assert_eq!(finished.map(|pod| pod.finished), [false, false, false, true, true]);
}

#[test]
fn what_cannot_be_read_is_named_by_its_field() {
    let node = |key: &str, value: Value| json!({"metadata": {"name": "a"}, key: value});
    for (object, field) in [
        (node("spec", json!({"podCIDRs": ["10.0.0.0/24", "x"]})), "spec.podCIDRs[1] \"x\": "),
        (node("spec", json!({"podCIDR": "10.0.0.0/33"})), "spec.podCIDR \"10.0.0.0/33\": "),
        (
            node("status", json!({"addresses": [{"type": "InternalIP", "address": "host"}]})),
            "status.addresses[0].address \"host\": ",
        ),
        (json!({"metadata": {"name": "A b"}}), "metadata.name \"A b\": "),
    ] {
        let why = kept::<ApiNode>(object).unwrap_err();
        assert!(why.starts_with(field), "{why}");
    }
}
