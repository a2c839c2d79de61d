//! What podman hands to the plugin, written down by a plugin that passes every call on to ours.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::host::{Host, dual};

/// A plugin that writes down each call below /run/sent and passes it on.
const RECORDER: &str = r#"#!/bin/sh -e
call=/run/sent/$(date +%s%N).$$
mkdir -p "$call"
env -0 >"$call/environment"
cat >"$call/stdin"
exec /opt/cni/bin/selvedge <"$call/stdin"
"#;

/// One call as it came.
#[derive(Debug)]
struct Sent {
    environment: BTreeMap<String, String>,
    config: Value,
}

impl Sent {
    fn variable(&self, name: &str) -> &str {
        self.environment.get(name).map_or("", String::as_str)
    }

    fn verb(&self) -> &str {
        self.variable("CNI_COMMAND")
    }

    /// CNI_ARGS as pairs.
    fn args(&self) -> BTreeMap<&str, &str> {
        let pairs = self.variable("CNI_ARGS").split(';');
        pairs.filter_map(|pair| pair.split_once('=')).collect()
    }
}

/// A host whose networks are ours by way of the recorder.
fn host(networks: &[Value]) -> Option<Host> {
    let mut networks = networks.to_vec();
    networks.iter_mut().for_each(|network| network["plugins"][0]["type"] = json!("recorder"));
    let host = Host::new(&networks)?;
    host.machine().write("/opt/cni/bin/recorder", RECORDER);
    let recorder = host.machine().path("/opt/cni/bin/recorder");
    fs::set_permissions(recorder, fs::Permissions::from_mode(0o755)).unwrap();
    Some(host)
}

/// The calls since the last time, in their order.
fn sent(host: &Host) -> Vec<Sent> {
    let folder = host.machine().path("/run/sent");
    let mut calls: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    calls.sort();
    let read = |call: &std::path::PathBuf| {
        let environment = fs::read_to_string(call.join("environment")).unwrap();
        let pairs = environment.split('\0').filter_map(|pair| pair.split_once('='));
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let stdin = fs::read_to_string(call.join("stdin")).unwrap();
        Sent { environment, config: serde_json::from_str(&stdin).unwrap_or(Value::Null) }
    };
    let all = calls.iter().map(read).collect();
    fs::remove_dir_all(folder).unwrap();
    all
}

/// The calls of a verb among these.
fn of<'a>(calls: &'a [Sent], verb: &str) -> Vec<&'a Sent> {
    calls.iter().filter(|call| call.verb() == verb).collect()
}

#[test]
fn ver_1_podman_asks_for_the_versions_with_dummies_in_the_environment() {
    let Some(host) = host(&[dual()]) else { return };
    host.podman("network ls").must_succeed();
    let calls = sent(&host);
    assert!(!calls.is_empty() && calls.iter().all(|call| call.verb() == "VERSION"), "{calls:?}");
    let asked =
        ["CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_CONTAINERID"].map(|name| calls[0].variable(name));
    assert_eq!(asked, ["dummy", "dummy", "dummy", ""]);
    assert_eq!(calls[0].config, json!({"cniVersion": "1.0.0"}));
    host.must_be_clean();
}

#[test]
fn env_6_podman_names_the_container_and_nothing_of_kubernetes_else() {
    let Some(host) = host(&[dual()]) else { return };
    host.podman("run --rm --name web --network dual localhost/box cat /dev/null").must_succeed();
    let calls = sent(&host);
    let ([add], [del]) = (&*of(&calls, "ADD"), &*of(&calls, "DEL")) else { panic!("{calls:#?}") };
    for call in [add, del] {
        let id = call.variable("CNI_CONTAINERID");
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!((call.variable("CNI_IFNAME"), call.variable("CNI_PATH")), ("eth0", "/opt/cni/bin"));
        assert!(call.variable("CNI_NETNS").starts_with("/run/netns/netns-"), "{call:?}");
        assert_eq!(call.args(), BTreeMap::from([("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web")]));
        // IO-8: what podman itself was given comes along, and this empty one.
        assert_eq!(call.environment.get("XDG_RUNTIME_DIR").map(String::as_str), Some(""));
        assert_eq!(call.config["name"], "dual");
        assert_eq!(call.config["capabilities"]["ips"], true);
        assert!(call.config.get("runtimeConfig").is_none(), "{call:?}");
    }
    assert!(add.config.get("prevResult").is_none(), "{add:?}");
    assert_eq!(del.config["prevResult"]["ips"][0]["address"], "10.88.1.2/24");
    host.must_be_clean();
}

#[test]
fn env_7_podman_sends_one_static_ip_and_the_mac_in_cni_args_and_two_as_a_capability() {
    let Some(host) = host(&[dual()]) else { return };
    let mac = "92:d0:c6:0a:29:33";
    host.podman(&format!("run --rm --network dual:ip=10.88.1.77,mac={mac} localhost/box cat /dev/null"))
        .must_succeed();
    let calls = sent(&host);
    for call in [of(&calls, "ADD"), of(&calls, "DEL")].concat() {
        let args = call.args();
        assert_eq!((args.get("IP"), args.get("MAC")), (Some(&"10.88.1.77"), Some(&mac)), "{call:?}");
        assert!(call.config.get("runtimeConfig").is_none(), "{call:?}");
    }
    let two = "dual:ip=10.88.1.77,ip=fd00:88:0:1::77";
    host.podman(&format!("run --rm --network {two} localhost/box cat /dev/null")).must_succeed();
    let calls = sent(&host);
    for call in [of(&calls, "ADD"), of(&calls, "DEL")].concat() {
        assert_eq!(call.args().get("IP"), None, "{call:?}");
        assert_eq!(call.config["runtimeConfig"], json!({"ips": ["10.88.1.77", "fd00:88:0:1::77"]}));
    }
    host.must_be_clean();
}

#[test]
fn cap_podman_sends_two_static_ips_although_the_conflist_declares_no_such_capability() {
    let mut network = dual();
    network["plugins"][0].as_object_mut().unwrap().remove("capabilities");
    let Some(host) = host(&[network]) else { return };
    let two = "dual:ip=10.88.1.77,ip=fd00:88:0:1::77";
    host.podman(&format!("run --rm --network {two} localhost/box cat /dev/null")).must_succeed();
    let add = &sent(&host);
    assert_eq!(of(add, "ADD")[0].config["capabilities"], json!({"ips": true}), "{add:?}");
    host.must_be_clean();
}

#[test]
fn cap_podman_sends_aliases_as_a_map_of_networks() {
    let mut network = dual();
    network["plugins"][0]["capabilities"]["aliases"] = json!(true);
    let Some(host) = host(&[network]) else { return };
    host.podman("run --rm --network dual:alias=shop,alias=www localhost/box cat /dev/null").must_succeed();
    let calls = sent(&host);
    let aliases = &of(&calls, "ADD")[0].config["runtimeConfig"]["aliases"]["dual"];
    let aliases: Vec<_> = aliases.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(aliases.contains(&"shop") && aliases.contains(&"www"), "{calls:?}");
    host.must_be_clean();
}

#[test]
fn io_10_podman_spells_published_ports_in_lower_camel_case() {
    let Some(host) = host(&[dual()]) else { return };
    // Whether it starts is another test's.
    let _ran = host.podman(
        "run --rm --network dual -p 8080:80/udp -p 127.0.0.1:8443:443 -p 9000-9002:9000-9002 localhost/box \
         cat /dev/null",
    );
    let calls = sent(&host);
    let port = |host: u16, container: u16, protocol: &str| json!({"hostPort": host, "containerPort": container, "protocol": protocol});
    let mut local = port(8443, 443, "tcp");
    local["hostIP"] = json!("127.0.0.1");
    let mut sent = of(&calls, "ADD")[0].config["runtimeConfig"]["portMappings"].as_array().unwrap().clone();
    sent.sort_by_key(|mapping| mapping["hostPort"].as_u64());
    let ranges = [9000, 9001, 9002].map(|number| port(number, number, "tcp"));
    assert_eq!(sent, [vec![port(8080, 80, "udp"), local], ranges.to_vec()].concat());
    host.must_be_clean();
}
