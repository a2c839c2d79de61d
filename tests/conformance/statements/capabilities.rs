//! CAP-1 to CAP-12: what a runtime fills in for one container. Ours does itself what `portmap` and `bandwidth` do
//! behind `bridge`, where they are asked in its place.

use selvedge_tests::Pod;
use serde_json::{Value, json};

use crate::config::{after, with};
use crate::hand::{look, name};
use crate::statements::reply::{Reply, ResultText};
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "CAP-1" Convention cap_1_a_mapping_without_a_host_port_asks_for_nothing
    "portMappings: an entry without hostPort, or with 0, asks for nothing."
    "CAP-2" Convention cap_2_a_mapping_that_cannot_be_is_refused
    "portMappings: a protocol that is none is refused, and so is a hostIP that is no address."
    "CAP-3" Convention cap_3_a_bandwidth_needs_rate_and_burst_of_each_direction
    "bandwidth: a rate without a burst, and a burst without a rate, is refused with code 7."
    "CAP-4" Convention cap_4_a_burst_that_no_kernel_can_hold_is_refused
    "bandwidth: a burst of 2^35 bits or more is refused."
    "CAP-5" Convention cap_5_a_bandwidth_of_nothing_asks_for_nothing
    "bandwidth: rates and bursts of 0 ask for nothing."
    "CAP-6" Convention cap_6_ips_are_given_with_and_without_prefix_or_the_add_is_refused
    "ips: each address is given, written with or without a prefix length, or the ADD is refused."
    "CAP-7" Convention cap_7_the_mac_that_is_asked_for_is_the_interfaces_and_must_be_one
    "mac: the interface gets it; what cannot be an interface's is refused."
    "CAP-8" Convention cap_8_ranges_of_the_runtime_come_before_the_configurations
    "ipRanges: the runtime's ranges come before the configuration's, and each gives an address."
    "CAP-9" Convention cap_9_a_device_that_cannot_be_had_is_refused_with_code_2
    "deviceID and infinibandGUID are refused with code 2 by a plugin that has no such thing."
    "CAP-10" Convention cap_10_aliases_are_taken_as_a_list_and_as_a_map
    "aliases are taken as a list and as podman's map."
    "CAP-11" Convention cap_11_the_cgroup_and_the_annotations_are_taken
    "cgroupPath and the pod's annotations are taken."
    "CAP-12" Convention cap_12_no_capability_is_required
    "No capability is required: the configuration may announce them, and the runtime fill in nothing."
}

/// ADD with what a runtime fills in. Where another plugin of the reference's does it, that one's answer.
fn add_with(on: &Subject, runtime: &Value, container: &str) -> Reply {
    add_to(on, runtime, container, &on.pod())
}

pub(super) fn add_to(on: &Subject, runtime: &Value, container: &str, pod: &Pod) -> Reply {
    let config = on.config_with(json!({"runtimeConfig": runtime}));
    let mut reply = on.ask("ADD", &config).of(container, pod).run();
    for plugin in chained(on, runtime) {
        let Ok(result) = reply.result() else { break };
        let config = after(&with(config.clone(), json!({"type": plugin})), &result);
        reply = on.ask("ADD", &config).by(&on.program(plugin)).of(container, pod).run();
    }
    reply
}

/// The plugins of the reference's that do what is asked for, behind `bridge`.
pub(super) fn chained(on: &Subject, runtime: &Value) -> Vec<&'static str> {
    let plugins = [("portMappings", "portmap"), ("bandwidth", "bandwidth")];
    let asked = |(capability, _): &(&str, _)| !on.is_ours() && runtime.get(capability).is_some();
    plugins.into_iter().filter(asked).map(|(_, plugin)| plugin).collect()
}

fn cap_1_a_mapping_without_a_host_port_asks_for_nothing(on: &Subject) -> Verdict {
    let zero = json!({"hostPort": 0, "containerPort": 80, "protocol": "tcp"});
    on.note(add_with(on, &json!({"portMappings": [zero]}), "zero").done(), "0");
    let none = json!({"containerPort": 81, "protocol": "tcp"});
    on.note(add_with(on, &json!({"portMappings": [none]}), "none").done(), "no hostPort");
    Ok(())
}

fn cap_2_a_mapping_that_cannot_be_is_refused(on: &Subject) -> Verdict {
    let mapping = |protocol: &str, ip: &str| {
        let mapping = json!({"hostPort": 8080, "containerPort": 80, "protocol": protocol, "hostIP": ip});
        json!({"portMappings": [mapping]})
    };
    on.note(add_with(on, &mapping("icmp", ""), "web-0").refused(), "icmp");
    on.note(add_with(on, &mapping("tcp", "everywhere"), "web-1").refused(), "a hostIP that is none");
    Ok(())
}

fn cap_3_a_bandwidth_needs_rate_and_burst_of_each_direction(on: &Subject) -> Verdict {
    for key in ["ingressRate", "ingressBurst", "egressRate", "egressBurst"] {
        let reply = add_with(on, &json!({"bandwidth": {key: 1_000_000}}), &format!("with-{key}"));
        on.note(reply.refused_with(&[7]), "");
    }
    Ok(())
}

fn cap_4_a_burst_that_no_kernel_can_hold_is_refused(on: &Subject) -> Verdict {
    let bandwidth = json!({"bandwidth": {"egressRate": 1_000_000, "egressBurst": 1_u64 << 35}});
    add_with(on, &bandwidth, "web-0").refused()?;
    Ok(())
}

fn cap_5_a_bandwidth_of_nothing_asks_for_nothing(on: &Subject) -> Verdict {
    let nothing = json!({"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0});
    add_with(on, &json!({"bandwidth": nothing}), "web-0").done()?;
    add_with(on, &json!({"bandwidth": {}}), "web-1").done()?;
    Ok(())
}

fn cap_6_ips_are_given_with_and_without_prefix_or_the_add_is_refused(on: &Subject) -> Verdict {
    let pods = [on.pod(), on.pod()];
    let asked = [("with a prefix", "10.244.1.77/24"), ("without a prefix", "10.244.1.78")];
    for ((what, asked), pod) in asked.into_iter().zip(&pods) {
        let given = asked.trim_end_matches("/24");
        let added = add_to(on, &json!({"ips": [asked]}), &format!("for-{given}"), pod);
        on.note(added.done(), what);
        let Ok(result) = added.result() else { continue };
        on.must(result.addresses() == [given], format!("{what}: another address"));
    }
    let before = on.state();
    let refused = [
        ("one that is taken", json!(["10.244.1.77/24"])),
        ("one of no range", json!(["192.0.2.1/24"])),
        ("two of one range", json!(["10.244.1.7/24", "10.244.1.8/24"])),
        ("none", json!(["everywhere"])),
    ];
    for (number, (what, ips)) in refused.into_iter().enumerate() {
        on.note(add_with(on, &json!({"ips": ips}), &format!("refused-{number}")).refused(), what);
        on.must_be_as(&before, "after a refusal");
    }
    Ok(())
}

fn cap_7_the_mac_that_is_asked_for_is_the_interfaces_and_must_be_one(on: &Subject) -> Verdict {
    let mac = "02:00:00:00:00:42";
    let pod = on.pod();
    let result = on.add(&on.config_with(json!({"runtimeConfig": {"mac": mac}})), "web-0", &pod)?;
    on.must(result.inside().text("/mac") == mac, "the result names another");
    let seen = look(pod.namespace()).links[&name("eth0")].mac.map(|mac| mac.to_string());
    on.must(seen.as_deref() == Some(mac), "the interface has another");
    for wrong in ["01:00:5e:00:00:01", "everywhere"] {
        let reply = add_with(on, &json!({"mac": wrong}), &format!("not-{}", wrong.replace(':', "-")));
        on.note(reply.refused(), wrong);
    }
    Ok(())
}

fn cap_8_ranges_of_the_runtime_come_before_the_configurations(on: &Subject) -> Verdict {
    let ranges = json!({"ipRanges": [[{"subnet": "fd00:99::/64", "rangeStart": "fd00:99::50"}]]});
    let result = add_with(on, &ranges, "web-0").result()?;
    on.must(result.addresses() == ["fd00:99::50", "10.244.1.2"], "other addresses");
    Ok(())
}

fn cap_9_a_device_that_cannot_be_had_is_refused_with_code_2(on: &Subject) -> Verdict {
    for (number, runtime) in
        [json!({"deviceID": "0000:00:1f.6"}), json!({"infinibandGUID": "c2:11:22:33:44:55:66:77"})]
            .iter()
            .enumerate()
    {
        add_with(on, runtime, &format!("web-{number}")).refused_with(&[2])?;
    }
    Ok(())
}

fn cap_10_aliases_are_taken_as_a_list_and_as_a_map(on: &Subject) -> Verdict {
    add_with(on, &json!({"aliases": ["web"]}), "list").done()?;
    add_with(on, &json!({"aliases": {"mynet": ["web"], "other": []}}), "map").done()?;
    Ok(())
}

fn cap_11_the_cgroup_and_the_annotations_are_taken(on: &Subject) -> Verdict {
    let annotations = json!({"example.org/a": "b"});
    let runtime = json!({"io.kubernetes.cri.pod-annotations": annotations, "cgroupPath": "/kubepods/x"});
    add_with(on, &runtime, "web-0").done()?;
    Ok(())
}

fn cap_12_no_capability_is_required(on: &Subject) -> Verdict {
    let all = json!({"portMappings": true, "bandwidth": true, "ips": true, "mac": true, "ipRanges": true,
        "dns": true, "aliases": true});
    on.add(&on.config_with(json!({"capabilities": all})), "web-0", &on.pod())?;
    Ok(())
}
