//! Nodes that forward in user space, by containers of the DaemonSet's pod: they encrypt, and how long nothing passes while
//! such a pod is replaced.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use selvedge_lab::patience::patience;
use selvedge_model::PublicKey;
use selvedge_netns::Namespace;
use selvedge_tests::kubernetes::{run, say, until};
use selvedge_tests::{Capture, DRIP, Drip, Echo, Stream, frames_with};

use crate::cluster::{Cluster, items};
use crate::install::Helm;
use crate::node::Node;
use crate::pods;
use crate::table::{self, Between, Place};

/// The port for datagrams.
const PORT: u16 = 9000;

/// A kubelet of 1.20 says that a pod is gone at one of its next looks, ten seconds apart; only then is there another.
const LONGEST: Duration = Duration::from_secs(60);

/// What a user gives for encryption in user space.
const STRICT: [&str; 4] = [
    "forwarder=true",
    "config.transport=wireguard",
    "config.encryption=strict",
    "config.clusterCidrs={10.244.0.0/16}",
];

#[test]
fn nodes_encrypt_in_user_space_and_every_way_between_pods_is_there() {
    let Some(helm) = Helm::find() else { return };
    let Some(cluster) = Cluster::start() else { return };
    helm.install(&cluster, &STRICT);
    every_node_says_its_key(&cluster);
    must_reach_each_other_by(&cluster, "wireguard, path MTU 1440, ok");
    cluster.apply(&table::deployment("web", 6));
    let web = table::pods(&cluster, "web", 6);
    table::must_be_green_between(&cluster, &web, ("web", Between::Overlay));
    nobody_reads_what_pods_say(&cluster, &web);
    let mut check = cluster.control.selvedgectl(&cluster.programs);
    say(&format!("selvedgectl check --connectivity\n{}", run(check.args(["check", "--connectivity"]))));
    cluster.type_in("delete deployment web");
    table::pods(&cluster, "web", 0);
    helm.uninstall(&cluster);
}

fn every_node_says_its_key(cluster: &Cluster) {
    let keys: BTreeSet<PublicKey> = until(60, "every Node is annotated with a key", || {
        let nodes = cluster.get("nodes");
        let said = items(&nodes).map(|node| &node["metadata"]["annotations"][PublicKey::ANNOTATION]);
        let said: Vec<_> = said.collect();
        let keys: Option<_> = said.iter().map(|key| key.as_str()?.parse().ok()).collect();
        keys.ok_or_else(|| format!("{said:?}"))
    });
    assert_eq!(keys.len(), 3, "{keys:?}");
}

/// Waits until every agent says so of both other nodes.
fn must_reach_each_other_by(cluster: &Cluster, how: &str) {
    until(90, &format!("nodes reach each other: {how}"), || {
        let agents = cluster.get("pods -n kube-system -l app.kubernetes.io/name=selvedge");
        for agent in items(&agents) {
            let name = agent["metadata"]["name"].as_str().unwrap_or_default();
            let mut ask = cluster.control.kubectl(&cluster.programs);
            ask.args([
                "-n",
                "kube-system",
                "exec",
                name,
                "-c",
                "agent",
                "--",
                "/opt/selvedge/bin/selvedgectl",
                "status",
            ]);
            let told = ask.output().map_err(|why| why.to_string())?;
            let status = String::from_utf8_lossy(&told.stdout);
            if status.matches(how).count() != 2 {
                return Err(format!("{status}{}", String::from_utf8_lossy(&told.stderr)));
            }
        }
        Ok(())
    });
    say(&format!("nodes reach each other: {how}"));
}

/// A pod of each node, with its namespace and its address.
fn one_on_each(cluster: &Cluster, pods: &[Place]) -> Vec<(Namespace, IpAddr)> {
    let of = |node: &Node| pods.iter().find(|pod| pod.node == node.name).expect("a pod is on each node");
    let each = cluster.nodes.iter().map(of);
    each.map(|pod| (pods::network_of(cluster, pod), pod.address.parse().unwrap())).collect()
}

/// Everyone to the next, and the last to the first.
fn ring<T>(all: &[T]) -> impl Iterator<Item = (&T, &T)> {
    all.iter().zip(all.iter().cycle().skip(1))
}

/// Of what passes between the nodes, what pods say can't be read; what nodes say can, so the rest would have been.
fn nobody_reads_what_pods_say(cluster: &Cluster, web: &[Place]) {
    let pods = one_on_each(cluster, web);
    let address = |node: &Node| node.address.parse().unwrap();
    let nodes: Vec<(&Namespace, IpAddr)> =
        cluster.nodes.iter().map(|node| (node.machine.node(), address(node))).collect();
    let seen = |places: &[(&Namespace, IpAddr)]| {
        let capture = Capture::start(cluster.control.machine().node());
        let drips: Vec<_> = ring(places).map(|(from, to)| Drip::start(*from, *to, PORT)).collect();
        thread::sleep(Duration::from_secs(2));
        let silences: Vec<_> = drips.into_iter().map(Drip::longest_silence).collect();
        assert!(silences.iter().all(|silence| *silence < Duration::from_secs(1)), "{silences:?}");
        frames_with(&capture.end(), &DRIP)
    };
    let pods: Vec<(&Namespace, IpAddr)> = pods.iter().map(|(network, address)| (network, *address)).collect();
    assert_eq!(seen(&pods), 0, "what pods say can be read between the nodes");
    assert!(seen(&nodes) > 100, "what nodes say is not seen");
    say("what pods say can't be read between the nodes");
}

#[test]
fn no_connection_breaks_while_pods_with_forwarders_are_replaced() {
    let Some(helm) = Helm::find() else { return };
    let Some(cluster) = Cluster::start() else { return };
    helm.install(&cluster, &["forwarder=true", "config.transport=udp"]);
    cluster.apply(&table::deployment("web", 6));
    let web = table::pods(&cluster, "web", 6);
    let pods = one_on_each(&cluster, &web);
    let _echoes: Vec<Echo> = pods.iter().map(|(network, _)| Echo::serve(network)).collect();
    must_reach_each_other_by(&cluster, "udp, path MTU 1472, ok");
    let told = |what: &str, silence: Silence| {
        say(&format!("{what}: {silence:?}"));
        let longest = silence.datagrams.iter().max().unwrap();
        assert!(*longest < patience(LONGEST), "nothing passed for {longest:?}");
    };
    let replaced = silence(&pods, || {
        cluster.type_in("-n kube-system rollout restart daemonset selvedge");
        cluster.type_in("-n kube-system rollout status daemonset selvedge --timeout 300s");
    });
    told("udp, pods replaced", replaced);
    let changed = silence(&pods, || helm.upgrade(&cluster, &["config.transport=wireguard"]));
    told("pods replaced, from udp to wireguard", changed);
    must_reach_each_other_by(&cluster, "wireguard, path MTU 1440, ok");
    let replaced = silence(&pods, || helm.upgrade(&cluster, &STRICT));
    told("wireguard, pods replaced, strict from then on", replaced);
    must_reach_each_other_by(&cluster, "wireguard, path MTU 1440, ok");
    table::must_be_green_between(&cluster, &web, ("web", Between::Overlay));
    cluster.type_in("delete deployment web");
    table::pods(&cluster, "web", 0);
    nothing_is_held(&cluster);
}

/// How long nothing came, at most, of each flow.
#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
struct Silence {
    datagrams: Vec<Duration>,
    streams: Vec<Duration>,
}

/// What is done while pods say something to each other, each to the next.
fn silence(pods: &[(Namespace, IpAddr)], done: impl FnOnce()) -> Silence {
    let drips: Vec<_> =
        ring(pods).map(|(from, to)| Drip::start((&from.0, from.1), (&to.0, to.1), PORT)).collect();
    let open = |from: &Namespace, to: IpAddr| Stream::open_for(from, to, Duration::from_secs(120)).unwrap();
    let streams: Vec<_> = ring(pods).map(|(from, to)| open(&from.0, to.1)).collect();
    done();
    // Who has tried in vain for long tries again late.
    thread::sleep(Duration::from_secs(30));
    let datagrams = drips.into_iter().map(Drip::longest_silence).collect();
    let streams = streams.into_iter().map(|stream| stream.close_timed().1).collect();
    Silence { datagrams, streams }
}

/// What is mounted for pods that are gone is mounted in no container of ours either: it would hold their networks.
fn nothing_is_held(cluster: &Cluster) {
    for node in &cluster.nodes {
        for program in ["selvedge-agent", "selvedge-tunnel"] {
            for id in node.machine.processes(program) {
                until(60, &format!("{program} of {} holds no pod's network", node.name), || {
                    let mounts = run(node.machine.command("cat").arg(format!("/proc/{id}/mountinfo")));
                    let held: Vec<_> = mounts.lines().filter(|mount| mount.contains(" nsfs ")).collect();
                    if held.is_empty() { Ok(()) } else { Err(held.join("\n")) }
                });
            }
        }
    }
}
