//! Containers on one network: they reach and are reached, start again, and leave nothing.

use selvedge_tests::Echo;
use serde_json::{Value, json};

use super::host::{HOST, Host, OUTSIDE, conflist, dual, must_answer, routed, tutorial};

/// Two containers reach each other, their host and the outside, by ping and TCP; the host reaches them.
fn everybody_reaches_everybody(network: &Value, families: usize) {
    let Some(host) = Host::new(std::slice::from_ref(network)) else { return };
    let name = network["name"].as_str().unwrap();
    let flags = format!("--network {name}");
    let [web, client] = ["web", "client"].map(|container| host.start(container, &flags));
    let of_web: Vec<String> = web.addresses("eth0");
    assert_eq!(of_web.len(), families, "{of_web:?}");
    for address in &of_web {
        host.ping(&client, address.split('/').next().unwrap());
    }
    for address in HOST.iter().chain(&OUTSIDE).filter(|address| families == 2 || address.contains('.')) {
        host.ping(&web, address);
    }
    let _answering = [&web.space, host.machine().node(), host.outside()].map(Echo::serve);
    must_answer(&client.space, &of_web);
    must_answer(host.machine().node(), &of_web);
    must_answer(&client.space, &HOST[..families]);
    // It knows no way to a container: what it answers is the host's address.
    must_answer(&client.space, &OUTSIDE[..families]);
    host.podman("stop --time 0 web").must_succeed();
    host.podman("rm web").must_succeed();
    host.remove_all();
}

#[test]
fn podmans_containers_reach_each_other_on_the_tutorials_network() {
    everybody_reaches_everybody(&tutorial(), 1);
}

#[test]
fn podmans_containers_reach_each_other_on_a_bridge_with_both_families() {
    everybody_reaches_everybody(&dual(), 2);
}

#[test]
fn podmans_containers_reach_each_other_routed_in_both_families() {
    everybody_reaches_everybody(&routed(), 2);
}

#[test]
fn a_container_that_runs_to_its_end_in_podmans_foreground_leaves_nothing() {
    let Some(host) = Host::new(&[tutorial()]) else { return };
    let ran = host.podman("run --rm --network mynet localhost/box ip -4 -o address show dev eth0");
    assert!(ran.must_succeed().contains("inet 10.244.1.2/24 "), "{ran:?}");
    host.must_be_clean();
    let ran = host.podman("run --rm --network mynet localhost/box cat /nowhere");
    assert!(ran.must_fail().contains("No such file"), "{ran:?}");
    host.must_be_clean();
}

#[test]
fn a_container_that_podman_can_not_start_leaves_nothing() {
    let Some(host) = Host::new(&[tutorial()]) else { return };
    host.podman("run --rm --network mynet localhost/box /nowhere").must_fail();
    host.must_be_clean();
}

#[test]
fn a_container_that_podman_restarts_is_attached_once() {
    for (name, network) in [("dual", dual()), ("routed", routed())] {
        let Some(host) = Host::new(&[network]) else { return };
        host.start("web", &format!("--network {name}"));
        let peer = host.start("peer", &format!("--network {name}"));
        for _ in 0..3 {
            host.podman("restart --time 0 web").must_succeed();
            let web = host.container("web");
            let _echo = Echo::serve(&web.space);
            must_answer(&peer.space, &web.addresses("eth0"));
        }
        host.podman("stop --time 0 web").must_succeed();
        host.podman("start web").must_succeed();
        host.remove_all();
    }
}

#[test]
fn podman_is_told_what_is_wrong_with_a_configuration_and_nothing_is_left() {
    let Some(host) = Host::new(&[conflist("broken", json!({"subnet": "10.244.1.0/33"}))]) else { return };
    let ran = host.podman("run --rm --network broken localhost/box sleep 1000");
    let said = ran.must_fail();
    assert!(said.contains("subnet") && said.contains("10.244.1.0/33"), "{said}");
    host.must_be_clean();
}

#[test]
fn podmans_containers_fill_a_subnet_and_the_next_is_told_so() {
    let small = conflist("small", json!({"network": "10.244.0.0/16", "subnet": "10.244.1.0/29"}));
    let Some(host) = Host::new(&[small]) else { return };
    // .1 is the gateway, .7 the broadcast address.
    for number in 2..7 {
        let container = host.start(&format!("c{number}"), "--network small");
        assert_eq!(container.address("eth0"), format!("10.244.1.{number}"));
    }
    let ran = host.podman("run --rm --network small localhost/box sleep 1000");
    assert!(ran.must_fail().contains("10.244.1.0/29"), "{ran:?}");
    host.podman("rm --force --time 0 c4").must_succeed();
    assert_eq!(host.start("next", "--network small").address("eth0"), "10.244.1.4");
    host.remove_all();
}
