//! The tutorials' connectivity table: from every pod to its own host, the others, pods beside it, pods elsewhere and
//! the internet, with the address that arrived.

use std::collections::BTreeMap;

use selvedge_tests::kubernetes::{run, say, until};
use serde_json::{Value, json};

use crate::cluster::{Cluster, is_ready, items};
use crate::control::{INTERNET, WHO};
use crate::images::WEB;

/// A pod that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) node: String,
}

/// A deployment of pods that serve HTTP, spread over the nodes, with a service before it.
pub(crate) fn deployment(name: &str, replicas: usize) -> Value {
    let labels = json!({"app": name});
    let spread = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": labels}}]);
    let container = json!({"name": "web", "image": WEB, "imagePullPolicy": "Never", "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/cgi-bin/who", "port": 80}, "periodSeconds": 2, "timeoutSeconds": 5}});
    let pod = json!({"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0,
        "topologySpreadConstraints": spread, "containers": [container]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
         "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
         "spec": {"selector": labels, "ports": [{"port": 80}]}},
    ]})
}

/// Waits until so many pods of a deployment are ready, and no others are there; where they are.
pub(crate) fn pods(cluster: &Cluster, name: &str, count: usize) -> Vec<Place> {
    until(180, &format!("{count} pods of {name} are ready"), || {
        let pods = cluster.get(&format!("pods -l app={name}"));
        let mut places: Vec<_> = items(&pods).filter(|pod| is_ready(pod)).map(place).collect();
        places.sort();
        let all = items(&pods).count();
        if (places.len(), all) == (count, count) {
            Ok(places)
        } else {
            Err(format!("{} of {all} are\n{}", places.len(), cluster.type_in("get pods -o wide")))
        }
    })
}

fn place(pod: &Value) -> Place {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Place {
        name: text(&pod["metadata"]["name"]),
        address: text(&pod["status"]["podIP"]),
        node: text(&pod["spec"]["nodeName"]),
    }
}

/// How nodes reach each other's pods, by which one is seen as somebody else on the other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// As packets are: everybody is seen as himself.
    Directly,
    /// In an overlay: nodes see pods as their nodes, and pods see nodes by their overlay addresses.
    Overlay,
}

/// A way that must work.
#[derive(Debug)]
struct Way {
    kind: &'static str,
    /// What the shell executes in the pod; it prints who answered and as whom the pod was seen.
    command: String,
    answer: String,
}

/// Tries every way between these pods, until all work or a minute is over, and prints the table.
///
/// # Panics
/// If one does not work.
pub(crate) fn must_be_green(cluster: &Cluster, pods: &[Place], service: &str) {
    must_be_green_between(cluster, pods, (service, Between::Directly));
}

/// The same, however nodes reach each other.
///
/// # Panics
/// If one does not work.
pub(crate) fn must_be_green_between(cluster: &Cluster, pods: &[Place], (service, between): (&str, Between)) {
    let service =
        cluster.get(&format!("service {service}"))["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let mut table = BTreeMap::new();
    for pod in pods {
        let ways = ways(cluster, (pod, pods), &service, between);
        let script: Vec<_> = ways.iter().map(|way| format!("echo \"$({} 2>&1)\"", way.command)).collect();
        until(60, &format!("every way from {} works", pod.name), || {
            let heard = cluster.exec(&pod.name, &["sh", "-c", &script.join("\n")])?;
            let heard: Vec<_> = heard.lines().collect();
            let wrong: Vec<_> = ways
                .iter()
                .enumerate()
                .filter(|(i, way)| !heard.get(*i).is_some_and(|line| line.starts_with(&way.answer)))
                .map(|(i, way)| {
                    format!("{} ({}): {:?} instead of {}", way.kind, way.command, heard.get(i), way.answer)
                })
                .collect();
            if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
        });
        ways.iter().for_each(|way| *table.entry(way.kind).or_insert(0) += 1);
    }
    nodes_reach_pods(cluster, pods, between);
    let columns: Vec<_> = table.iter().map(|(kind, count)| format!("{kind} {count} ok")).collect();
    say(&format!("from {} pods: {}", pods.len(), columns.join(", ")));
}

fn ways(cluster: &Cluster, (pod, pods): (&Place, &[Place]), service: &str, between: Between) -> Vec<Way> {
    let mut ways = Vec::new();
    let ping = |to: &str| format!("ping -c 1 -W 5 {to} | grep -o '1 packets received'");
    let own = |node: &str| node == pod.node;
    for node in &cluster.nodes {
        let kind = if own(&node.name) { "own host" } else { "other host" };
        let as_its_node = between == Between::Overlay && !own(&node.name);
        let to = &node.address;
        let from = if as_its_node { &cluster.node(&pod.node).address } else { &pod.address };
        let command = format!("nc -w 5 {to} {WHO} </dev/null");
        ways.push(Way { kind, command, answer: format!("{} {from}:", node.name) });
        ways.push(Way { kind, command: ping(to), answer: "1 packets received".into() });
        if own(&node.name) {
            let command = format!("nc -w 5 {INTERNET} {WHO} </dev/null");
            ways.push(Way { kind: "internet, as the host", command, answer: format!("internet {to}:") });
            ways.push(Way {
                kind: "internet, as the host",
                command: ping(INTERNET),
                answer: "1 packets received".into(),
            });
        }
    }
    for other in pods {
        let kind = match (other == pod, own(&other.node)) {
            (true, _) => "itself",
            (_, true) => "pod, same host",
            (_, false) => "pod, other host",
        };
        let command = format!("timeout 5 wget -q -O - http://{}/cgi-bin/who", other.address);
        ways.push(Way { kind, command, answer: format!("{} {}", other.name, pod.address) });
        ways.push(Way { kind, command: ping(&other.address), answer: "1 packets received".into() });
    }
    let command = format!("timeout 5 wget -q -O - http://{service}/cgi-bin/who");
    ways.push(Way {
        kind: "service",
        command,
        answer: String::from(pod.name.split('-').next().unwrap_or_default()),
    });
    ways
}

/// From every node to every pod, seen as that node.
fn nodes_reach_pods(cluster: &Cluster, pods: &[Place], between: Between) {
    let busybox = cluster.programs.debian("bin/busybox");
    for node in &cluster.nodes {
        let network = cluster.get(&format!("node {}", node.name))["spec"]["podCIDR"].clone();
        let overlay = network.as_str().and_then(|net| net.split('/').next()).unwrap_or_default();
        for pod in pods {
            let as_overlay = between == Between::Overlay && node.name != pod.node;
            let seen = if as_overlay { overlay } else { &node.address };
            let mut wget = node.machine.command(&busybox);
            // Its own -T crashes it (busybox-static of bookworm).
            wget.args(["timeout", "5"]).arg(&busybox).args(["wget", "-q", "-O", "-"]);
            let heard = run(wget.arg(format!("http://{}/cgi-bin/who", pod.address)));
            assert_eq!(heard.trim(), format!("{} {seen}", pod.name), "from {}", node.name);
        }
    }
}
