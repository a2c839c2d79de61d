//! ADD, beyond the statements ADD-1 to ADD-9: each way to attach pods, what the kernel shows, what stays.

use std::fs;
use std::net::UdpSocket;

use selvedge_datapath::step::LinkChange;
use selvedge_netns::Namespace;
use selvedge_tests::{Call, Echo, FakeIpam, Pod, Stage, Traces, knock};
use serde_json::json;

use crate::config::{
    MODES, add, address, after, del, host_end, must_be_back, routed, traces, tutorial, with,
};
use crate::hand::{add_address, change, look, name, new_link, set};

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

#[test]
fn add_1_a_bridged_pod_has_its_interface_its_addresses_and_its_routes() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let result = add(&stage, &with(tutorial(&stage), json!({"subnet": DUAL})), "web-0", &pod);
    let inside = look(pod.namespace());
    assert!(inside.links[&name("lo")].up, "lo is down");
    assert!(inside.links[&name("eth0")].up, "eth0 is down");
    let seen = Traces::in_pod(pod.namespace());
    for line in ["10.244.1.2/24", "fd00:10:244:1::2/64"] {
        assert_eq!(seen.with(&format!("address {line}")).len(), 1, "{seen:?}");
    }
    for line in ["0.0.0.0/0 via 10.244.1.1 dev eth0", "::/0 via fd00:10:244:1::1 dev eth0"] {
        assert_eq!(seen.with(&format!("route {line}")).len(), 1, "{seen:?}");
    }
    let outside = look(stage.node());
    let port = &outside.links[&name(&host_end(&result))];
    assert_eq!(port.master, Some(name("cni0")));
    assert!(port.up && outside.links[&name("cni0")].up);
    let bridge: Vec<_> = outside.links[&name("cni0")].addresses.iter().map(|a| a.net.to_string()).collect();
    assert!(
        bridge.contains(&"10.244.1.1/24".to_owned()) && bridge.contains(&"fd00:10:244:1::1/64".to_owned())
    );
}

#[test]
fn add_1_a_routed_pod_has_whole_addresses_and_a_route_to_each() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let result = add(&stage, &with(routed(&stage), json!({"subnet": DUAL})), "web-0", &pod);
    let seen = Traces::in_pod(pod.namespace());
    for line in [
        "address 10.244.1.2/32",
        "address fd00:10:244:1::2/128",
        "0.0.0.0/0 via 169.254.1.1",
        "::/0 via fe80::1",
    ] {
        assert_eq!(seen.with(line).len(), 1, "{line}: {seen:?}");
    }
    let host = host_end(&result);
    for line in [format!("route 10.244.1.2/32 dev {host}"), format!("route fd00:10:244:1::2/128 dev {host}")]
    {
        assert_eq!(traces(&stage).with(&line).len(), 1, "{line}: {:?}", traces(&stage));
    }
    assert!(traces(&stage).with("cni0").is_empty(), "a routed network has no bridge");
}

#[test]
fn add_1_an_ipv6_address_is_good_at_once() {
    for (container, configured) in [("bridged", MODES[0]), ("routed", MODES[1])] {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let config = with(config, json!({"name": container, "subnet": DUAL}));
        let pod = stage.pod();
        let result = add(&stage, &config, container, &pod);
        let net = result["ips"][1]["address"].as_str().unwrap();
        let own = format!("[{}]:0", net.split('/').next().unwrap());
        // The kernel refuses an address that is still being looked for elsewhere.
        pod.namespace().run(|| UdpSocket::bind(&own)).unwrap().unwrap();
    }
}

#[test]
fn add_3_the_result_names_the_interfaces_and_ties_each_address_to_the_containers() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let sandbox = pod.path().display().to_string();
    let config = with(tutorial(&stage), json!({"subnet": DUAL, "dns": {"nameservers": ["10.96.0.10"]}}));
    let result = add(&stage, &config, "web-0", &pod);
    let interfaces = result["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 3);
    assert_eq!(interfaces[0]["name"], "cni0");
    assert!(interfaces[1]["name"].as_str().unwrap().starts_with("slv"));
    assert!(interfaces[..2].iter().all(|interface| interface.get("sandbox").is_none()));
    assert_eq!((&interfaces[2]["name"], &interfaces[2]["sandbox"]), (&json!("eth0"), &json!(sandbox)));
    let v4 = json!({"interface": 2, "address": "10.244.1.2/24", "gateway": "10.244.1.1"});
    let v6 = json!({"interface": 2, "address": "fd00:10:244:1::2/64", "gateway": "fd00:10:244:1::1"});
    assert_eq!(result["ips"], json!([v4, v6]));
    let default =
        json!([{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}, {"dst": "::/0", "gw": "fd00:10:244:1::1"}]);
    assert_eq!(result["routes"], default);
    assert_eq!(result["dns"], json!({"nameservers": ["10.96.0.10"]}));
}

#[test]
fn add_4_every_interface_with_a_sandbox_has_the_mac_that_the_kernel_shows() {
    for (container, configured) in [("bridged", MODES[0]), ("routed", MODES[1])] {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let pod = stage.pod();
        let result = add(&stage, &with(config, json!({"name": container})), container, &pod);
        let mac = look(pod.namespace()).links[&name("eth0")].mac.unwrap().to_string();
        let interfaces = result["interfaces"].as_array().unwrap();
        let inside: Vec<_> =
            interfaces.iter().filter(|interface| interface.get("sandbox").is_some()).collect();
        assert_eq!(inside.len(), 1);
        assert_eq!(inside[0]["mac"], mac);
    }
}

#[test]
fn add_6_after_a_plugin_that_made_the_interface_the_chain_is_refused() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let made = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}], "ips": []});
    let config = with(tutorial(&stage), json!({"prevResult": made}));
    let answer = Call::new("ADD", config).of("web-0", &stage.pod()).run(stage.node());
    let (code, message) = answer.refusal();
    assert!(code == 7 && message.contains("prevResult") && message.contains("eth0"), "{message}");
    assert_eq!(traces(&stage), before);
}

#[test]
fn add_7_an_add_that_fails_inside_the_pod_leaves_nothing() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let before = traces(&stage);
        let pod = without_ipv6(&stage);
        let inside = Traces::in_pod(pod.namespace());
        let config = with(configured(&stage), json!({"subnet": DUAL}));
        let answer = Call::new("ADD", config).of("web-0", &pod).run(stage.node());
        assert!(answer.refusal().0 >= 100);
        must_be_back(&before, &stage);
        assert_eq!(Traces::in_pod(pod.namespace()).with("eth0"), inside.with("eth0"));
    }
}

#[test]
fn add_7_an_add_that_fails_on_the_node_leaves_nothing() {
    let Some(stage) = Stage::new() else { return };
    change(stage.node(), &[new_link("cni0")]);
    let before = traces(&stage);
    let pod = stage.pod();
    let answer = Call::new("ADD", tutorial(&stage)).of("web-0", &pod).run(stage.node());
    let (code, message) = answer.refusal();
    assert!(code == 7 && message.contains("cni0"), "{message}");
    must_be_back(&before, &stage);
}

#[test]
fn add_7_a_failed_add_leaves_the_other_pods_of_the_network_alone() {
    let Some(stage) = Stage::new() else { return };
    let (pod, broken) = (stage.pod(), without_ipv6(&stage));
    // Who asks for routers becomes known to the bridge, when it pleases.
    set_ipv6(pod.namespace(), "router_solicitations", "0");
    let config = with(tutorial(&stage), json!({"subnet": DUAL}));
    add(&stage, &config, "web-0", &pod);
    let before = traces(&stage);
    assert_ne!(Call::new("ADD", config).of("web-1", &broken).run(stage.node()).code, 0);
    must_be_back(&before, &stage);
}

#[test]
fn add_8_a_second_add_of_the_same_attachment_is_refused_and_changes_nothing() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let (pod, another) = (stage.pod(), stage.pod());
        add(&stage, &config, "web-0", &pod);
        let (node, inside) = (traces(&stage), Traces::in_pod(pod.namespace()));
        for netns in [&pod, &another] {
            let answer = Call::new("ADD", config.clone()).of("web-0", netns).run(stage.node());
            assert!(answer.refusal().0 >= 100, "{:?}", answer.stdout);
            must_be_back(&node, &stage);
            assert_eq!(Traces::in_pod(pod.namespace()), inside);
        }
    }
}

#[test]
fn add_8_the_same_container_may_have_a_second_interface() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let config = tutorial(&stage);
    let second = |verb| Call::new(verb, config.clone()).of("web-0", &pod).with("CNI_IFNAME", "net1");
    let before = traces(&stage);
    let first = add(&stage, &config, "web-0", &pod);
    let answer =
        Call::new("ADD", with(config.clone(), json!({"ipam": {"routes": [{"dst": "192.0.2.0/24"}]}})));
    let answer = answer.of("web-0", &pod).with("CNI_IFNAME", "net1").run(stage.node());
    assert_ne!(address(&first), address(answer.result()));
    second("DEL").run(stage.node()).done();
    assert!(look(pod.namespace()).links.contains_key(&name("eth0")), "the first interface is gone");
    del(&stage, &config, "web-0", &pod).done();
    must_be_back(&before, &stage);
}

/// A pod that refuses IPv6 addresses, which shows once the pair is made.
fn without_ipv6(stage: &Stage) -> Pod {
    let pod = stage.pod();
    refuse_ipv6(pod.namespace());
    pod
}

fn refuse_ipv6(namespace: &Namespace) {
    set_ipv6(namespace, "disable_ipv6", "1");
}

/// Sets what interfaces to come have.
fn set_ipv6(namespace: &Namespace, key: &str, value: &str) {
    let write = || fs::write(format!("/proc/sys/net/ipv6/conf/default/{key}"), value);
    namespace.run(write).unwrap().unwrap();
}

/// Regression: a route by the gateway of a bridged network led to nobody, and ADD and CHECK were content.
#[test]
fn a_routed_pod_reaches_the_node_though_its_routes_name_the_gateway_of_a_bridged_network() {
    let answer = r#"{"ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}], "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}]}"#;
    let ours =
        json!({"ranges": [[{"subnet": "10.9.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}]});
    for ipam in [ours, json!({"type": FakeIpam::TYPE})] {
        let Some(stage) = Stage::new() else { return };
        change(
            stage.node(),
            &[new_link("up0"), add_address("up0", "192.168.50.1/24"), set("up0", LinkChange::Up)],
        );
        let (before, _echo) = (traces(&stage), Echo::serve(stage.node()));
        let fake = FakeIpam::new(&stage, &format!("[ $CNI_COMMAND != ADD ] || echo '{answer}'"));
        let (pod, config) = (stage.pod(), with(routed(&stage), json!({"subnet": null, "ipam": ipam})));
        let call = |verb, config| Call::new(verb, config).with("CNI_PATH", &fake.path()).of("web-0", &pod);
        let result = call("ADD", config.clone()).run(stage.node()).result().clone();
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]));
        knock(pod.namespace(), [192, 168, 50, 1].into()).unwrap();
        call("CHECK", after(&config, &result)).run(stage.node()).done();
        call("DEL", config).run(stage.node()).done();
        must_be_back(&before, &stage);
    }
}

/// Regression: the kernel's "No such device" was all that was said.
#[test]
fn add_without_the_bridge_that_an_agent_makes_says_so_and_leaves_nothing() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let config = with(tutorial(&stage), json!({"agent": "/nowhere/agent.sock", "whenAgentDown": "open"}));
    let answer = Call::new("ADD", config).of("web-0", &stage.pod()).run(stage.node());
    let (code, message) = answer.refusal();
    assert_eq!(code, 11, "{message}");
    assert!(message.contains("cni0 is missing") && message.contains("/nowhere/agent.sock"), "{message}");
    must_be_back(&before, &stage);
}
