//! `selvedgectl` for a whole cluster: real agents, with a script in kubectl's place that executes in their pods.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{self, Child, Command, Output};

use k8s_openapi::api::core::v1::Pod;
use selvedge_lab::shape::Attach;
use selvedge_tests::{Attached, Cluster, program, within};
use serde_json::{Value, json};

use crate::manifests::typed;
use crate::site::{output, printed, text};

#[test]
fn one_table_shows_every_node_of_a_cluster() {
    let Some(cluster) = Cluster::build(3, Attach::Routed) else { return };
    let [a, b, c] = &cluster.nodes[..] else { panic!("three nodes") };
    let agents = [a.ready_agent(), b.ready_agent()];
    let folder = a.folder().parent().expect("the nodes' folders lie in one");
    play_kubectl(folder, [&a.plan, &b.plan, &c.plan].map(|plan| plan.name.as_str()), &json!([]));

    let shown = ctl(folder, "selvedgectl", &["status", "--cluster"]);
    let table = String::from_utf8_lossy(&shown.stdout);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..2], ["node-a", "ready"], "{table}");
    assert_eq!(lines[2][..2], ["node-b", "ready"], "{table}");
    assert_eq!(lines[3], ["node-c", "silent"], "{table}");
    assert!(table.contains("node-c: kubectl exec agent-of-node-c") && table.contains("not found"), "{table}");
    assert!(table.ends_with("2 of 3 nodes are ready.\n"), "{table}");
    assert_eq!(shown.status.code(), Some(1), "{table}");

    let shown = ctl(folder, "kubectl-selvedge", &["status", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["nodes"][0]["status"]["node"], "node-a");
    assert!(shown["nodes"][2]["error"].is_string(), "{shown}");
    drop(agents);
}

#[test]
fn every_lease_of_a_cluster_is_told_with_its_pod() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let agents = [a.ready_agent(), b.ready_agent()];
    let (web, stray) = (cluster.attach(a, "web-0"), cluster.attach(b, "stray"));
    let folder = a.folder().parent().expect("the nodes' folders lie in one");
    let pod = json!({"metadata": {"namespace": "shop", "name": "web-0"}, "spec": {},
        "status": {"phase": "Running", "podIPs": [{"ip": web.addresses[0]}]}});
    play_kubectl(folder, [&a.plan, &b.plan].map(|plan| plan.name.as_str()), &json!([pod]));

    let shown = ctl(folder, "kubectl-selvedge", &["ipam", "--json"]);
    let leases: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let told = |at: usize| {
        let lease = &leases["leases"][at];
        ["node", "pod", "container", "hostEnd"].map(|field| lease[field].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(told(0), ["node-a", "shop/web-0", "web-0", &web.host_end], "{leases}");
    assert_eq!(told(1), ["node-b", "-", "stray", &stray.host_end], "{leases}");

    // On a node there is no kubectl to ask.
    let mut own = Command::new(program("selvedgectl"));
    let table = printed(own.arg("--run-dir").arg(a.run_dir()).arg("ipam").env("PATH", "/nonexistent"));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 2 && lines[1].contains(&web.addresses[0].to_string()), "{table}");
    drop(agents);
}

#[test]
fn a_cluster_that_kubectl_cannot_reach_is_said_in_its_words() {
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let folder = cluster.nodes[0].folder();
    play_kubectl(folder, [], &json!([]));
    let shown = ctl(folder, "selvedgectl", &["status", "--cluster", "--namespace", "elsewhere"]);
    let said = String::from_utf8_lossy(&shown.stderr);
    assert!(said.contains("kubectl get nodes") && said.contains("which namespace?"), "{said}");
    assert_eq!(shown.status.code(), Some(2));

    let mut command = Command::new(program("selvedgectl"));
    let shown = output(command.args(["status", "--cluster"]).env("PATH", "/nonexistent"));
    let said = String::from_utf8_lossy(&shown.stderr);
    assert!(said.contains("start kubectl"), "{said}");
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(Command::new(program("selvedgectl")).args(["completions", shell]));
        assert!(script.contains("ipam") && script.contains("kubeconfig"), "{shell}: {script}");
    }
}

#[test]
fn every_path_between_pods_and_nodes_is_tried_and_all_is_taken_away_again() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let agents = [a.ready_agent(), b.ready_agent()];
    let folder = a.folder().parent().expect("the nodes' folders lie in one");
    play_kubectl(folder, [&a.plan, &b.plan].map(|plan| plan.name.as_str()), &json!([]));
    let mut pods = stand_pods_up(&cluster, folder);
    // A pod asks 4 pods and 2 nodes, a node asks 4 pods, each in two families.
    let check = || ctl(folder, "kubectl-selvedge", &["check", "--connectivity"]);
    within(30.0, "every path works", || {
        let shown = check();
        let table = String::from_utf8_lossy(&shown.stdout).into_owned();
        let whole = shown.status.success() && table.contains("64 of 64 paths as expected.");
        if whole { Ok(()) } else { Err(format!("{table}{}", String::from_utf8_lossy(&shown.stderr))) }
    });
    let applied = text(&folder.join("applied"));
    let list: Value =
        serde_json::from_str(applied.lines().nth(1).expect("a namespace, then pods")).expect("JSON");
    let probe = &list["items"][0];
    assert_eq!(typed::<Pod>(probe), *probe);
    assert_eq!(probe["spec"]["containers"][0]["image"], "selvedge:1.2.3");

    let (answering, pod) = pods.remove(0);
    drop(answering);
    let shown = check();
    let table = String::from_utf8_lossy(&shown.stdout);
    assert!(table.contains("probe-node-b-0 to probe-node-a-0") && table.contains("FAILED"), "{table}");
    assert_eq!(shown.status.code(), Some(1), "{table}");
    // One in which nothing can be asked any more spoils its own paths alone.
    drop(pod);
    let shown = check();
    let table = String::from_utf8_lossy(&shown.stdout);
    assert!(table.contains("probe-node-a-0 to probe-node-b-0") && table.contains("nsenter"), "{table}");
    assert!(!table.contains("probe-node-a-1 to probe-node-b-0"), "{table}");
    let calls = text(&folder.join("calls"));
    let deleted = calls.matches("delete namespace selvedge-check-").count();
    assert_eq!(deleted, calls.matches("get nodes").count(), "each time: {calls}");
    drop(agents);
}

/// Two pods on each node that answer, and the lists that tell of them and of the nodes' addresses.
fn stand_pods_up(cluster: &Cluster, folder: &Path) -> Vec<(Answering, Attached)> {
    let (mut pods, mut objects) = (Vec::new(), Vec::new());
    for node in &cluster.nodes {
        let path = format!("/proc/{}/fd/{}", process::id(), node.namespace.as_fd().as_raw_fd());
        put(folder, &format!("agent-of-{}.namespace", node.plan.name), &path);
        for at in 0..2 {
            let name = format!("probe-{}-{at}", node.plan.name);
            let pod = cluster.attach(node, &name);
            let path = pod.pod.path().display().to_string();
            put(folder, &format!("{name}.namespace"), &path);
            let ips: Vec<Value> = pod.addresses.iter().map(|ip| json!({"ip": ip})).collect();
            objects.push(json!({"metadata": {"name": name}, "spec": {"nodeName": node.plan.name.as_str()},
                "status": {"podIPs": ips, "containerStatuses": [{"ready": true}]}}));
            pods.push((Answering::start(&path), pod));
        }
    }
    put(folder, "probes.json", &json!({"items": objects}).to_string());
    let nodes = cluster.nodes.iter().map(|node| {
        let mut object = node.object(&node.plan.pod_cidrs);
        object["metadata"] = json!({"name": node.plan.name.as_str()});
        object
    });
    put(folder, "nodes.json", &json!({"items": nodes.collect::<Vec<_>>()}).to_string());
    pods
}

/// `selvedgectl probe answer` in a namespace, killed when dropped and when the test process is.
struct Answering(Child);

impl Answering {
    fn start(namespace: &str) -> Self {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={namespace}")).args(["setpriv", "--pdeathsig", "KILL", "--"]);
        let child = command.arg(program("selvedgectl")).args(["probe", "answer"]).spawn();
        Self(child.unwrap_or_else(|error| panic!("start nsenter: {error}")))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Puts the script and its lists into a folder.
fn play_kubectl<const N: usize>(folder: &Path, nodes: [&str; N], pods: &Value) {
    put(folder, "kubectl", include_str!("kubectl.sh"));
    fs::set_permissions(folder.join("kubectl"), fs::Permissions::from_mode(0o755)).expect("executable");
    let node = |name: &&str| json!({"metadata": {"name": name}});
    let agent = |name: &&str| {
        let spec = json!({"nodeName": name, "containers": [{"image": "selvedge:1.2.3"}]});
        json!({"metadata": {"name": format!("agent-of-{name}")}, "spec": spec})
    };
    let list = |items: Vec<Value>| json!({"items": items}).to_string();
    put(folder, "nodes.json", &list(nodes.iter().map(node).collect()));
    put(folder, "agents.json", &list(nodes.iter().map(agent).collect()));
    put(folder, "pods.json", &json!({"items": pods}).to_string());
}

fn put(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap_or_else(|error| panic!("write {name}: {error}"));
}

/// What the program prints under one of its names.
fn ctl(folder: &Path, name: &str, arguments: &[&str]) -> Output {
    let link = folder.join(name);
    if !link.exists() {
        symlink(program("selvedgectl"), &link).expect("a link");
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(link);
    output(command.args(arguments).env("PATH", path).env("SELVEDGECTL", program("selvedgectl")))
}
