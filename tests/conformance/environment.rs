//! The environment (ENV-1 to ENV-7) and the configuration (CFG-1 to CFG-5), as far as side effects are concerned.

use std::fs;

use selvedge_tests::{Call, Stage};
use serde_json::{Value, json};

use crate::config::{add, address, must_be_back, traces, tutorial, with};

#[test]
fn env_1_every_missing_variable_is_named() {
    let Some(stage) = Stage::new() else { return };
    let missing = |verb| {
        let answer = Call::new(verb, tutorial(&stage)).with("CNI_PATH", "").run(stage.node());
        let (code, message) = answer.refusal();
        (code, message.to_owned())
    };
    let of = |names: &str| (4, format!("required env variables [{names}] missing"));
    assert_eq!(missing("ADD"), of("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"));
    assert_eq!(missing("CHECK"), of("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"));
    assert_eq!(missing("DEL"), of("CNI_CONTAINERID,CNI_IFNAME"));
    assert_eq!(missing("GC"), of("CNI_PATH"));
}

#[test]
fn env_2_without_a_delegate_nobody_needs_cni_path() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let call = |verb| Call::new(verb, tutorial(&stage)).with("CNI_PATH", "").of("web-0", &pod);
    call("ADD").run(stage.node()).result();
    call("STATUS").run(stage.node()).done();
    call("DEL").run(stage.node()).done();
}

#[test]
fn env_3_a_container_id_that_is_a_path_never_touches_the_disk() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    for id in ["../../escaped", "a/b", "-a", "a b", "a\nb", "ä"] {
        let pod = stage.pod();
        for verb in ["ADD", "DEL"] {
            let answer = Call::new(verb, tutorial(&stage)).of(id, &pod).run(stage.node());
            let (code, message) = answer.refusal();
            assert!(code == 4 && message.contains("CNI_CONTAINERID"), "{id}: {message}");
        }
    }
    assert_eq!(traces(&stage), before);
    assert_eq!(fs::read_dir(stage.folder()).unwrap().count(), 0);
}

#[test]
fn env_3_a_container_id_may_be_of_any_length() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let (one, other) = ("a".repeat(3000), "a".repeat(3001));
    let (pod, second) = (stage.pod(), stage.pod());
    let config = tutorial(&stage);
    let first = add(&stage, &config, &one, &pod);
    assert_ne!(address(&first), address(&add(&stage, &config, &other, &second)));
    for (id, pod) in [(&one, &pod), (&other, &second)] {
        Call::new("DEL", config.clone()).of(id, pod).run(stage.node()).done();
    }
    must_be_back(&before, &stage);
}

#[test]
fn env_4_an_interface_name_that_the_kernel_would_refuse_is_refused_before_it() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let pod = stage.pod();
    for ifname in ["sixteen-letters-", ".", "..", "a/b", "a:b", "a b"] {
        let call = Call::new("ADD", tutorial(&stage)).of("web-0", &pod).with("CNI_IFNAME", ifname);
        let answer = call.run(stage.node());
        let (code, message) = answer.refusal();
        assert!(code == 4 && message.contains("CNI_IFNAME"), "{ifname}: {message}");
    }
    assert_eq!(traces(&stage), before);
}

#[test]
fn env_5_the_plugins_own_namespace_is_refused_before_anything_is_done() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    for path in ["/proc/self/ns/net", "/proc/thread-self/ns/net"] {
        let pod = stage.pod();
        let call = Call::new("ADD", tutorial(&stage)).of("web-0", &pod).with("CNI_NETNS", path);
        let answer = call.run(stage.node());
        let (code, message) = answer.refusal();
        assert!(code == 8 && message.contains(path), "{message}");
    }
    assert_eq!(traces(&stage), before);
}

#[test]
fn env_5_a_path_without_a_namespace_is_refused_and_named() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let file = stage.folder().join("file");
    fs::write(&file, "").unwrap();
    for path in ["/nowhere/at/all", file.to_str().unwrap(), "/proc/self/ns/mnt", "/proc"] {
        for verb in ["ADD", "CHECK"] {
            let config = with(tutorial(&stage), json!({"prevResult": {"cniVersion": "1.1.0", "ips": []}}));
            let config = if verb == "ADD" { tutorial(&stage) } else { config };
            let pod = stage.pod();
            let call = Call::new(verb, config).of("web-0", &pod).with("CNI_NETNS", path);
            let answer = call.run(stage.node());
            let (code, message) = answer.refusal();
            // CHECK may say first that there is no lease.
            assert!(matches!(code, 3 | 8) || verb == "CHECK", "{path}: {code} {message}");
            assert!(message.contains(path) || verb == "CHECK", "{message}");
        }
    }
    assert_eq!(traces(&stage), before);
}

#[test]
fn env_5_the_sandbox_of_the_result_is_the_path_as_it_was_given() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let path = pod.path().display().to_string().replace("/fd/", "//fd/./");
    let call = Call::new("ADD", tutorial(&stage)).of("web-0", &pod).with("CNI_NETNS", &path);
    let answer = call.run(stage.node());
    assert_eq!(answer.result()["interfaces"][2]["sandbox"], path);
}

#[test]
fn env_6_the_arguments_of_podman_and_kubernetes_are_taken_and_unknown_ones_refused() {
    let Some(stage) = Stage::new() else { return };
    let attempt = |container: &str, args: &str| {
        let pod = stage.pod();
        let call = Call::new("ADD", tutorial(&stage)).of(container, &pod);
        call.with("CNI_ARGS", args).run(stage.node())
    };
    attempt("podman", "IgnoreUnknown=1;K8S_POD_NAME=web-0").result();
    let kubernetes =
        "K8S_POD_UID=u;K8S_POD_INFRA_CONTAINER_ID=i;K8S_POD_NAME=p;IgnoreUnknown=1;K8S_POD_NAMESPACE=n";
    attempt("kubernetes", kubernetes).result();
    attempt("empty", "").result();
    attempt("ignored", "FROB=1;IgnoreUnknown=true").result();
    for (container, args) in [("unknown", "FROB=1"), ("no-value", "IgnoreUnknown=1;IP"), ("two", "A=b=c")] {
        assert_eq!(attempt(container, args).refusal().0, 4, "{args}");
    }
}

#[test]
fn env_6_del_does_not_read_malformed_arguments() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let before = traces(&stage);
    add(&stage, &tutorial(&stage), "web-0", &pod);
    let call = Call::new("DEL", tutorial(&stage)).of("web-0", &pod).with("CNI_ARGS", ";;=FROB");
    call.run(stage.node()).done();
    must_be_back(&before, &stage);
}

#[test]
fn env_7_addresses_of_the_runtime_configuration_go_before_those_of_cni_args() {
    let Some(stage) = Stage::new() else { return };
    let attempt = |container: &str, more: Value| {
        let pod = stage.pod();
        let call = Call::new("ADD", with(tutorial(&stage), more)).of(container, &pod);
        address(call.with("CNI_ARGS", "IP=10.244.1.70").run(stage.node()).result())
    };
    assert_eq!(attempt("runtime", json!({"runtimeConfig": {"ips": ["10.244.1.80/24"]}})), "10.244.1.80");
    assert_eq!(attempt("args", json!({"args": {"cni": {"ips": ["10.244.1.90"]}}})), "10.244.1.90");
    assert_eq!(attempt("cni-args", json!({})), "10.244.1.70");
}

#[test]
fn cfg_1_a_version_that_is_not_spoken_is_refused_before_any_side_effect() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let config = with(tutorial(&stage), json!({"cniVersion": "9.9.9"}));
    let answer = Call::new("ADD", config).of("web-0", &pod).run(stage.node());
    assert_eq!(answer.refusal().0, 1);
    assert!(answer.stdout.unwrap()["details"].as_str().unwrap().contains("1.1.0"));
    assert_eq!(fs::read_dir(stage.folder()).unwrap().count(), 0);
}

#[test]
fn cfg_1_a_name_that_is_a_path_never_touches_the_disk() {
    let Some(stage) = Stage::new() else { return };
    for name in [json!("../../etc"), json!(""), json!(null), json!("a/b"), json!(7)] {
        let config = with(tutorial(&stage), json!({"name": name}));
        for verb in ["ADD", "DEL", "GC", "STATUS"] {
            let answer = Call::new(verb, config.clone()).of("web-0", &stage.pod()).run(stage.node());
            let (code, message) = answer.refusal();
            assert!(code == 7 && message.contains("name"), "{verb} {name}: {message}");
        }
    }
    assert_eq!(fs::read_dir(stage.folder()).unwrap().count(), 0);
}

#[test]
fn cfg_1_what_is_no_json_object_is_refused_for_each_verb() {
    let Some(stage) = Stage::new() else { return };
    for text in ["", "{", "[]", "nonsense"] {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let pod = stage.pod();
            let call = Call::new(verb, Value::Null).saying(text).of("web-0", &pod);
            assert_eq!(call.run(stage.node()).refusal().0, 6, "{verb} {text:?}");
        }
    }
}

#[test]
fn cfg_2_a_wrong_value_is_refused_by_key_and_value_and_changes_nothing() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let wrong = [
        (json!({"attach": "bonded"}), 2, ["attach", "bonded"]),
        (json!({"subnet": "10.244.1.0/33"}), 7, ["subnet", "10.244.1.0/33"]),
        (json!({"subnet": "10.244.1.0/32"}), 7, ["10.244.1.0/32", "small"]),
        (json!({"subnet": "10.244.1.7/24"}), 7, ["subnet", "10.244.1.0/24"]),
        (json!({"mtu": 100}), 7, ["mtu", "100"]),
        (json!({"bridge": "a name that is too long"}), 7, ["bridge", "a name"]),
        (json!({"network": "everything"}), 7, ["network", "everything"]),
        (json!({"type": "/bin/sh"}), 7, ["type", "/bin/sh"]),
        (json!({"ipam": {"type": "../sh"}}), 7, ["type", "../sh"]),
    ];
    let before = traces(&stage);
    for (more, code, parts) in wrong {
        let config = with(tutorial(&stage), more);
        let answer = Call::new("ADD", config).of("web-0", &pod).run(stage.node());
        let (told, message) = answer.refusal();
        assert_eq!(told, code, "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
    }
    assert_eq!(traces(&stage), before);
}
