//! Several networks on one container, networks that come and go, and what podman makes of conflists of ours.

use std::process::Command;

use selvedge_tests::Echo;
use serde_json::{Value, json};

use super::host::{Container, HOST, Host, OUTSIDE, conflist, dual, must_answer, routed, tutorial};

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
        host.remove_all();
    }
}

/// Two networks apart from `dual`: another bridge, and a routed one.
fn apart() -> [Value; 2] {
    ["bridge", "routed"].map(|attach| {
        conflist(
            &format!("{attach}-apart"),
            json!({"attach": attach, "bridge": "apart0", "network": ["10.99.0.0/16", "fd00:99::/48"],
                "nodeAddresses": HOST,
                "ipam": {"ranges": [[{"subnet": "10.99.1.0/24"}], [{"subnet": "fd00:99:0:1::/64"}]]}}),
        )
    })
}

/// A container reaches what is on no network of its, and is reached from there, on both of its interfaces.
fn must_reach_afar(host: &Host, container: &Container) {
    must_answer(&container.space, &OUTSIDE);
    must_answer(host.machine().node(), &[container.addresses("eth0"), container.addresses("eth1")].concat());
}

#[test]
fn a_container_on_two_networks_reaches_and_is_reached_on_both() {
    for [first, second] in
        apart().map(|other| [other, dual()]).into_iter().flat_map(|[a, b]| [[a.clone(), b.clone()], [b, a]])
    {
        let names = [&first, &second].map(|network| network["name"].as_str().unwrap().to_owned());
        let Some(host) = Host::new(&[first, second]) else { return };
        let [first, second] = &names;
        let both = host.start("both", &format!("--network {first} --network {second}"));
        let peers =
            names.each_ref().map(|name| host.start(&format!("on-{name}"), &format!("--network {name}")));
        let _echoes = [&both.space, &peers[0].space, &peers[1].space, host.outside()].map(Echo::serve);
        for (peer, interface) in peers.iter().zip(["eth0", "eth1"]) {
            must_answer(&peer.space, &both.addresses(interface));
            must_answer(&both.space, &peer.addresses("eth0"));
        }
        must_reach_afar(&host, &both);
        host.remove_all();
    }
}

#[test]
fn a_network_is_connected_to_a_container_that_runs_and_disconnected_again() {
    for other in apart() {
        let name = other["name"].as_str().unwrap().to_owned();
        let Some(host) = Host::new(&[dual(), other]) else { return };
        let web = host.start("web", "--network dual");
        let peer = host.start("peer", &format!("--network {name}"));
        let _echoes = [&web.space, host.outside()].map(Echo::serve);
        let before = routing(&web);
        for _ in 0..2 {
            let connect = "network connect --ip 10.99.1.77 --ip6 fd00:99:0:1::77";
            host.podman(&format!("{connect} {name} web")).must_succeed();
            let connected = web.addresses("eth1");
            assert!(connected[0].starts_with("10.99.1.77/") && connected[1].starts_with("fd00:99:0:1::77/"));
            must_answer(&peer.space, &connected);
            must_reach_afar(&host, &web);
            host.podman(&format!("network disconnect {name} web")).must_succeed();
            must_answer(host.machine().node(), &web.addresses("eth0"));
            must_answer(&web.space, &OUTSIDE);
            assert_eq!(routing(&web), before);
        }
        host.remove_all();
    }
}

#[test]
fn a_container_whose_first_network_is_disconnected_goes_out_by_its_second() {
    for other in apart() {
        let name = other["name"].as_str().unwrap().to_owned();
        let Some(host) = Host::new(&[dual(), other]) else { return };
        // Of two networks at once podman attaches now the one first, now the other.
        let web = host.start("web", "--network dual");
        host.podman(&format!("network connect {name} web")).must_succeed();
        let _echoes = [&web.space, host.outside()].map(Echo::serve);
        host.podman("network disconnect dual web").must_succeed();
        must_answer(&web.space, &OUTSIDE);
        must_answer(host.machine().node(), &web.addresses("eth1"));
        host.remove_all();
    }
}

/// The rules and all tables of a container, as ip lists them.
fn routing(container: &Container) -> String {
    let listed = |arguments: &[&str]| {
        let output = container.space.run(|| Command::new("ip").args(arguments).output()).unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let rules = [&["-4", "rule"][..], &["-6", "rule"]].map(listed).concat();
    let routes = [&["-4", "route", "show", "table", "all"][..], &["-6", "route", "show", "table", "all"]];
    let routes = routes.map(listed).concat();
    // The kernel adds and removes these in its own time.
    let lasting = routes.lines().filter(|line| !line.contains("fe80:") && !line.contains("ff00:"));
    rules + &lasting.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_network_that_podman_reloads_keeps_its_addresses_and_works() {
    for (name, network) in [("dual", dual()), ("routed", routed())] {
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
        host.remove_all();
    }
}

#[test]
fn a_network_is_brought_back_by_a_reload_after_somebody_took_everything_away() {
    for (name, network) in [("dual", dual()), ("routed", routed())] {
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
        host.remove_all();
    }
}

#[test]
fn aliases_are_taken_as_podman_sends_them() {
    let mut network = tutorial();
    network["plugins"][0]["capabilities"]["aliases"] = json!(true);
    let Some(host) = Host::new(&[network]) else { return };
    let web = host.start("web", "--network mynet --network-alias shop --network-alias www");
    assert_eq!(web.addresses("eth0"), ["10.244.1.2/24"]);
    host.remove_all();
}
