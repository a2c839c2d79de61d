//! The environment and the configuration, beyond the statements ENV-1 to ENV-7 and CFG-1 to CFG-5.

use std::fs;

use selvedge_tests::{Call, Stage};
use serde_json::{Value, json};

use crate::config::{must_be_back, traces, tutorial, with};

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

/// Regression: the kernel takes `%d` for a number that it chooses, and the plugin looked for another link than it had
/// made; two links a call stayed.
#[test]
fn env_4_a_name_that_the_kernel_takes_for_a_pattern_or_for_all_links_is_refused_before_anything_is_done() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    for name in ["a%d", "lo%", "all", "default", "voil\u{e0}"] {
        let call = |verb, config| Call::new(verb, config).of("web-0", &stage.pod());
        let answer = call("ADD", tutorial(&stage)).with("CNI_IFNAME", name).run(stage.node());
        let (code, message) = answer.refusal();
        assert!(code == 4 && message.contains("CNI_IFNAME") && message.contains(name), "{code} {message}");
        let answer = call("ADD", with(tutorial(&stage), json!({"bridge": name}))).run(stage.node());
        let (code, message) = answer.refusal();
        assert!(code == 7 && message.contains("bridge") && message.contains(name), "{code} {message}");
        assert_eq!(traces(&stage), before, "{name}");
        // A runtime takes back what it asked for.
        call("DEL", tutorial(&stage)).with("CNI_IFNAME", name).run(stage.node()).done();
    }
    must_be_back(&before, &stage);
}

/// An ADD that must be refused with a code and a message that names the field, and change nothing.
fn must_be_refused(stage: &Stage, config: Value, (code, field): (u64, &str)) {
    let before = traces(stage);
    let answer = Call::new("ADD", config).of("web-0", &stage.pod()).run(stage.node());
    let (told, message) = answer.refusal();
    assert!(told == code && message.contains(field), "{told} {message}");
    assert_eq!(traces(stage), before);
}

/// Regression: the gateway could be the subnet's broadcast address, which the kernel refuses with half of the work done.
#[test]
fn cfg_2_a_gateway_that_can_be_nobodys_is_refused_before_anything_is_done() {
    let Some(stage) = Stage::new() else { return };
    for gateway in ["10.244.1.0", "10.244.1.255"] {
        let ipam = json!({"ranges": [[{"subnet": "10.244.1.0/24", "gateway": gateway}]]});
        let config = with(tutorial(&stage), json!({"subnet": null, "ipam": ipam}));
        must_be_refused(&stage, config, (7, "ipam.ranges[0][0].gateway"));
    }
}

/// Regression: the attributes were left out without a word, and the route for another table was in the main one.
#[test]
fn cfg_2_a_route_that_wants_more_than_a_gateway_is_refused_by_its_field() {
    let Some(stage) = Stage::new() else { return };
    for key in ["mtu", "advmss", "priority", "table", "scope"] {
        let ipam = json!({"routes": [{"dst": "10.9.0.0/16", key: 99}]});
        let config = with(tutorial(&stage), json!({"ipam": ipam}));
        must_be_refused(&stage, config, (2, &format!("ipam.routes[0].{key} 99")));
    }
}
