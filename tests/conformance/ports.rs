//! The capability portMappings without packets: whose a port is, and what is left of it.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use selvedge_netns::Namespace;
use selvedge_tests::{Call, Pod, Stage, program};
use serde_json::{Value, json};

use crate::config::{MODES, add, after, check, del, host_end, must_be_back, traces, tutorial, with};
use crate::hand::{change, delete_link, must_run};

fn publishing(config: Value, mappings: &Value) -> Value {
    with(config, json!({"runtimeConfig": {"portMappings": mappings}}))
}

/// One TCP port, at one of the node's addresses or all.
fn web(port: u16, host_ip: &str) -> Value {
    json!([{"HostPort": port, "ContainerPort": 80, "Protocol": "tcp", "HostIP": host_ip}])
}

/// The elements of the maps, as nft lists them.
fn published(node: &Namespace) -> Option<Vec<String>> {
    let text = must_run(node, "nft", &["list", "ruleset"])?;
    let element = |line: &str| line.contains(" comment \"slv").then(|| line.trim().to_owned());
    Some(text.lines().filter_map(element).collect())
}

fn nft(stage: &Stage, words: &str) -> Option<String> {
    must_run(stage.node(), "nft", &words.split(' ').collect::<Vec<_>>())
}

#[test]
fn cap_containerds_spelling_of_a_port_is_understood_and_the_element_says_whose_it_is() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let pod = stage.pod();
        let config = publishing(configured(&stage), &web(8080, ""));
        let result = add(&stage, &config, "web-0", &pod);
        let Some(found) = published(stage.node()) else { return };
        let host = host_end(&result);
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = format!("tcp . 8080 comment \"{host} web-0/eth0 mynet\" : 10.244.1.2 . 80");
        assert!(found[0].contains(&expected), "{found:?}");
        check(&stage, &after(&config, &result), "web-0", &pod).done();
    }
}

#[test]
fn a_port_that_another_pod_has_is_refused_by_its_name_and_nothing_is_changed() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let [first, other, second] = [stage.pod(), stage.pod(), stage.pod()];
        add(&stage, &publishing(config.clone(), &web(8080, "")), "web-0", &first);
        add(&stage, &publishing(config.clone(), &web(8081, "192.0.2.7")), "web-1", &other);
        let before = traces(&stage);
        for (mappings, named) in [
            (web(8080, ""), "tcp port 8080 at 0.0.0.0 is published already, for mynet web-0/eth0"),
            (web(8080, "192.0.2.7"), "tcp port 8080 at 0.0.0.0 is published already, for mynet web-0/eth0"),
            (web(8081, ""), "tcp port 8081 at 192.0.2.7 is published already, for mynet web-1/eth0"),
        ] {
            let asking = publishing(config.clone(), &mappings);
            let answer = Call::new("ADD", asking).of("web-2", &second).run(stage.node());
            assert_eq!(answer.refusal(), (105, named));
            must_be_back(&before, &stage);
        }
        let others = json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
            {"hostPort": 8081, "containerPort": 80, "hostIP": "192.0.2.8"},
        ]);
        add(&stage, &publishing(config, &others), "web-2", &second);
    }
}

#[test]
fn a_port_is_anothers_once_its_pod_is_gone_whether_or_not_it_was_detached() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = publishing(configured(&stage), &web(8080, ""));
        let (first, second) = (stage.pod(), stage.pod());
        let result = add(&stage, &config, "web-0", &first);
        change(stage.node(), &[delete_link(&host_end(&result))]);
        let result = add(&stage, &config, "web-1", &second);
        let Some(found) = published(stage.node()) else { return };
        assert!(found.len() == 1 && found[0].contains(&host_end(&result)), "{found:?}");
        // The late DEL of the first takes nothing from the second.
        del(&stage, &config, "web-0", &first).done();
        assert_eq!(published(stage.node()).unwrap(), found);
        check(&stage, &after(&config, &result), "web-1", &second).done();
    }
}

#[test]
fn a_container_on_two_networks_has_its_ports_by_the_first_and_the_seconds_wait() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let before = traces(&stage);
    let first = publishing(tutorial(&stage), &web(8080, ""));
    let more = json!({"name": "other", "subnet": "10.245.0.0/24", "bridge": "cni1"});
    let second = with(first.clone(), more);
    let call = |verb, config: &Value, ifname| {
        Call::new(verb, config.clone()).of("web-0", &pod).with("CNI_IFNAME", ifname).run(stage.node())
    };
    let result = add(&stage, &first, "web-0", &pod);
    let Some(found) = published(stage.node()) else { return };
    assert!(found.len() == 1 && found[0].contains(&host_end(&result)), "{found:?}");
    let further = call("ADD", &second, "eth1");
    let led = nft(&stage, "list map inet selvedge-cni published4").unwrap();
    assert!(led.contains(&found[0]) && led.matches("comment").count() == 1, "{led}");
    for (config, result, ifname) in [(&first, &result, "eth0"), (&second, further.result(), "eth1")] {
        call("CHECK", &after(config, result), ifname).done();
    }
    call("DEL", &second, "eth1").done();
    assert_eq!(published(stage.node()).unwrap(), found);
    call("DEL", &first, "eth0").done();
    must_be_back(&before, &stage);
}

/// What somebody did to an attachment, given its host end.
type Breakage = fn(&Stage, &str);

#[test]
fn del_4_the_ports_go_without_a_previous_result_a_runtime_config_a_lease_or_a_host_end() {
    let broken: [Breakage; 5] = [
        |_, _| {},
        |stage, host| change(stage.node(), &[delete_link(host)]),
        |stage, _| fs::remove_dir_all(stage.folder().join("ipam")).unwrap(),
        |stage, host| {
            fs::remove_dir_all(stage.folder().join("ipam")).unwrap();
            change(stage.node(), &[delete_link(host)]);
        },
        |stage, _| drop(nft(stage, "flush map inet selvedge-cni published4")),
    ];
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let plain = configured(&stage);
        let before = traces(&stage);
        for (number, break_it) in broken.iter().enumerate() {
            let pod = stage.pod();
            let result = add(&stage, &publishing(plain.clone(), &web(8080, "")), "web-0", &pod);
            break_it(&stage, &host_end(&result));
            let call = Call::new("DEL", plain.clone()).of("web-0", &pod).with("CNI_NETNS", "");
            call.run(stage.node()).done();
            let Some(left) = published(stage.node()) else { return };
            assert!(left.is_empty(), "breakage {number}: {left:?}");
            // Of a store that was lost with the host end nobody knows that the network has no pod any more.
            if number != 3 {
                must_be_back(&before, &stage);
            }
        }
    }
}

#[test]
fn gc_1_the_ports_of_what_is_not_valid_go_even_if_nothing_else_is_left_of_it() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let [kept, gone, lost] = [stage.pod(), stage.pod(), stage.pod()];
        let lost_end = host_end(&add(&stage, &publishing(config.clone(), &web(8082, "")), "lost", &lost));
        fs::remove_dir_all(stage.folder().join("ipam")).unwrap();
        change(stage.node(), &[delete_link(&lost_end)]);
        let result = add(&stage, &publishing(config.clone(), &web(8080, "")), "kept", &kept);
        add(&stage, &publishing(config.clone(), &web(8081, "")), "gone", &gone);
        let valid = json!({"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]});
        Call::new("GC", with(config, valid)).run(stage.node()).done();
        let Some(left) = published(stage.node()) else { return };
        assert!(left.len() == 1 && left[0].contains(&host_end(&result)), "{left:?}");
    }
}

#[test]
fn a_full_pool_gives_out_no_address_to_which_a_port_still_leads() {
    let Some(stage) = Stage::new() else { return };
    // One address for pods.
    let config = with(tutorial(&stage), json!({"subnet": "10.244.1.0/30"}));
    let result = add(&stage, &publishing(config.clone(), &web(8080, "")), "web-0", &stage.pod());
    change(stage.node(), &[delete_link(&host_end(&result))]);
    let next = add(&stage, &config, "web-1", &stage.pod());
    assert_eq!(next["ips"][0]["address"], result["ips"][0]["address"]);
    assert_eq!(published(stage.node()), Some(vec![]));
}

#[test]
fn chk_2_what_somebody_did_to_a_port_is_noticed() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (pod, other) = (stage.pod(), stage.pod());
        let config = publishing(configured(&stage), &web(8080, ""));
        add(&stage, &publishing(configured(&stage), &web(8081, "192.0.2.7")), "other", &other);
        for line in [
            "delete element inet selvedge-cni published4 { tcp . 8080 }",
            "flush set inet selvedge-cni hairpin4",
            "flush chain inet selvedge-cni published",
            "flush chain inet selvedge-cni published-raw",
            "flush set inet selvedge-cni to-loopback",
            "delete table inet selvedge-cni",
        ] {
            let result = add(&stage, &config, "web-0", &pod);
            let asked = after(&config, &result);
            check(&stage, &asked, "web-0", &pod).done();
            if nft(&stage, line).is_none() {
                return;
            }
            let answer = check(&stage, &asked, "web-0", &pod);
            assert_eq!(answer.refusal().0, 104, "{line}");
            del(&stage, &config, "web-0", &pod).done();
        }
        let result = add(&stage, &config, "web-0", &pod);
        let link = if configured(&stage).get("attach").is_some() { host_end(&result) } else { "cni0".into() };
        let path = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
        stage.node().run(|| fs::write(path, "0")).unwrap().unwrap();
        assert_eq!(check(&stage, &after(&config, &result), "web-0", &pod).refusal().0, 104);
    }
}

#[test]
fn chk_2_what_happened_to_anothers_port_is_none_of_ours() {
    let Some(stage) = Stage::new() else { return };
    let (pod, other) = (stage.pod(), stage.pod());
    let config = publishing(tutorial(&stage), &web(8080, ""));
    add(&stage, &publishing(tutorial(&stage), &web(8081, "")), "other", &other);
    let result = add(&stage, &config, "web-0", &pod);
    if nft(&stage, "delete element inet selvedge-cni published4 { tcp . 8081 }").is_some() {
        check(&stage, &after(&config, &result), "web-0", &pod).done();
    }
}

#[test]
fn add_7_a_call_that_fails_takes_the_ports_back() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let pod = stage.pod();
        let config = publishing(configured(&stage), &web(8080, "")).to_string();
        let before = traces(&stage);
        let file = stage.folder().join("config");
        fs::write(&file, config).unwrap();
        // Nothing can be written there: the ADD fails when all has been made.
        let add = || call_answering_nobody(&pod, &file);
        assert_eq!(stage.node().run(add).unwrap(), Some(1));
        must_be_back(&before, &stage);
    }
}

fn call_answering_nobody(pod: &Pod, config: &std::path::Path) -> Option<i32> {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut add = Command::new(program("selvedge"));
    add.env_clear().env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "web-0").env("CNI_IFNAME", "eth0");
    add.env("CNI_NETNS", pod.path()).stdin(fs::File::open(config).unwrap()).stdout(full);
    add.stderr(Stdio::null()).status().unwrap().code()
}

#[test]
fn a_port_of_a_family_that_the_pod_has_not_is_passed_over_and_the_log_says_so() {
    let Some(stage) = Stage::new() else { return };
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80, "hostIP": "fd00::7"},
        {"hostPort": 8081, "containerPort": 80, "protocol": "udp", "hostIP": "::"},
    ]);
    let config = publishing(tutorial(&stage), &mappings);
    let pod = stage.pod();
    let answer = Call::new("ADD", config.clone()).of("web-0", &pod).run(stage.node());
    answer.result();
    assert!(answer.stderr.contains("ports_without_address=8080/tcp,8081/udp"), "{}", answer.stderr);
    assert_eq!(published(stage.node()).unwrap_or_default(), Vec::<String>::new());
}

#[test]
fn networks_come_and_go_beside_the_ports_of_another() {
    let Some(stage) = Stage::new() else { return };
    let other = json!({"name": "other", "subnet": "10.245.0.0/24", "bridge": "cni1"});
    let other = with(tutorial(&stage), other);
    let (pod, guest) = (stage.pod(), stage.pod());
    let before = traces(&stage);
    let config = publishing(tutorial(&stage), &web(8080, ""));
    let result = add(&stage, &config, "web-0", &pod);
    let with_web = traces(&stage);
    add(&stage, &other, "guest", &guest);
    del(&stage, &other, "guest", &guest).done();
    must_be_back(&with_web, &stage);
    check(&stage, &after(&config, &result), "web-0", &pod).done();
    add(&stage, &other, "guest", &guest);
    let both = traces(&stage);
    del(&stage, &config, "web-0", &pod).done();
    assert_eq!(published(stage.node()).unwrap_or_default(), Vec::<String>::new());
    assert!(!both.with("published4").is_empty());
    del(&stage, &other, "guest", &guest).done();
    must_be_back(&before, &stage);
}

#[test]
fn every_address_of_the_result_is_looked_at_and_the_first_of_each_family_gets_the_port() {
    let Some(stage) = Stage::new() else { return };
    let ranges =
        json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00:7::/64"}]]);
    let config = with(tutorial(&stage), json!({"subnet": null, "ipam": {"ranges": ranges}}));
    let result = add(&stage, &publishing(config, &web(8080, "")), "web-0", &stage.pod());
    let address = |i: usize| -> IpAddr {
        result["ips"][i]["address"].as_str().unwrap().parse::<ipnet::IpNet>().unwrap().addr()
    };
    let Some(found) = published(stage.node()) else { return };
    assert_eq!(found.len(), 2, "{found:?}");
    for ip in [address(0), address(2)] {
        assert!(found.iter().any(|line| line.contains(&format!(": {ip} . 80"))), "{ip}: {found:?}");
    }
}
