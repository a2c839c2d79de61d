//! What the agent logs and counts of what policies deny, and of what shadows would.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_netns::Namespace;
use selvedge_nft::NftSocket;
use selvedge_ruleset::{Family, TableId};
use selvedge_tests::{Attached, Echo, Node, connect, within};
use serde_json::{Value, json};

use crate::policy::Ground;
use crate::site::alone;

const AGENT: TableId = TableId::literal(Family::Inet, "selvedge");
/// Where each agent serves its metrics, in its node's namespace.
const LISTEN: &str = "127.0.0.1:9763";

/// How long it takes at most until something is there, in seconds, however busy the machine is.
const SOON: f64 = 30.0;
/// How long nothing is logged where nothing is to be.
const SILENCE: Duration = Duration::from_millis(500);

/// How many packets of a pod's are logged at once, and then in a second.
const BURST: f64 = 10.0;
const RATE: f64 = 1.0;

/// Two nodes whose agents serve metrics, a pod `web` on the second and a pod `other` on the first.
fn ground() -> Option<(Ground, Attached, Attached)> {
    let agent = |node: &Node| {
        let agent = node.agent_with(&[("--listen", Path::new(LISTEN))]);
        agent.wait_until_ready();
        agent
    };
    let mut ground = Ground::with(agent)?;
    let (web, other) = (ground.pod(1, "web"), ground.pod(0, "other"));
    Some((ground, web, other))
}

impl Ground {
    /// The lines of JSON that the second node's agent has written, about packets to a port.
    fn told(&self, port: u16) -> Vec<Value> {
        let log = self.agents[1].log();
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["port"] == port).collect()
    }

    /// What the second node's agent has counted: the sum of a metric's values that have all of these labels.
    fn counted(&self, metric: &str, labels: &[&str]) -> u64 {
        let page = self.cluster.nodes[1].namespace.run(|| {
            let mut stream = TcpStream::connect(LISTEN)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        let page = page.unwrap().unwrap();
        let of = |line: &&str| line.starts_with(metric) && labels.iter().all(|label| line.contains(label));
        page.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn until_counted(&self, metric: &str, labels: &[&str], least: u64) {
        within(SOON, "it is counted", || {
            let counted = self.counted(metric, labels);
            if counted >= least { Ok(()) } else { Err(format!("{metric} {labels:?} is {counted}")) }
        });
    }

    fn namespace(&self, log: &str) {
        let metadata = json!({"name": "shop", "annotations": {"selvedge.dev/log": log}});
        self.cluster
            .put("namespaces", &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})]);
    }

    /// Whether the second node's kernel leads what policies deny there to where it is logged.
    fn kernel_tells(&self) -> bool {
        let listed =
            self.cluster.nodes[1].namespace.run(|| NftSocket::open()?.list(&[AGENT])).unwrap().unwrap();
        let chains = listed[&AGENT].chains.iter();
        let mut rules =
            chains.filter(|(name, _)| name.as_str().starts_with("ingress-")).flat_map(|(_, c)| &c.rules);
        rules.any(|rule| rule.rule.to_string().contains("goto denied-ingress"))
    }
}

/// Sends packets to a port, as fast as it can; how many were sent.
fn send(from: &Namespace, to: (IpAddr, u16), count: usize) -> usize {
    let socket = from.run(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap().unwrap();
    (0..count).filter(|_| socket.send_to(b"x", SocketAddr::from(to)).is_ok()).count()
}

#[test]
fn what_policies_deny_is_logged_and_counted_and_a_flood_of_it_costs_a_few_lines() {
    let _alone = alone();
    let Some((ground, web, other)) = ground() else { return };
    let (from, to) = (other.pod.namespace(), web.addresses[0]);
    ground.policies(&[("deny-all", json!({"podSelector": {"matchLabels": {"app": "web"}}}))]);
    ground.until(1, ("shop/other", "shop/web"), false);
    within(SOON, "it is in the log", || {
        send(from, (to, 7001), 1);
        ground.told(7001).first().cloned().ok_or_else(|| ground.agents[1].log())
    });
    let line = ground.told(7001).remove(0);
    println!("{line}");
    let end = |name: &str, node: usize, address: IpAddr| {
        let node = ground.cluster.nodes[node].plan.name.as_str();
        json!({"namespace": "shop", "pod": name, "labels": {"app": name}, "node": node, "address": address})
    };
    let (mut source, mut destination) = (line["source"].clone(), line["destination"].clone());
    for end in [&mut source, &mut destination] {
        assert!(end.as_object_mut().unwrap().remove("port").is_some());
    }
    assert_eq!([source, destination], [end("other", 0, other.addresses[0]), end("web", 1, to)]);
    assert_eq!([&line["verdict"], &line["direction"], &line["protocol"]], ["denied", "ingress", "UDP"]);
    assert_eq!(line["reason"], "selected by shop/deny-all; no rule of 1 policy admits other on UDP/7001");
    let mine = ["namespace=\"shop\"", "policy=\"deny-all\"", "direction=\"ingress\""];
    ground.until_counted("selvedge_policy_denied_packets_total", &mine, 1);

    flood(&ground, (from, to), &mine);
    silence(&ground, (from, to), &mine);
}

/// Thousands of packets are counted, and a few of them logged.
fn flood(ground: &Ground, (from, to): (&Namespace, IpAddr), mine: &[&str]) {
    let (before, began) = (ground.counted("selvedge_policy_denied_packets_total", mine), Instant::now());
    let mut sent = 0;
    within(SOON, "a flood is denied", || {
        // Some may be lost on the way.
        sent += send(from, (to, 7002), 1_000);
        let denied = ground.counted("selvedge_policy_denied_packets_total", mine) - before;
        if denied >= 2_000 { Ok(()) } else { Err(format!("{denied} of {sent} are counted")) }
    });
    ground.until_counted("selvedge_policy_dropped_packets_total", &["reason=\"policy\""], before + 2_000);
    thread::sleep(SILENCE);
    let (lines, seconds) = (ground.told(7002).len(), began.elapsed().as_secs_f64());
    println!("{sent} packets were sent, {lines} of them are in the log");
    assert!(lines as f64 <= BURST + RATE * seconds + 1.0, "{lines} lines in {seconds} s");
}

/// Nothing is logged where the namespace wants none of it, and all is counted.
fn silence(ground: &Ground, (from, to): (&Namespace, IpAddr), mine: &[&str]) {
    let earlier = ground.counted("selvedge_policy_denied_packets_total", mine);
    ground.namespace("off");
    within(SOON, "nothing is logged", || {
        if ground.kernel_tells() { Err(ground.agents[1].log()) } else { Ok(()) }
    });
    let before = ground.counted("selvedge_policy_denied_packets_total", mine);
    assert!(before >= earlier, "the sum outlasts the chain: {earlier}, then {before}");
    // The pod's share is whole again.
    thread::sleep(Duration::from_secs(1));
    within(SOON, "it is denied", || {
        send(from, (to, 7003), 10);
        let counted = ground.counted("selvedge_policy_denied_packets_total", mine);
        if counted > before { Ok(()) } else { Err(format!("{counted} are counted")) }
    });
    thread::sleep(SILENCE);
    assert!(ground.told(7003).is_empty(), "{:?}", ground.told(7003));
    ground.namespace("all");
    within(SOON, "it is logged again", || {
        send(from, (to, 7004), 1);
        if ground.told(7004).is_empty() { Err(ground.agents[1].log()) } else { Ok(()) }
    });
}

#[test]
fn a_shadow_says_what_it_would_deny_and_everything_passes() {
    let _alone = alone();
    let Some((ground, web, other)) = ground() else { return };
    let (from, to) = (other.pod.namespace(), web.addresses[0]);
    let _echo = Echo::serve(web.pod.namespace());
    let echo = connect(from, to).unwrap().peer_addr().unwrap().port();
    let metadata =
        json!({"namespace": "shop", "name": "trial", "annotations": {"selvedge.dev/mode": "shadow"}});
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 9}]}]});
    let (kind, version) = ("NetworkPolicy", "networking.k8s.io/v1");
    ground
        .cluster
        .put("policies", &[json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})]);
    let why = "selected by shop/trial; no rule of 1 policy admits other on TCP/";
    let says = within(SOON, "the shadow is known", || {
        let explained = ground.until(1, ("shop/other", "shop/web"), true);
        let says = explained["hops"][1]["says"].as_str().unwrap().to_owned();
        if says.contains(why) { Ok(says) } else { Err(says) }
    });
    assert_eq!(says, format!("no policy selects it (a shadow would deny it: {why}8080)"));
    let line = within(SOON, "it is in the log", || {
        // It is really open.
        drop(connect(from, to).unwrap());
        ground
            .told(echo)
            .into_iter()
            .find(|line| line["verdict"] == "would deny")
            .ok_or_else(|| ground.agents[1].log())
    });
    println!("{line}");
    assert_eq!(line["reason"], format!("{why}{echo}"));
    assert_eq!([&line["direction"], &line["destination"]["pod"]], ["ingress", "web"]);
    let mine = ["policy=\"trial\"", "direction=\"ingress\""];
    ground.until_counted("selvedge_policy_shadow_denied_packets_total", &mine, 1);
    assert_eq!(ground.counted("selvedge_policy_dropped_packets_total", &["reason=\"policy\""]), 0);
    assert_eq!(ground.counted("selvedge_policy_dropped_packets_total", &["reason=\"stray\""]), 0);
}
