//! Published ports, by our own capability: `podman run --publish`, from everywhere.

use std::net::{IpAddr, SocketAddr};

use selvedge_model::Transport;
use selvedge_netns::Namespace;
use selvedge_tests::{Mirror, ask, must_be_silent, within};
use serde_json::{Value, json};

use super::host::{HOST, Host, OUTSIDE, conflist, dual, routed};

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// What `web` is run with besides its network; it answers on port 80.
const PUBLISHED: &str = "--publish 8080:80 --publish 8080:80/udp \
    --publish 127.0.0.1:8081:80 --publish 127.0.0.1:8081:80/udp \
    --publish 192.0.2.1:8082:80 --publish 192.0.2.1:8082:80/udp \
    --publish [2001:db8::1]:8083:80 --publish [2001:db8::1]:8083:80/udp";

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Asks `web`; as whom it was asked.
fn asked((who, from): (&str, &Namespace), transport: Transport, at: SocketAddr) -> IpAddr {
    match ask(from, transport, at) {
        Ok((name, seen)) => {
            assert_eq!(name, "web");
            seen.ip()
        }
        Err(error) => panic!("{who} asks {transport} {at}: {error}"),
    }
}

/// `web` is reached from everybody by what it has published, and by nothing else. The other container is there if `web`
/// is on one network.
fn must_be_reached(host: &Host, web: &Namespace, client: Option<&Namespace>) {
    let node = ("the host", host.machine().node());
    let outside = ("the outside", host.outside());
    for transport in BOTH {
        let mut everybody = vec![outside, node];
        // Of several networks' addresses, the one that UDP is answered from is the answerer's own affair.
        if client.is_some() || transport == Transport::Tcp {
            everybody.push(("web itself", web));
        }
        everybody.extend(client.map(|client| ("another", client)));
        for (own, beyond) in HOST.iter().zip(OUTSIDE) {
            for from in &everybody {
                asked(*from, transport, at(own, 8080));
            }
            let seen = asked(outside, transport, at(own, 8080));
            assert_eq!(seen.to_string(), beyond, "the outside is seen as itself");
        }
        for port in [8080, 8081] {
            asked(node, transport, at("127.0.0.1", port));
        }
        for from in &everybody {
            asked(*from, transport, at(HOST[0], 8082));
            asked(*from, transport, at(HOST[1], 8083));
        }
    }
    must_be_silent(node.1, Transport::Tcp, at("127.0.0.1", 8082));
    for (address, port) in [(HOST[0], 8081), (HOST[1], 8082), (HOST[0], 8083), (HOST[0], 80)] {
        must_be_silent(host.outside(), Transport::Tcp, at(address, port));
    }
}

fn everybody_reaches_a_published_port(network: Value) {
    let name = network["name"].as_str().unwrap().to_owned();
    let Some(host) = Host::new(&[network]) else { return };
    let client = host.start("client", &format!("--network {name}"));
    let web = host.start("web", &format!("--network {name} {PUBLISHED}"));
    let mirror = Mirror::serve(&web.space, 80, "web");
    must_be_reached(&host, &web.space, Some(&client.space));
    host.podman("network reload web").must_succeed();
    must_be_reached(&host, &web.space, Some(&client.space));
    drop(mirror);
    host.podman("restart --time 0 web").must_succeed();
    let web = host.container("web");
    let _mirror = Mirror::serve(&web.space, 80, "web");
    must_be_reached(&host, &web.space, Some(&client.space));
    host.remove_all();
    // At the end, since the kernel tracks what is sent in vain, too.
    for transport in BOTH {
        for port in 8080..=8083 {
            must_be_silent(host.outside(), transport, at(HOST[0], port));
            must_be_silent(host.machine().node(), transport, at("127.0.0.1", port));
        }
    }
}

#[test]
fn everybody_reaches_podmans_published_ports_when_bridged() {
    everybody_reaches_a_published_port(dual());
}

#[test]
fn everybody_reaches_podmans_published_ports_when_routed() {
    everybody_reaches_a_published_port(routed());
}

#[test]
fn a_range_of_ports_that_podman_publishes_leads_port_by_port() {
    let Some(host) = Host::new(&[dual()]) else { return };
    let web = host.start("web", "--network dual --publish 9000-9003:7000-7003/udp");
    for number in 0..4 {
        let _mirror = Mirror::serve(&web.space, 7000 + number, "web");
        asked(("the outside", host.outside()), Transport::Udp, at(HOST[0], 9000 + number));
    }
    host.remove_all();
}

#[test]
fn a_port_that_is_taken_fails_the_second_container_and_stays_the_firsts() {
    let Some(host) = Host::new(&[dual()]) else { return };
    let web = host.start("web", "--network dual --publish 8080:80");
    let _mirror = Mirror::serve(&web.space, 80, "web");
    let ran = host.podman("run --rm --network dual --publish 8080:80 localhost/box sleep 1000");
    assert!(ran.must_fail().contains("8080"), "{ran:?}");
    asked(("the outside", host.outside()), Transport::Tcp, at(HOST[0], 8080));
    host.remove_all();
}

#[test]
fn a_container_that_is_killed_gives_its_ports_back() {
    for (name, network) in [("dual", dual()), ("routed", routed())] {
        let Some(host) = Host::new(&[network]) else { return };
        for _ in 0..2 {
            let web = host.start("web", &format!("--network {name} {PUBLISHED}"));
            host.machine().kill(web.process);
            within(10.0, "podman sees that the container is dead", || {
                let ran = host.podman("rm --force --time 0 web");
                if ran.code == Some(0) { Ok(()) } else { Err(ran.stderr) }
            });
        }
        host.must_be_clean();
    }
}

/// podman sends the ports to each of a container's networks.
#[test]
fn a_container_with_published_ports_is_on_two_networks() {
    let other = conflist(
        "other",
        json!({"attach": "routed", "network": ["10.99.0.0/16", "fd00:99::/48"],
        "nodeAddresses": HOST,
        "ipam": {"ranges": [[{"subnet": "10.99.1.0/24"}], [{"subnet": "fd00:99:0:1::/64"}]]}}),
    );
    let Some(host) = Host::new(&[dual(), other]) else { return };
    let peers = ["dual", "other"].map(|name| host.start(&format!("on-{name}"), &format!("--network {name}")));
    let web = host.start("web", &format!("--network dual --network other {PUBLISHED}"));
    let _mirror = Mirror::serve(&web.space, 80, "web");
    let reached = || {
        must_be_reached(&host, &web.space, None);
        for (peer, address) in peers.iter().zip(HOST) {
            asked((&peer.name, &peer.space), Transport::Tcp, at(address, 8080));
        }
    };
    reached();
    for network in ["other", "dual"] {
        host.podman(&format!("network disconnect {network} web")).must_succeed();
        reached();
        host.podman(&format!("network connect {network} web")).must_succeed();
        reached();
    }
    host.remove_all();
}
