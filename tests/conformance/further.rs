//! A container's further attachments, by another interface each: they take nothing from the first.

use selvedge_tests::{Call, Pod, Stage};
use serde_json::{Value, json};

use crate::config::{MODES, add, after, must_be_back, traces, with};
use crate::hand::{look, must_run, run};

/// A second network beside the one of `MODES`.
fn other(stage: &Stage, attach: fn(&Stage) -> Value) -> Value {
    let pools =
        json!({"name": "othernet", "bridge": "other0", "network": "10.99.0.0/16", "subnet": "10.99.1.0/24"});
    with(attach(stage), pools)
}

fn call(verb: &str, config: &Value, ifname: &str, pod: &Pod) -> Call {
    Call::new(verb, config.clone()).of("web-0", pod).with("CNI_IFNAME", ifname)
}

/// The rules of a pod and its routes in every table, as ip lists them.
fn routing(pod: &Pod) -> Option<String> {
    let [rules, routes] = [&["-4", "rule"][..], &["-4", "route", "show", "table", "all"]];
    Some(must_run(pod.namespace(), "ip", rules)? + &must_run(pod.namespace(), "ip", routes)?)
}

/// Each pair of ways to attach, as the first network's configuration and the second's.
fn pairs(stage: &Stage) -> impl Iterator<Item = [Value; 2]> {
    MODES.iter().flat_map(move |first| MODES.map(|second| [first(stage), other(stage, second)]))
}

#[test]
fn a_second_network_took_the_default_route_and_del_left_the_container_without_one() {
    let Some(stage) = Stage::new() else { return };
    for [first, second] in pairs(&stage) {
        let (before, pod) = (traces(&stage), stage.pod());
        let first = after(&first, &add(&stage, &first, "web-0", &pod));
        let Some(alone) = routing(&pod) else { return };
        let main =
            || look(pod.namespace()).routes.into_iter().filter(|route| route.destination.addr().is_ipv4());
        let firsts: Vec<_> = main().collect();
        for _ in 0..2 {
            let answer = call("ADD", &second, "eth1", &pod).run(stage.node());
            let second = after(&second, answer.result());
            assert_eq!(main().collect::<Vec<_>>(), firsts, "the main table is the first network's");
            call("CHECK", &first, "eth0", &pod).run(stage.node()).done();
            call("CHECK", &second, "eth1", &pod).run(stage.node()).done();
            call("DEL", &second, "eth1", &pod).run(stage.node()).done();
            assert_eq!(routing(&pod).as_deref(), Some(&*alone));
            call("CHECK", &first, "eth0", &pod).run(stage.node()).done();
        }
        call("DEL", &first, "eth0", &pod).run(stage.node()).done();
        must_be_back(&before, &stage);
    }
}

#[test]
fn chk_2_a_rule_or_a_route_of_a_further_attachment_that_is_gone_is_noticed() {
    let Some(stage) = Stage::new() else { return };
    for [first, second] in pairs(&stage) {
        let pod = stage.pod();
        add(&stage, &first, "web-0", &pod);
        for broken in ["from", "to", "route"] {
            let answer = call("ADD", &second, "eth1", &pod).run(stage.node());
            let second = after(&second, answer.result());
            call("CHECK", &second, "eth1", &pod).run(stage.node()).done();
            let Some(rules) = must_run(pod.namespace(), "ip", &["-4", "rule"]) else { return };
            let from = rules.lines().find(|line| line.contains("from 10.99.1.")).unwrap();
            let table = from.split_whitespace().skip_while(|word| *word != "lookup").nth(1).unwrap();
            let delete = match broken {
                "from" => vec!["rule", "del", "priority", "83"],
                "to" => vec!["rule", "del", "priority", "84"],
                _ => vec!["route", "del", "default", "table", table],
            };
            must_run(pod.namespace(), "ip", &delete);
            let refusal = call("CHECK", &second, "eth1", &pod).run(stage.node());
            assert_eq!(refusal.refusal().0, 104, "{broken}");
            call("DEL", &second, "eth1", &pod).run(stage.node()).done();
        }
        call("DEL", &first, "eth0", &pod).run(stage.node()).done();
    }
}

#[test]
fn a_containers_second_network_was_refused_the_ports_that_its_first_has() {
    let Some(stage) = Stage::new() else { return };
    let ports = json!({"runtimeConfig": {"portMappings":
        [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}});
    for [first, second] in pairs(&stage) {
        let (first, second) = (with(first, ports.clone()), with(second, ports.clone()));
        let (before, pod, other) = (traces(&stage), stage.pod(), stage.pod());
        let first = after(&first, &add(&stage, &first, "web-0", &pod));
        let answer = call("ADD", &second, "eth1", &pod).run(stage.node());
        let second = after(&second, answer.result());
        call("CHECK", &first, "eth0", &pod).run(stage.node()).done();
        call("CHECK", &second, "eth1", &pod).run(stage.node()).done();
        let refused = Call::new("ADD", second.clone()).of("web-1", &other).run(stage.node());
        assert_eq!(refused.refusal().0, 105, "another container's is taken as ever");
        call("DEL", &first, "eth0", &pod).run(stage.node()).done();
        let map = ["list", "map", "inet", "selvedge-cni", "published4"];
        let Some(listed) = must_run(stage.node(), "nft", &map) else { return };
        assert!(listed.contains("8080") && listed.contains("10.99.1."), "{listed}");
        call("CHECK", &second, "eth1", &pod).run(stage.node()).done();
        call("DEL", &second, "eth1", &pod).run(stage.node()).done();
        must_be_back(&before, &stage);
    }
}

/// Where a pod sends what nobody has bound to an address, and from which: the words behind `src`, `dev` and `via`;
/// none where there is no way.
fn way(pod: &Pod, to: &str) -> Option<Vec<String>> {
    let shown = String::from_utf8(run(pod.namespace(), "ip", &["route", "get", to])?.stdout).unwrap();
    let words: Vec<&str> = shown.split_whitespace().collect();
    let after = |word: &str| words.iter().position(|w| *w == word).map(|at| words[at + 1].to_owned());
    Some(["src", "dev", "via"].iter().filter_map(|word| after(word)).collect())
}

#[test]
fn a_further_attachment_of_the_same_network_changed_what_address_the_pod_sends_from() {
    let Some(stage) = Stage::new() else { return };
    for configured in MODES {
        let config = with(configured(&stage), json!({"subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"]}));
        let (before, pod) = (traces(&stage), stage.pod());
        let first = after(&config, &add(&stage, &config, "web-0", &pod));
        let elsewhere = ["10.244.1.200", "10.244.7.7", "fd00:10:244:1::200", "192.0.2.1"];
        let Some(_) = way(&pod, elsewhere[0]) else { return };
        let ways = || elsewhere.map(|to| way(&pod, to));
        let firsts = ways();
        let second = after(&config, call("ADD", &config, "eth1", &pod).run(stage.node()).result());
        assert_eq!(ways(), firsts, "the first attachment keeps its network");
        call("CHECK", &first, "eth0", &pod).run(stage.node()).done();
        call("CHECK", &second, "eth1", &pod).run(stage.node()).done();
        // What ADD found there need not last.
        call("DEL", &first, "eth0", &pod).run(stage.node()).done();
        call("CHECK", &second, "eth1", &pod).run(stage.node()).done();
        assert!(way(&pod, elsewhere[0]).unwrap().contains(&"eth1".to_owned()));
        let first = after(&config, &add(&stage, &config, "web-0", &pod));
        call("CHECK", &second, "eth1", &pod).run(stage.node()).done();
        call("DEL", &second, "eth1", &pod).run(stage.node()).done();
        call("DEL", &first, "eth0", &pod).run(stage.node()).done();
        must_be_back(&before, &stage);
    }
}

#[test]
fn a_second_attachment_took_the_firsts_routes_where_there_is_no_default_route() {
    let Some(stage) = Stage::new() else { return };
    let only = |net: &str, to: &str| {
        let pools = json!({"ranges": [[{"subnet": net}]], "routes": [{"dst": to}]});
        json!({"subnet": null, "network": null, "ipam": pools})
    };
    for configured in MODES {
        let first = with(configured(&stage), only("10.6.0.0/24", "10.9.0.0/16"));
        let other = json!({"name": "othernet", "bridge": "other0"});
        let same = first.clone();
        let same_destination = with(with(first.clone(), only("10.7.0.0/24", "10.9.0.0/16")), other.clone());
        let another = with(with(first.clone(), only("10.7.0.0/24", "10.8.0.0/16")), other);
        for (second, apart) in [(same, false), (same_destination, false), (another, true)] {
            let (before, pod) = (traces(&stage), stage.pod());
            let first = after(&first, &add(&stage, &first, "web-0", &pod));
            let Some(alone) = routing(&pod) else { return };
            let gateway = if first["attach"] == "routed" { "169.254.1.1" } else { "10.6.0.1" };
            let firsts = || ["10.9.0.1", gateway].map(|to| way(&pod, to));
            let ways = firsts();
            let second = after(&second, call("ADD", &second, "eth1", &pod).run(stage.node()).result());
            assert_eq!(firsts(), ways);
            assert_eq!(apart, way(&pod, "10.8.0.1").unwrap().contains(&"eth1".to_owned()));
            call("CHECK", &first, "eth0", &pod).run(stage.node()).done();
            call("CHECK", &second, "eth1", &pod).run(stage.node()).done();
            call("DEL", &second, "eth1", &pod).run(stage.node()).done();
            assert_eq!(routing(&pod).as_deref(), Some(&*alone));
            call("CHECK", &first, "eth0", &pod).run(stage.node()).done();
            call("DEL", &first, "eth0", &pod).run(stage.node()).done();
            must_be_back(&before, &stage);
        }
    }
}
