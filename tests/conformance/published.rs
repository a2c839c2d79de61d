//! Published ports with packets: who reaches the pod by a port of its node, and as whom.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use selvedge_lab::plan::Place;
use selvedge_lab::shape::FamilyChoice;
use selvedge_model::Transport;
use selvedge_netns::Namespace;
use selvedge_tests::{Asker, Mirror, ask, must_be_silent};
use serde_json::{Value, json};

use crate::hand::must_run;
use crate::site::Site;

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// A network of both families, attached that way, with ports for one pod.
pub(crate) fn config(attach: &str, mappings: &Value) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "mynet", "type": "selvedge", "attach": attach,
        "network": ["10.244.0.0/16", "fd00:10:244::/48"],
        "subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"],
        "nodeAddresses": ["172.30.0.11", "fd00:30::11"],
        "runtimeConfig": {"portMappings": mappings},
    })
}

fn mapping(protocol: &str, host: u16, container: u16) -> Value {
    json!({"hostPort": host, "containerPort": container, "protocol": protocol})
}

/// A site with a pod `web` that answers on port 80 as itself, and another `client`.
struct Scene {
    site: Site,
    web: Place,
    client: Place,
    _mirror: Mirror,
}

impl Scene {
    fn new(attach: &str, mappings: &Value) -> Option<Self> {
        let mut site = Site::new(1, FamilyChoice::Dual)?;
        let web = site.attach(0, "web", &config(attach, mappings));
        let client = site.attach(0, "client", &config(attach, &json!([])));
        let mirror = Mirror::serve(site.space(&web), 80, "web");
        Some(Self { site, web, client, _mirror: mirror })
    }

    fn node(&self) -> Place {
        self.site.node(0)
    }

    /// Asks at a port of an address; as whom `web` was asked.
    fn asked(&self, from: &Place, transport: Transport, at: (IpAddr, u16)) -> IpAddr {
        match ask(self.site.space(from), transport, at.into()) {
            Ok((name, seen)) => {
                assert_eq!(name, "web");
                seen.ip()
            }
            Err(error) => panic!("{from} asks {transport} {at:?}: {error}"),
        }
    }

    fn must_be_silent(&self, from: &Place, at: (IpAddr, u16)) {
        for transport in BOTH {
            must_be_silent(self.site.space(from), transport, at.into());
        }
    }
}

/// With br_netfilter, which a namespace comes with, bridged packets see the rules on the bridge already.
fn without_bridge_netfilter(node: &Namespace) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        // Without the module there is nothing to be switched off.
        node.run(|| std::fs::write(path, "0").ok()).unwrap();
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The one of some addresses that is of another's family.
fn like(addresses: &[IpAddr], other: IpAddr) -> IpAddr {
    *addresses.iter().find(|ip| ip.is_ipv4() == other.is_ipv4()).unwrap()
}

fn everybody_reaches_it(attach: &str, bridge_netfilter: bool) {
    let both = json!([mapping("tcp", 8080, 80), mapping("udp", 8080, 80)]);
    let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
    if !bridge_netfilter {
        without_bridge_netfilter(site.space(&site.node(0)));
    }
    let before = site.traces(0);
    let web = site.attach(0, "web", &config(attach, &both));
    let client = site.attach(0, "client", &config(attach, &json!([])));
    let mirror = Mirror::serve(site.space(&web), 80, "web");
    let scene = Scene { site, web, client, _mirror: mirror };
    let [node, outside] = [scene.node(), Place::Outside];
    for transport in BOTH {
        for address in scene.site.addresses(&node) {
            let at = (address, 8080);
            for from in [&outside, &scene.client, &node] {
                let own = like(&scene.site.addresses(from), address);
                assert_eq!(scene.asked(from, transport, at), own, "{from} asks {transport} {at:?}");
            }
            // The pod itself can't be asked by itself.
            let seen = scene.asked(&scene.web, transport, at);
            assert!(!scene.site.addresses(&scene.web).contains(&seen), "{transport} {at:?}: {seen}");
        }
        for address in ["127.0.0.1", "127.1.2.3"] {
            let seen = scene.asked(&node, transport, (ip(address), 8080));
            assert!(!seen.is_loopback(), "{transport} {address}: {seen}");
        }
    }
    let Scene { mut site, web, client, _mirror } = scene;
    site.detach(&web);
    site.detach(&client);
    site.must_be_back(&before, 0);
    for transport in BOTH {
        for address in site.addresses(&node).into_iter().chain([ip("127.0.0.1")]) {
            must_be_silent(site.space(&node), transport, (address, 8080).into());
        }
        must_be_silent(site.space(&outside), transport, (site.addresses(&node)[0], 8080).into());
    }
}

#[test]
fn everybody_reaches_a_bridged_pod_by_a_published_port() {
    everybody_reaches_it("bridge", true);
}

#[test]
fn everybody_reaches_a_bridged_pod_by_a_published_port_without_br_netfilter_too() {
    everybody_reaches_it("bridge", false);
}

#[test]
fn everybody_reaches_a_routed_pod_by_a_published_port() {
    everybody_reaches_it("routed", true);
}

#[test]
fn the_loopback_of_ipv6_says_no_at_once() {
    for attach in ["bridge", "routed"] {
        let Some(scene) = Scene::new(attach, &json!([mapping("tcp", 8080, 80)])) else { return };
        let answer = ask(scene.site.space(&scene.node()), Transport::Tcp, (ip("::1"), 8080).into());
        assert_eq!(answer.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_port_at_one_address_is_at_no_other() {
    for attach in ["bridge", "routed"] {
        let mappings = json!([
            {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "172.30.0.11"},
            {"HostPort": 8080, "ContainerPort": 80, "Protocol": "udp", "HostIP": "172.30.0.11"},
            {"HostPort": 8081, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "127.0.0.1"},
            {"HostPort": 8081, "ContainerPort": 80, "Protocol": "udp", "HostIP": "127.0.0.1"},
            {"HostPort": 8082, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "fd00:30::11"},
            {"HostPort": 8082, "ContainerPort": 80, "Protocol": "udp", "HostIP": "fd00:30::11"},
            {"HostPort": 8083, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "0.0.0.0"},
            {"HostPort": 8083, "ContainerPort": 80, "Protocol": "udp", "HostIP": "0.0.0.0"},
        ]);
        let Some(scene) = Scene::new(attach, &mappings) else { return };
        let [node, outside] = [scene.node(), Place::Outside];
        let (v4, v6, lo) = (ip("172.30.0.11"), ip("fd00:30::11"), ip("127.0.0.1"));
        for transport in BOTH {
            for from in [&node, &outside, &scene.client, &scene.web] {
                for at in [(v4, 8080), (v6, 8082), (v4, 8083)] {
                    scene.asked(from, transport, at);
                }
            }
            scene.asked(&node, transport, (lo, 8081));
            scene.asked(&node, transport, (lo, 8083));
        }
        for at in [(v6, 8080), (v4, 8081), (v4, 8082), (v6, 8083)] {
            scene.must_be_silent(&outside, at);
            scene.must_be_silent(&node, at);
        }
        scene.must_be_silent(&node, (lo, 8080));
        // What is published is the port, not the pod, and on this node's addresses only.
        scene.must_be_silent(&outside, (v4, 80));
        scene.must_be_silent(&scene.client, (scene.site.addresses(&outside)[0], 8083));
    }
}

/// Has a pod send to the node's loopback, which by itself it would not. True if it arrives.
fn reaches_the_loopback(node: &Namespace, pod: &Namespace) -> bool {
    let listener = node.run(|| UdpSocket::bind("127.0.0.1:7474")).unwrap().unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    pod.run(|| UdpSocket::bind(("0.0.0.0", 0))?.send_to(b"x", "127.0.0.1:7474")).unwrap().ok();
    listener.recv_from(&mut [0; 4]).is_ok()
}

#[test]
fn no_pod_reaches_the_nodes_loopback_though_the_node_reaches_pods_from_it() {
    for (attach, gateway) in [("bridge", "10.244.1.1"), ("routed", "169.254.1.1")] {
        let Some(scene) = Scene::new(attach, &json!([mapping("tcp", 8080, 80)])) else { return };
        let (node, pod) = (scene.site.space(&scene.node()), scene.site.space(&scene.web));
        pod.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")).unwrap().unwrap();
        for arguments in [
            &["addr", "del", "127.0.0.1/8", "dev", "lo"][..],
            &["route", "add", "127.0.0.0/8", "via", gateway, "dev", "eth0"],
        ] {
            if must_run(pod, "ip", arguments).is_none() {
                return;
            }
        }
        assert!(!reaches_the_loopback(node, pod), "{attach}");
        // It is the rules that keep it away.
        must_run(node, "nft", &["flush", "chain", "inet", "selvedge-cni", "published-raw"]);
        assert!(reaches_the_loopback(node, pod), "{attach}: the test sends nothing");
    }
}

#[test]
fn the_kernel_carries_the_loopback_across_a_bridge_only_for_as_long_as_it_is_needed() {
    let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
    let carries = |site: &Site| {
        let path = "/proc/sys/net/ipv4/conf/cni0/route_localnet";
        site.space(&site.node(0)).run(|| std::fs::read_to_string(path)).unwrap().unwrap().trim() == "1"
    };
    let client = site.attach(0, "client", &config("bridge", &json!([])));
    assert!(!carries(&site));
    let web = site.attach(0, "web", &config("bridge", &json!([mapping("tcp", 8080, 80)])));
    let dns = site.attach(0, "dns", &config("bridge", &json!([mapping("udp", 53, 53)])));
    assert!(carries(&site));
    site.detach(&web);
    assert!(carries(&site));
    site.detach(&dns);
    assert!(!carries(&site));
    site.detach(&client);
}

#[test]
fn udp_goes_to_a_port_as_soon_as_it_is_published_and_to_its_next_pod_at_once() {
    for attach in ["bridge", "routed"] {
        let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
        let node = site.node(0);
        let first = site.attach(0, "first", &config(attach, &json!([])));
        let mirrors = |site: &Site, place: &Place, name| Mirror::serve(site.space(place), 53, name);
        let askers: Vec<(Asker, SocketAddr)> = [&Place::Outside, &node, &first]
            .into_iter()
            .flat_map(|from| site.addresses(&node).into_iter().map(move |ip| (from, ip)))
            .map(|(from, ip)| {
                let port = if ip.is_ipv4() { 40_004 } else { 40_006 };
                (Asker::new(site.space(from), ip.is_ipv4(), port).unwrap(), (ip, 5353).into())
            })
            .collect();
        let once = Duration::from_millis(50);
        // They ask all the time, so that the kernel never forgets by itself where it sent them.
        askers.iter().for_each(|(asker, at)| assert!(asker.ask_once(*at, once).is_err()));
        for name in ["one", "two"] {
            let pod = site.attach(0, name, &config(attach, &json!([mapping("udp", 5353, 53)])));
            let mirror = mirrors(&site, &pod, name);
            for (asker, at) in &askers {
                assert_eq!(asker.ask(*at).unwrap().0, name, "{attach} {at}");
            }
            drop(mirror);
            site.detach(&pod);
            askers.iter().for_each(|(asker, at)| assert!(asker.ask_once(*at, once).is_err()));
        }
    }
}

#[test]
fn a_udp_conversation_with_somebody_elses_port_of_that_number_goes_on() {
    let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
    let client = site.attach(0, "client", &config("routed", &json!([])));
    let _mirror = Mirror::serve(site.space(&Place::Outside), 5353, "outside");
    let asker = Asker::new(site.space(&client), true, 40_000).unwrap();
    let at = SocketAddr::from((site.addresses(&Place::Outside)[0], 5353));
    let (_, before) = asker.ask(at).unwrap();
    // The port under which it leaves is chosen at random for each conversation.
    site.attach(0, "dns", &config("routed", &json!([mapping("udp", 5353, 53)])));
    assert_eq!(asker.ask(at).unwrap(), ("outside".to_owned(), before));
}
