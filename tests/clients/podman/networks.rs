//! Several networks on one container, networks that come and go, and what podman makes of conflists of ours.

use selvedge_tests::Echo;
use serde_json::{Value, json};

use super::host::{Host, conflist, dual, must_answer, routed, tutorial};

#[test]
fn podman_lists_and_inspects_a_network_of_a_type_that_it_does_not_know() {
    let Some(host) = Host::new(&[dual(), routed(), tutorial()]) else { return };
    let said = host.podman("network ls --format json");
    let listed: Value = serde_json::from_str(said.must_succeed()).unwrap();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|network| &network["name"]).collect();
    assert!(["dual", "mynet", "routed"].iter().all(|name| names.contains(&&json!(name))), "{listed}");
    let said = host.podman("network inspect mynet");
    let inspected: Value = serde_json::from_str(said.must_succeed()).unwrap();
    assert_eq!((&inspected[0]["name"], &inspected[0]["driver"]), (&json!("mynet"), &json!("selvedge")));
    assert!(said.stderr.is_empty(), "{}", said.stderr);
    host.must_be_clean();
}

#[test]
fn podman_takes_a_conflist_of_every_version_that_its_library_speaks() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        let mut network = dual();
        network["cniVersion"] = json!(version);
        let Some(host) = Host::new(&[network]) else { return };
        let web = host.start("web", "--network dual");
        assert_eq!(web.addresses("eth0").len(), 2, "{version}");
        assert_eq!(host.attachment("web", "dual")["IPAddress"], "10.88.1.2", "{version}");
        host.podman("rm --force --time 0 --all").must_succeed();
        host.must_be_clean();
    }
}

/// A second network beside `dual`.
fn routed_apart() -> Value {
    let mut plugin = routed()["plugins"][0].clone();
    plugin["network"] = json!(["10.99.0.0/16", "fd00:99::/48"]);
    plugin["ipam"] = json!({"ranges": [[{"subnet": "10.99.1.0/24"}], [{"subnet": "fd00:99:0:1::/64"}]]});
    conflist("apart", plugin)
}

#[test]
fn a_network_is_connected_to_a_container_that_runs_and_disconnected_again() {
    let Some(host) = Host::new(&[dual(), routed_apart()]) else { return };
    let web = host.start("web", "--network dual");
    let peer = host.start("peer", "--network apart");
    let _echo = Echo::serve(&web.space);
    for _ in 0..2 {
        let connect = "network connect --ip 10.99.1.77 --ip6 fd00:99:0:1::77 apart web";
        host.podman(connect).must_succeed();
        assert_eq!(web.addresses("eth1"), ["10.99.1.77/32", "fd00:99:0:1::77/128"]);
        must_answer(&peer.space, &web.addresses("eth1"));
        must_answer(host.machine().node(), &web.addresses("eth0"));
        host.podman("network disconnect apart web").must_succeed();
        must_answer(host.machine().node(), &web.addresses("eth0"));
    }
    host.podman("rm --force --time 0 --all").must_succeed();
    host.must_be_clean();
}

#[test]
fn a_network_that_podman_reloads_keeps_its_addresses_and_works() {
    for network in [dual(), routed()] {
        let name = network["name"].as_str().unwrap().to_owned();
        let Some(host) = Host::new(&[network]) else { return };
        let web = host.start("web", &format!("--network {name}"));
        let client = host.start("client", &format!("--network {name} --mac-address 92:d0:c6:0a:29:33"));
        let had = [&web, &client].map(|container| (container.addresses("eth0"), container.mac("eth0")));
        let _echo = Echo::serve(&web.space);
        for reload in ["network reload web", "network reload client", "network reload --all"] {
            host.podman(reload).must_succeed();
            let has = [&web, &client].map(|container| (container.addresses("eth0"), container.mac("eth0")));
            assert_eq!(has, had, "{reload}");
            must_answer(&client.space, &web.addresses("eth0"));
            must_answer(host.machine().node(), &web.addresses("eth0"));
        }
        host.podman("rm --force --time 0 --all").must_succeed();
        host.must_be_clean();
    }
}

#[test]
fn a_network_is_brought_back_by_a_reload_after_somebody_took_everything_away() {
    for network in [dual(), routed()] {
        let name = network["name"].as_str().unwrap().to_owned();
        let Some(host) = Host::new(&[network]) else { return };
        let web = host.start("web", &format!("--network {name}"));
        let had = web.addresses("eth0");
        host.run("nft", &["flush", "ruleset"]).must_succeed();
        let links = host.run("ip", &["-o", "link", "show", "type", "veth"]).must_succeed().to_owned();
        let ours = links.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('@').next());
        for link in ours.filter(|link| link.starts_with("slv")) {
            host.run("ip", &["link", "delete", link]).must_succeed();
        }
        host.podman("network reload web").must_succeed();
        assert_eq!(web.addresses("eth0"), had);
        let _echo = Echo::serve(&web.space);
        must_answer(host.machine().node(), &had);
        host.podman("rm --force --time 0 --all").must_succeed();
        host.must_be_clean();
    }
}

#[test]
fn aliases_are_taken_as_podman_sends_them() {
    let mut network = tutorial();
    network["plugins"][0]["capabilities"]["aliases"] = json!(true);
    let Some(host) = Host::new(&[network]) else { return };
    let web = host.start("web", "--network mynet --network-alias shop --network-alias www");
    assert_eq!(web.addresses("eth0"), ["10.244.1.2/24"]);
    host.podman("rm --force --time 0 --all").must_succeed();
    host.must_be_clean();
}
