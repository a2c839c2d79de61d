//! The manifests as the API server takes them, and what they ask of a node.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::site::{deploy, documents, text, the};

const FILES: [&str; 2] = ["selvedge.yaml", "selvedge-uninstall.yaml"];

/// A field that the API's types don't know, or of another type, would not come back.
#[test]
fn every_field_is_one_of_the_api() {
    for name in FILES {
        for object in objects(name) {
            let known = match (object["apiVersion"].as_str(), object["kind"].as_str()) {
                (Some("v1"), Some("ServiceAccount")) => typed::<ServiceAccount>(&object),
                (Some("v1"), Some("ConfigMap")) => typed::<ConfigMap>(&object),
                (Some("rbac.authorization.k8s.io/v1"), Some("ClusterRole")) => typed::<ClusterRole>(&object),
                (Some("rbac.authorization.k8s.io/v1"), Some("ClusterRoleBinding")) => {
                    typed::<ClusterRoleBinding>(&object)
                }
                (Some("apps/v1"), Some("DaemonSet")) => typed::<DaemonSet>(&object),
                other => panic!("an object that nobody expects: {other:?}"),
            };
            assert_eq!(known, object, "{name}: what the API takes of the second is the first");
        }
    }
}

#[test]
fn an_unknown_field_would_be_found() {
    let mut object = the(&objects(FILES[0]), "DaemonSet").clone();
    object["spec"]["template"]["spec"]["hostNetworking"] = json!(true);
    assert_ne!(typed::<DaemonSet>(&object), object);
}

#[test]
fn a_container_may_change_the_nodes_network_and_nothing_else() {
    for name in FILES {
        let objects = objects(name);
        let pod = pod(&objects);
        assert_eq!(pod["hostNetwork"], true);
        assert_eq!((pod.get("hostPID"), pod.get("hostIPC")), (None, None), "{name}");
        let containers = [&pod["initContainers"], &pod["containers"]].into_iter().flat_map(list);
        for container in containers {
            let expected = json!({
                "privileged": false,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "runAsUser": 0,
                "runAsGroup": 0,
                "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            });
            assert_eq!(container["securityContext"], expected, "{name}");
        }
    }
}

#[test]
fn of_the_nodes_files_there_are_the_cni_folders_the_run_directory_and_the_networks_sysctls() {
    for name in FILES {
        let objects = objects(name);
        let paths: Vec<_> = list(&pod(&objects)["volumes"])
            .filter_map(|volume| volume["hostPath"]["path"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(paths, ["/etc/cni/net.d", "/opt/cni/bin", "/run", "/proc/sys/net"], "{name}");
    }
    let objects = objects(FILES[0]);
    let run =
        list(&agent(&objects)["volumeMounts"]).find(|mount| mount["name"] == "run").expect("it is mounted");
    // A private copy of the mounts below would keep the namespaces of pods that are gone.
    assert_eq!(run["mountPropagation"], "HostToContainer");
}

#[test]
fn it_may_read_what_it_follows_and_write_no_more_than_a_nodes_condition() {
    let objects = objects(FILES[0]);
    let expected = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]);
    assert_eq!(the(&objects, "ClusterRole")["rules"], expected);
    let account = the(&objects, "ServiceAccount");
    let subject = &the(&objects, "ClusterRoleBinding")["subjects"];
    let who = json!([{"kind": "ServiceAccount", "name": "selvedge", "namespace": account["metadata"]["namespace"]}]);
    assert_eq!(*subject, who);
    assert_eq!(pod(&objects)["serviceAccountName"], account["metadata"]["name"]);
}

#[test]
fn every_node_has_it_before_anything_else_and_one_at_a_time_gets_a_new_one() {
    let objects = objects(FILES[0]);
    let (set, pod) = (&the(&objects, "DaemonSet")["spec"], pod(&objects));
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(
        set["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}})
    );
    assert!(agent(&objects)["resources"]["requests"].is_object());
}

#[test]
fn the_probes_ask_where_the_agent_listens_and_that_is_loopback() {
    let objects = objects(FILES[0]);
    let agent = agent(&objects);
    for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        assert_eq!(agent[probe]["httpGet"], json!({"host": "127.0.0.1", "port": 9763, "path": path}));
    }
    assert!(list(&agent["args"]).any(|argument| argument == "--listen=127.0.0.1:9763"));
}

#[test]
fn the_image_has_the_version_of_the_programs() {
    for name in FILES {
        let image = format!("selvedge:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(agent(&objects(name))["image"], image, "{name}");
    }
    let dockerfile = text(&deploy().join("Dockerfile"));
    assert!(dockerfile.contains(&format!("--tag selvedge:{} ", env!("CARGO_PKG_VERSION"))), "{dockerfile}");
}

#[test]
fn an_image_that_docker_builds_has_the_programs_of_ours() {
    let script = text(&deploy().join("image.sh"));
    let (_, programs) = script.split_once("cp \"$programs\"/{").unwrap();
    let programs: Vec<&str> = programs.split_once('}').unwrap().0.split(',').collect();
    let dockerfile = text(&deploy().join("Dockerfile"));
    let copied = format!("COPY {} /opt/selvedge/bin/\n", programs.join(" "));
    assert!(dockerfile.contains(&copied), "{copied}{dockerfile}");
    let ignored = text(&deploy().join("Dockerfile.dockerignore"));
    let kept: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert_eq!(kept, programs);
}

fn objects(name: &str) -> Vec<Value> {
    documents(&text(&deploy().join(name)))
}

fn pod(objects: &[Value]) -> &Value {
    &the(objects, "DaemonSet")["spec"]["template"]["spec"]
}

fn agent(objects: &[Value]) -> &Value {
    &pod(objects)["containers"][0]
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The object with the fields that the API's type has.
pub(crate) fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let read: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
    serde_json::to_value(read).expect("what was read can be written")
}
