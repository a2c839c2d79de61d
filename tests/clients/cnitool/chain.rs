//! Ours first with the reference plugins behind it, and ours behind one of them.

use std::time::Duration;

use selvedge_tests::Echo;
use serde_json::{Value, json};

use super::site::{self, NODE, reach, time_there_and_back};
use super::{Cnitool, Container, Suite};
use crate::ip;

const ATTACH: [&str; 2] = ["bridge", "routed"];

/// The addresses of the first container, as they stand before a port.
const WEB: [&str; 2] = ["10.244.1.2", "[fd00:10:244:1::2]"];

/// A node, a host outside and two containers on a network whose first plugin is ours.
struct Chained {
    tool: Cnitool,
    outside: Container,
    web: Container,
    client: Container,
    result: Value,
}

/// Plugins behind ours.
struct Chain {
    plugins: Vec<Value>,
    /// What the runtime asks of the capabilities: for the first container, and for the other.
    asked: [Value; 2],
    /// Whether br_netfilter, where the kernel has it, is in force on the node.
    bridge_netfilter: bool,
    /// The containers are there.
    look: fn(&Chained),
}

impl Chain {
    fn of(plugins: &[Value], look: fn(&Chained)) -> Self {
        Self { plugins: plugins.to_vec(), asked: [json!({}), json!({})], bridge_netfilter: true, look }
    }

    fn asking(self, web: &Value, client: &Value) -> Self {
        Self { asked: [web.clone(), client.clone()], ..self }
    }

    fn without_bridge_netfilter(self) -> Self {
        Self { bridge_netfilter: false, ..self }
    }

    /// Adds two containers, has the test look, checks, and deletes both, in every suite and way to attach pods:
    /// nothing of them may be left.
    fn run(&self) {
        for (suite, attach) in Suite::ALL.iter().flat_map(|suite| ATTACH.map(|attach| (*suite, attach))) {
            let Some((tool, outside)) = site::node(suite) else { return };
            println!("attach {attach}, br_netfilter {}", self.bridge_netfilter);
            site::set_bridge_netfilter(&tool, self.bridge_netfilter);
            self.have_one_of_theirs(&tool, suite);
            let mut chain = vec![tool.ours(attach)];
            chain[0]["nodeAddresses"] = json!(NODE);
            chain.extend_from_slice(&self.plugins);
            tool.configure(suite.newest(), &chain);
            let before = tool.footprint();
            let [web, client] = [("web", 0), ("client", 1)].map(|(name, number): (_, usize)| {
                tool.container(name).with("CAP_ARGS", &self.asked[number].to_string())
            });
            let result = tool.add(&web);
            tool.add(&client);
            let chained = Chained { tool, outside, web, client, result };
            chained.everybody_reaches_everybody();
            (self.look)(&chained);
            chained.must_check_and_go(suite);
            chained.tool.must_be_back(&before);
        }
    }

    /// What the reference plugins make once for all containers is there before ours is looked at.
    fn have_one_of_theirs(&self, tool: &Cnitool, suite: Suite) {
        let ranges = json!([[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]]);
        let mut chain = vec![json!({"type": "ptp", "ipam": {"type": "host-local", "ranges": ranges}})];
        chain.extend_from_slice(&self.plugins);
        tool.configure(suite.newest(), &chain);
        let ports = ["tcp", "udp"].map(|p| json!({"hostPort": 9999, "containerPort": 9, "protocol": p}));
        let theirs = tool.container("theirs").with("CAP_ARGS", &json!({"portMappings": ports}).to_string());
        tool.add(&theirs);
        tool.run("del", &theirs).done();
    }
}

impl Chained {
    fn everybody_reaches_everybody(&self) {
        let (_echo, _other) = (Echo::serve(self.web.namespace()), Echo::serve(self.outside.namespace()));
        for to in WEB {
            self.must_reach(&format!("{to}:7"), &["the node", "client", "web"]);
        }
        for to in ["172.30.0.1", "[fd00:30::1]"] {
            self.must_reach(&format!("{to}:7"), &["web", "client"]);
        }
    }

    fn must_reach(&self, to: &str, from: &[&str]) {
        for name in from {
            let place = match *name {
                "web" => self.web.namespace(),
                "client" => self.client.namespace(),
                "outside" => self.outside.namespace(),
                _ => self.tool.node(),
            };
            reach(place, to).unwrap_or_else(|error| panic!("from {name} to {to}: {error}"));
        }
    }

    fn must_check_and_go(&self, suite: Suite) {
        for container in [&self.web, &self.client] {
            let said = self.tool.run("check", container);
            let ours = (self.tool.was_asked("CHECK"), self.tool.answered("CHECK"));
            assert_eq!(ours, (true, None), "{said:?}");
            // Bookworm's portmap looks for the IPv4 rules of a container with both families among those of IPv6.
            if suite == Suite::Sid || said.succeeded() {
                said.done();
            } else {
                assert!(said.reason().starts_with("could not check ipv6 dnat"), "{said:?}");
            }
            self.tool.run("del", container).done();
            self.tool.run("del", container).done();
        }
    }
}

fn portmap() -> Value {
    json!({"type": "portmap", "capabilities": {"portMappings": true}})
}

fn published() -> Value {
    json!([{"hostPort": 8080, "containerPort": 7, "protocol": "tcp"}])
}

fn is_published(chained: &Chained) {
    let _echo = Echo::serve(chained.web.namespace());
    for address in ["172.30.0.11:8080", "[fd00:30::11]:8080"] {
        chained.must_reach(address, &["outside", "the node", "client", "web"]);
    }
}

#[test]
fn portmap_behind_ours_publishes_a_port_to_everybody() {
    let chain = Chain::of(&[portmap()], is_published);
    chain.asking(&json!({"portMappings": published()}), &json!({})).without_bridge_netfilter().run();
}

/// br_netfilter has what one pod sends to the published port of another, or its own, translated on the bridge, and
/// carried on from port to port; isolated ports dropped it.
#[test]
fn br_netfilter_does_not_keep_pods_of_a_bridge_from_published_ports_of_their_own_node() {
    let chain = Chain::of(&[portmap()], is_published);
    chain.asking(&json!({"portMappings": published()}), &json!({})).run();
}

/// Bits a second, two megabytes of them, and bits of burst.
fn limits() -> Value {
    json!({"ingressRate": 16_000_000, "ingressBurst": 400_000, "egressRate": 16_000_000, "egressBurst": 400_000})
}

fn bandwidth() -> Value {
    json!({"type": "bandwidth", "capabilities": {"bandwidth": true}})
}

#[test]
fn bandwidth_behind_ours_limits_the_container() {
    let chain = Chain::of(&[bandwidth()], |chained| {
        let _echo = Echo::serve(chained.web.namespace());
        let took = time_there_and_back(chained.tool.node(), &format!("{}:7", WEB[0]), 2_000_000);
        assert!(took > Duration::from_millis(800) && took < Duration::from_secs(20), "{took:?}");
    });
    // Its CHECK, in bookworm, dies of a container without limits.
    let limits = json!({"bandwidth": limits()});
    chain.asking(&limits, &limits).run();
}

const MAC: &str = "02:00:00:00:00:07";

fn tuning() -> Value {
    json!({"type": "tuning", "capabilities": {"mac": true}, "mtu": 1400,
        "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}})
}

#[test]
fn tuning_behind_ours_changes_the_mac_and_the_container_is_still_reached() {
    let chain = Chain::of(&[tuning()], |chained| {
        let interfaces = chained.result["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.last().unwrap()["mac"], MAC);
        let link = ip::must(chained.web.namespace(), "ip link show eth0");
        assert!(link.contains(MAC) && link.contains("mtu 1400"), "{link}");
    });
    chain.asking(&json!({"mac": MAC}), &json!({})).run();
}

#[test]
fn firewall_behind_ours_lets_the_container_through() {
    Chain::of(&[json!({"type": "firewall", "backend": "iptables"})], |_| {}).run();
}

#[test]
fn all_of_them_behind_ours_work_together() {
    let firewall = json!({"type": "firewall", "backend": "iptables"});
    let chain = Chain::of(&[tuning(), bandwidth(), firewall, portmap()], is_published);
    let web = json!({"mac": MAC, "bandwidth": limits(), "portMappings": published()});
    chain.asking(&web, &json!({"bandwidth": limits()})).run();
}

/// The reference ptp makes the interface that ours would make: ours says so, and everything of the attempt goes.
#[test]
fn behind_ptp_ours_says_that_it_must_come_first() {
    for (suite, attach) in Suite::ALL.iter().flat_map(|suite| ATTACH.map(|attach| (*suite, attach))) {
        let Some((tool, _outside)) = site::node(suite) else { return };
        let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]]});
        tool.configure(suite.newest(), &[json!({"type": "ptp", "ipam": ipam}), tool.ours(attach)]);
        let (web, before) = (tool.container("web"), tool.footprint());
        let said = tool.run("add", &web);
        let answer = tool.answered("ADD").unwrap();
        assert_eq!(answer["code"], 7, "{answer}");
        let reason = answer["msg"].as_str().unwrap();
        assert!(reason.contains("put selvedge first") && said.reason().contains(reason), "{said:?}");
        assert!(ip::has_link(web.namespace(), "eth0"), "ptp's own interface is not ours to take away");
        for _ in 0..2 {
            tool.run("del", &web).done();
            tool.must_be_back(&before);
        }
    }
}

/// loopback makes another interface, so ours adds its own to what is there; the Go types read the result as one.
#[test]
fn behind_loopback_ours_adds_its_interface_to_the_result() {
    for (suite, attach) in Suite::ALL.iter().flat_map(|suite| ATTACH.map(|attach| (*suite, attach))) {
        let Some((tool, _outside)) = site::node(suite) else { return };
        tool.configure(suite.newest(), &[json!({"type": "loopback"}), tool.ours(attach)]);
        let (web, before) = (tool.container("web"), tool.footprint());
        let result = tool.add(&web);
        let list = |key: &str, field: &str| -> Vec<String> {
            let items = result[key].as_array().unwrap().iter();
            items.map(|item| item[field].as_str().unwrap().to_owned()).collect()
        };
        let interfaces = list("interfaces", "name");
        assert_eq!((interfaces[0].as_str(), interfaces.last().unwrap().as_str()), ("lo", "eth0"));
        let [ours4, ours6] = match attach {
            "bridge" => ["10.244.1.2/24", "fd00:10:244:1::2/64"],
            _ => ["10.244.1.2/32", "fd00:10:244:1::2/128"],
        };
        assert_eq!(list("ips", "address"), ["127.0.0.1/8", "::1/128", ours4, ours6]);
        assert_eq!(result["ips"][3]["interface"], interfaces.len() - 1);
        tool.run("check", &web).done();
        tool.run("del", &web).done();
        tool.must_be_back(&before);
    }
}
