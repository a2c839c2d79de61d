//! The tutorials' configuration, alone, with packets: who reaches whom, and as whom they are seen.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use selvedge_datapath::step::NetStep;
use selvedge_lab::patience::patience;
use selvedge_lab::plan::Place;
use selvedge_lab::probe::Timing;
use selvedge_lab::shape::FamilyChoice;
use selvedge_netns::Namespace;
use selvedge_tests::{Stage, skipped};
use serde_json::{Value, json};

use crate::hand::{change, must_run, route, run};
use crate::machine::Machine;
use crate::site::Site;

/// As the tutorials have it, but for the type.
fn tutorial() -> Value {
    json!({
        "cniVersion": "0.3.1",
        "name": "mynet",
        "type": "selvedge",
        "network": "10.244.0.0/16",
        "subnet": "10.244.1.0/24",
    })
}

fn dual() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "mynet",
        "type": "selvedge",
        "network": ["10.244.0.0/16", "fd00:10:244::/48"],
        "ipam": {"ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]]},
    })
}

fn routed(mut config: Value) -> Value {
    config["attach"] = json!("routed");
    config
}

#[test]
fn the_tutorials_configuration_works_as_it_stands() {
    let Some(stage) = Stage::new() else { return };
    let Some(machine) = Machine::new(&stage) else { return };
    let pod = stage.pod();
    let text = r#"{"cniVersion":"0.3.1","name":"mynet","type":"selvedge","network":"10.244.0.0/16","subnet":"10.244.1.0/24"}"#;
    let call = |verb| machine.call(verb).saying(text).of("example", &pod).run(stage.node());
    let answer = call("ADD");
    let ip = &answer.result()["ips"][0];
    assert_eq!((&ip["address"], &ip["gateway"]), (&json!("10.244.1.2/24"), &json!("10.244.1.1")));
    assert_eq!(answer.result()["interfaces"][0]["name"], "cni0");
    assert!(machine.run().join("selvedge/ipam/mynet/journal").is_file());
    call("DEL").done();
}

/// Every path of the tutorials from and to two pods of one node.
fn every_path_works(family: FamilyChoice, config: &Value) {
    let Some(mut site) = Site::new(1, family) else { return };
    let node = site.node(0);
    assert_eq!(forwarding(site.space(&node)), "0", "the node came with forwarding on");
    let before = site.traces(0);
    let (web, client) = (site.attach(0, "web", config), site.attach(0, "client", config));
    assert_eq!(forwarding(site.space(&node)), "1");
    let outside = Place::Outside;
    let node_as_seen = match config.get("attach") {
        Some(_) => node.clone(),
        None => site.also_at("bridge", &["10.244.1.1", "fd00:10:244:1::1"]),
    };
    site.must_reach(&[
        [&web, &node, &web],
        [&node, &web, &node_as_seen],
        [&web, &client, &web],
        [&client, &web, &client],
        [&web, &web, &web],
        [&web, &outside, &node],
        [&client, &outside, &node],
    ]);
    site.detach(&web);
    site.must_reach(&[[&client, &outside, &node], [&client, &node, &client]]);
    site.detach(&client);
    site.must_be_back(&before, 0);
}

#[test]
fn bridged_pods_reach_each_other_their_node_and_the_outside_over_ipv4() {
    every_path_works(FamilyChoice::Ipv4, &tutorial());
}

#[test]
fn bridged_pods_reach_each_other_their_node_and_the_outside_over_both_families() {
    every_path_works(FamilyChoice::Dual, &dual());
}

#[test]
fn routed_pods_reach_each_other_their_node_and_the_outside_over_ipv4() {
    every_path_works(FamilyChoice::Ipv4, &with_node_addresses(routed(tutorial())));
}

#[test]
fn routed_pods_reach_each_other_their_node_and_the_outside_over_both_families() {
    every_path_works(FamilyChoice::Dual, &with_node_addresses(routed(dual())));
}

#[test]
fn the_first_packets_between_the_first_pods_arrive_in_both_families() {
    for config in [dual(), routed(dual())] {
        let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
        let (web, client) = (site.attach(0, "web", &config), site.attach(0, "client", &config));
        // A question for a neighbour that the kernel is not ready for yet is asked again after a second.
        let once = Timing { wait: patience(Duration::from_secs(3)), tries: 1 };
        site.must_reach_within(&[[&web, &client, &web]], once);
    }
}

#[test]
fn only_what_leaves_the_pod_network_is_masqueraded() {
    for attach in [|config| config, routed] {
        let Some(mut site) = Site::new(2, FamilyChoice::Ipv4) else { return };
        let [a, b] = [site.node(0), site.node(1)];
        let config = with_node_addresses(attach(tutorial()));
        let mut there = attach(tutorial());
        there["subnet"] = json!("10.244.2.0/24");
        let (web, peer) = (site.attach(0, "web", &config), site.attach(1, "peer", &there));
        for (from, to, cidr) in [(&a, &b, "10.244.2.0/24"), (&b, &a, "10.244.1.0/24")] {
            let via = site.address(to);
            let way = NetStep::ReplaceRoute(route(cidr, Some(&via), "eth0"));
            change(site.space(from), &[way]);
        }
        site.must_reach(&[
            [&web, &peer, &web],
            [&peer, &web, &peer],
            [&b, &web, &b],
            [&web, &b, &a],
            [&peer, &Place::Outside, &b],
        ]);
    }
}

#[test]
fn without_ip_masq_nothing_is_masqueraded() {
    let Some(mut site) = Site::new(1, FamilyChoice::Ipv4) else { return };
    let mut config = tutorial();
    config["ipMasq"] = json!(false);
    let web = site.attach(0, "web", &config);
    site.must_reach(&[[&web, &site.node(0), &web]]);
    // The host beyond the router knows no way back to a pod.
    site.must_not_reach(&web, &Place::Outside);
}

/// The pods' packets come through although a tool has set its FORWARD policy to DROP; its own rules stay as they were.
fn passes_a_drop_policy_of(iptables: [&str; 2], config: &Value) {
    let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
    let node = site.node(0);
    for tool in iptables {
        for arguments in
            [&["-w", "-P", "FORWARD", "DROP"][..], &["-w", "-A", "FORWARD", "-i", "nobody", "-j", "ACCEPT"]]
        {
            // Without the family's tables in the kernel there is nothing to come through.
            let Some(output) = run(site.space(&node), tool, arguments) else { return };
            if !output.status.success() {
                return skipped(&format!("{tool} finds no tables in this kernel"));
            }
        }
    }
    let listed = |site: &Site| iptables.map(|tool| must_run(site.space(&site.node(0)), tool, &["-w", "-S"]));
    let (before, rules) = (site.traces(0), listed(&site));
    for _ in 0..2 {
        let (web, client) = (site.attach(0, "web", config), site.attach(0, "client", config));
        site.must_reach(&[[&web, &Place::Outside, &node], [&web, &client, &web]]);
        assert_ne!(listed(&site), rules, "our rules are where the tool lists them");
        site.call("CHECK", &web).done();
        site.detach(&web);
        site.must_reach(&[[&client, &Place::Outside, &node]]);
        site.detach(&client);
        assert_eq!(listed(&site), rules);
        site.must_be_back(&before, 0);
    }
}

#[test]
fn bridged_pods_come_through_a_forward_policy_of_drop_in_iptables_nft() {
    passes_a_drop_policy_of(["iptables-nft", "ip6tables-nft"], &dual());
}

#[test]
fn bridged_pods_come_through_a_forward_policy_of_drop_in_iptables_legacy() {
    passes_a_drop_policy_of(["iptables-legacy", "ip6tables-legacy"], &dual());
}

#[test]
fn routed_pods_come_through_a_forward_policy_of_drop_in_iptables_nft() {
    passes_a_drop_policy_of(["iptables-nft", "ip6tables-nft"], &routed(dual()));
}

#[test]
fn routed_pods_come_through_a_forward_policy_of_drop_in_iptables_legacy() {
    passes_a_drop_policy_of(["iptables-legacy", "ip6tables-legacy"], &routed(dual()));
}

#[test]
fn chk_2_a_way_through_a_drop_policy_that_somebody_took_away_is_noticed() {
    for config in [dual(), routed(dual())] {
        let Some(mut site) = Site::new(1, FamilyChoice::Ipv4) else { return };
        let node = site.node(0);
        if must_run(site.space(&node), "iptables-nft", &["-w", "-P", "FORWARD", "DROP"]).is_none() {
            return;
        }
        let web = site.attach(0, "web", &config);
        site.call("CHECK", &web).done();
        must_run(site.space(&node), "iptables-nft", &["-w", "-F", "FORWARD"]);
        assert_eq!(site.call("CHECK", &web).refusal().0, 104);
        site.must_not_reach(&web, &Place::Outside);
    }
}

#[test]
fn del_3_the_pods_tracked_connections_go_with_it_and_nobody_elses() {
    let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
    let (web, client) = (site.attach(0, "web", &dual()), site.attach(0, "client", &dual()));
    let node = site.node(0);
    site.must_reach(&[[&web, &Place::Outside, &node], [&client, &Place::Outside, &node]]);
    let tracked = |site: &Site, addresses: &[IpAddr]| {
        let read = || fs::read_to_string("/proc/thread-self/net/nf_conntrack");
        let table = site.space(&node).run(read).unwrap().unwrap_or_default();
        let of = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => format!("src={ip} "),
            // This file writes every digit.
            IpAddr::V6(ip) => {
                let groups = ip.segments().map(|segment| format!("{segment:04x}"));
                format!("src={} ", groups.join(":"))
            }
        };
        let whose: Vec<String> = addresses.iter().map(of).collect();
        table.lines().filter(|line| whose.iter().any(|src| line.contains(src))).count()
    };
    let (webs, clients) = (site.addresses(&web), site.addresses(&client));
    let kept = tracked(&site, &clients);
    if kept == 0 {
        return skipped("this kernel does not list tracked connections in /proc");
    }
    assert_ne!(tracked(&site, &webs), 0);
    site.detach(&web);
    assert_eq!((tracked(&site, &webs), tracked(&site, &clients)), (0, kept));
}

#[test]
fn two_networks_on_one_bridge_leave_together() {
    let Some(mut site) = Site::new(1, FamilyChoice::Ipv4) else { return };
    let before = site.traces(0);
    let mut other = tutorial();
    (other["name"], other["subnet"]) = (json!("other"), json!("10.245.0.0/24"));
    let (web, guest) = (site.attach(0, "web", &tutorial()), site.attach(0, "guest", &other));
    site.detach(&web);
    site.must_reach(&[[&guest, &site.node(0), &guest], [&guest, &Place::Outside, &site.node(0)]]);
    site.detach(&guest);
    site.must_be_back(&before, 0);
}

fn with_node_addresses(mut config: Value) -> Value {
    if config.get("attach").is_some() {
        config["nodeAddresses"] = json!(["172.30.0.11", "fd00:30::11"]);
    }
    config
}

fn forwarding(node: &Namespace) -> String {
    let read = node.run(|| fs::read_to_string("/proc/sys/net/ipv4/ip_forward"));
    read.unwrap().unwrap().trim().to_owned()
}
