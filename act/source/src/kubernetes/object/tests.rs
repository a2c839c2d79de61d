use std::num::NonZeroU16;

use selvedge_model::policy::Mode;
use selvedge_model::{Log, Transport};
use serde_json::{Value, json};

use super::*;

/// What the agent of node `n` keeps.
fn keep<K: Followed>(value: Value) -> Result<Option<Kept<K>>, String> {
    let object = serde_json::from_value::<K>(value).map_err(|why| why.to_string())?;
    object.keep(&mut keeper()).map_err(|refusal| refusal.why)
}

fn keeper() -> Keeper {
    Keeper { node: "n".parse().unwrap(), labels: SharedLabels::default() }
}

fn kept<K: Followed>(value: Value) -> Result<Kept<K>, String> {
    keep::<K>(value).map(|kept| kept.expect("it is kept"))
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
    assert_eq!((&waiting.node, &waiting.addresses, &waiting.uid), (&None, &Vec::new(), &None));
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

#[test]
fn of_other_nodes_pods_is_kept_what_policies_ask_for() {
    let pod = |node: &str, host_network: bool, phase: &str| {
        keep::<ApiPod>(json!({
            "metadata": {"namespace": "d", "name": "p", "uid": "u", "labels": {"a": "b"},
                "annotations": {"kubernetes.io/config.mirror": "h"}},
            "spec": {"nodeName": node, "hostNetwork": host_network}, "status": {"phase": phase, "podIP": "10.0.0.1"}}))
        .unwrap()
    };
    let own = pod("n", false, "Running").unwrap();
    assert_eq!((own.uid.as_deref(), own.mirror.as_deref()), (Some("u"), Some("h")));
    let other = pod("o", false, "Running").unwrap();
    assert_eq!((&other.uid, &other.mirror), (&None, &None));
    assert_eq!((&other.labels, &other.addresses), (&own.labels, &own.addresses));
    // Not yet on any node, and so perhaps soon on ours.
    assert_eq!(pod("", false, "Pending").unwrap().uid.as_deref(), Some("u"));
    for (host_network, phase) in [(true, "Running"), (false, "Succeeded"), (false, "Failed")] {
        assert!(
            pod("n", host_network, phase).is_some() && pod("o", host_network, phase).is_none(),
            "{phase}"
        );
    }
}

#[test]
fn a_namespace_has_its_labels_and_what_is_logged() {
    let namespace = |log: Option<&str>| {
        let annotations = log.map(|log| json!({"selvedge.dev/log": log}));
        kept::<ApiNamespace>(
            json!({"metadata": {"name": "shop", "labels": {"team": "a"}, "annotations": annotations}}),
        )
    };
    assert_eq!(namespace(None).unwrap().labels["team"], "a");
    let said = [None, Some("off"), Some("denied"), Some("all")].map(|log| namespace(log).unwrap().log);
    assert_eq!(said, [Log::Denied, Log::Off, Log::Denied, Log::All]);
    let expected = "metadata.annotations[\"selvedge.dev/log\"] \"some\": must be off, denied or all";
    assert_eq!(namespace(Some("some")), Err(expected.to_owned()));
}

#[test]
fn a_policy_has_its_rules_and_its_mode() {
    let policy = |mode: Value, spec: Value| {
        let metadata =
            json!({"namespace": "shop", "name": "deny", "annotations": {"selvedge.dev/mode": mode}});
        kept::<ApiPolicy>(json!({"metadata": metadata, "spec": spec}))
    };
    let shadow = policy(json!("shadow"), json!({"ingress": [{}]})).unwrap();
    assert_eq!((shadow.key.to_string().as_str(), shadow.mode), ("shop/deny", Mode::Shadow));
    assert_eq!(shadow.ingress.as_ref().map(Vec::len), Some(1));
    for (mode, spec, field) in [
        ("shade", json!({}), "metadata.annotations[\"selvedge.dev/mode\"]: \"shade\" is no mode"),
        ("shadow", json!({"egress": 5}), "spec.egress: must be a list"),
        ("enforced", json!("x"), "spec: must be a mapping"),
    ] {
        let why = policy(json!(mode), spec).unwrap_err();
        assert!(why.starts_with(field), "{why}");
    }
    let bare = kept::<ApiPolicy>(json!({"metadata": {"namespace": "shop", "name": "deny"}})).unwrap();
    assert_eq!((&bare.ingress, &bare.egress, bare.mode), (&Some(Vec::new()), &None, Mode::Enforced));
}

#[test]
fn a_node_says_how_it_is_reached_and_its_key_and_what_of_that_cannot_be_read_counts_as_not_there() {
    let key = PublicKey([7; 32]);
    let keep = |transport: &str, said: &str| {
        let annotations =
            json!({"selvedge.dev/transport": transport, "selvedge.dev/wireguard-public-key": said});
        let node = json!({"metadata": {"name": "a", "annotations": annotations}, "spec": {"podCIDR": "10.0.0.0/24"}});
        match serde_json::from_value::<ApiNode>(node).unwrap().keep(&mut keeper()) {
            Ok(node) => (node.unwrap(), String::new()),
            Err(Refusal { why, instead: Instead::Without(node) }) => (*node, why),
            Err(other) => panic!("{other:?}"),
        }
    };
    let vxlan = Some(Choice::Of(selvedge_model::transport::Transport::Vxlan));
    let (whole, why) = keep("vxlan", &key.to_string());
    assert_eq!((whole.transport, whole.wireguard, &*why), (vxlan, Some(key), ""));
    let (node, why) = keep("vxlan", "AAAA");
    assert_eq!(node, Node { wireguard: None, ..whole.clone() });
    assert!(
        why.starts_with("metadata.annotations[\"selvedge.dev/wireguard-public-key\"] \"AAAA\": must be"),
        "{why}"
    );
    let (node, why) = keep("vxlna", &key.to_string());
    assert_eq!(node, Node { transport: None, ..whole.clone() });
    assert!(why.starts_with("metadata.annotations[\"selvedge.dev/transport\"] \"vxlna\": must be"), "{why}");
    let (node, why) = keep("", "");
    assert_eq!(node, Node { transport: None, wireguard: None, ..whole });
    assert_eq!(why.matches("must be").count(), 2, "{why}");
}
