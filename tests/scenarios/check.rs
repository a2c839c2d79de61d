//! `selvedge-agent check`: one screen, before anything is changed.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use selvedge_lab::shape::Attach;
use selvedge_tests::{Cluster, Node, Traces, program};
use serde_json::Value;

use crate::site::{alone, on};

/// Whether everything was well, and the findings as `VERDICT ABOUT: TEXT`.
fn check(node: &Node, more: &[&str]) -> (bool, Vec<String>) {
    let output = run(node, &[&["--json"], more].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    });
    let findings = answer["findings"].as_array().unwrap().iter().map(|finding| {
        let word = |key: &str| finding[key].as_str().unwrap().to_owned();
        format!("{} {}: {}", word("verdict"), word("about"), word("found"))
    });
    let findings: Vec<String> = findings.collect();
    assert_eq!(output.status.success(), answer["ok"] == true, "{findings:#?}");
    assert_eq!(
        output.status.success(),
        !findings.iter().any(|line| line.starts_with("blocks")),
        "{findings:#?}"
    );
    (output.status.success(), findings)
}

/// As an agent that installs its plugin.
fn run(node: &Node, more: &[&str]) -> Output {
    let plugin = program("selvedge");
    run_bare(node, &[&["--plugin", plugin.to_str().unwrap()], more].concat())
}

fn run_bare(node: &Node, more: &[&str]) -> Output {
    run_as(node, Command::new(program("selvedge-agent")), more)
}

fn run_as(node: &Node, mut command: Command, more: &[&str]) -> Output {
    command.arg("check").args(more).env("NODE_NAME", "node-a").env_remove("KUBERNETES_SERVICE_HOST");
    command.arg("--config").arg(node.folder().join("agent.yaml"));
    command.arg("--cni-conf-dir").arg(node.folder().join("net.d"));
    command.arg("--cni-bin-dir").arg(node.folder().join("bin"));
    command.arg("--run-dir").arg(node.run_dir());
    node.namespace.run(|| command.output()).unwrap().unwrap()
}

fn blocks(findings: &[String]) -> Vec<&str> {
    findings.iter().filter_map(|line| line.strip_prefix("blocks ")).collect()
}

#[test]
fn a_node_that_can_serve_pods_is_told_so_and_left_as_it_is() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Bridge) else { return };
    let node = &cluster.nodes[0];
    let before = Traces::on(&node.namespace, &node.run_dir());
    let (well, findings) = check(node, &["--pod-cidr", "10.244.0.0/16", "--pod-cidr", "fd00:10:244::/56"]);
    assert!(well, "{findings:#?}");
    let kernel = findings.iter().find(|line| line.starts_with("ok kernel")).unwrap();
    for feature in [
        "veth",
        "bridge",
        "VXLAN",
        "nftables fib",
        "nftables masquerade",
        "nftables DNAT by map",
        "conntrack",
        "IPv6",
    ] {
        assert!(kernel.contains(feature), "{feature}: {findings:#?}");
    }
    assert!(!node.folder().join("bin").exists() && !node.run_dir().exists());
    before.must_be_back_on(&node.namespace, &node.run_dir());
    let screen = run(node, &["--pod-cidr", "10.244.0.0/16"]);
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(screen.ends_with("this node can serve pods; nothing was changed\n"), "{screen}");
    assert!(screen.lines().count() <= 24, "it is one screen:\n{screen}");
}

#[test]
fn who_may_make_no_namespaces_is_told_that_the_kernel_was_not_tried() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    // With what deploy/selvedge.yaml grants.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all,+net_admin", "--inh-caps", "-all", "--no-new-privs", "--"]);
    command.arg(program("selvedge-agent"));
    let plugin = program("selvedge");
    let more = ["--plugin", plugin.to_str().unwrap(), "--pod-cidr", "10.244.0.0/16"];
    let output = run_as(&cluster.nodes[0], command, &more);
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{screen}\n{}", String::from_utf8_lossy(&output.stderr));
    let told =
        |line: &str| line.starts_with("note") && line.contains("kernel features not tried: no namespace");
    assert!(screen.lines().any(told), "{screen}");
}

#[test]
fn a_plugin_that_is_yet_to_be_installed_keeps_nothing_and_one_that_cannot_be_run_does() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let fresh = run_bare(node, &["--pod-cidr", "10.244.0.0/16"]);
    let screen = String::from_utf8_lossy(&fresh.stdout);
    assert!(fresh.status.success(), "{screen}");
    assert!(
        screen.lines().any(|line| line.starts_with("note") && line.contains("no plugin yet")),
        "{screen}"
    );
    let plugin = node.folder().join("bin/selvedge");
    fs::create_dir_all(plugin.parent().unwrap()).unwrap();
    fs::write(&plugin, "no program").unwrap();
    let broken = run_bare(node, &["--pod-cidr", "10.244.0.0/16"]);
    let screen = String::from_utf8_lossy(&broken.stdout);
    assert!(!broken.status.success() && screen.contains("no program that can be run"), "{screen}");
}

#[test]
fn the_manifests_port_and_the_plugins_folder_are_looked_at_without_being_named() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let well = run_bare(node, &["--pod-cidr", "10.244.0.0/16"]);
    let screen = String::from_utf8_lossy(&well.stdout);
    let ok = |about: &str, text: &str| {
        screen.lines().any(|line| line.starts_with(&format!("ok       {about}")) && line.contains(text))
    };
    assert!(well.status.success() && ok("port", "127.0.0.1:9763") && ok("disk", "plugins in"), "{screen}");
    let _taken = node.namespace.run(|| TcpListener::bind("127.0.0.1:9763")).unwrap().unwrap();
    // Where nothing can be made, whoever asks.
    std::os::unix::fs::symlink("/proc/sys", node.folder().join("bin")).unwrap();
    let output = run_bare(node, &["--pod-cidr", "10.244.0.0/16"]);
    let screen = String::from_utf8_lossy(&output.stdout);
    let blocks: Vec<&str> = screen.lines().filter(|line| line.starts_with("BLOCKS")).collect();
    assert_eq!((output.status.code(), blocks.len()), (Some(1), 2), "{screen}");
    assert!(blocks.iter().any(|line| line.contains("127.0.0.1:9763: Address already in use")), "{screen}");
    assert!(
        blocks.iter().any(|line| line.contains("plugins in") && line.contains("not writable")),
        "{screen}"
    );
}

#[test]
fn the_clusters_own_pod_cidrs_are_taken_from_where_its_nodes_are() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let manifests = node.folder().with_file_name("manifests");
    let (well, findings) = check(node, &["--manifests", manifests.to_str().unwrap()]);
    assert!(well, "{findings:#?}");
    let cidrs = findings.iter().find(|line| line.starts_with("ok addresses")).unwrap();
    assert!(cluster.nodes.iter().all(|node| cidrs.contains(&node.plan.pod_cidrs[0].to_string())), "{cidrs}");
    let here = ["--manifests", manifests.to_str().unwrap(), "--node"];
    let (_, findings) = check(node, &[&here[..], &["node-a"]].concat());
    assert!(!findings.iter().any(|line| line.contains("no Node of the cluster")), "{findings:#?}");
    let (well, findings) = check(node, &[&here[..], &["stranger"]].concat());
    let stranger = "note node: no Node of the cluster is named stranger yet: the agent waits for it";
    assert!(well && findings.iter().any(|line| line == stranger), "{findings:#?}");
    let (_, findings) = check(node, &[]);
    assert!(
        findings.iter().any(|line| line.contains("overlaps with pod CIDRs can't be told")),
        "{findings:#?}"
    );
}

#[test]
fn a_cluster_that_is_named_and_cannot_be_read_blocks() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    for (flag, words) in [
        ("--kubeconfig", "the kubeconfig /nonexistent can't be read: No such file or directory"),
        ("--manifests", "/nonexistent"),
    ] {
        let (_, findings) = check(&cluster.nodes[0], &[flag, "/nonexistent"]);
        let blocks = blocks(&findings);
        assert!(blocks.len() == 1 && blocks[0].contains(words), "{findings:#?}");
        assert!(!blocks[0].contains('"'), "{blocks:?}");
    }
}

#[test]
fn what_stands_in_the_way_is_named_all_at_once() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Bridge) else { return };
    let node = &cluster.nodes[0];
    on(node, "ip link add cni0 type bridge");
    on(node, "ip route add 10.244.3.0/24 via 172.30.0.99");
    on(node, "nft add table inet other");
    on(node, "nft add chain inet other forward { type filter hook forward priority 0 ; policy drop ; }");
    fs::create_dir_all(node.folder().join("net.d")).unwrap();
    fs::write(node.folder().join("net.d/05-other.conflist"), "{}").unwrap();
    let taken = node.namespace.run(|| TcpListener::bind("172.30.0.11:0")).unwrap().unwrap();
    let taken_at = taken.local_addr().unwrap().to_string();
    let (well, findings) = check(node, &["--pod-cidr", "10.244.0.0/16", "--listen", &taken_at]);
    assert!(!well);
    let blocks = blocks(&findings);
    assert_eq!(blocks.len(), 4, "{findings:#?}");
    for words in ["05-other.conflist", "cni0 was made by somebody else", "route 10.244.3.0/24", "in use"] {
        assert!(blocks.iter().any(|line| line.contains(words)), "{words}: {findings:#?}");
    }
    let firewall = |line: &String| line.starts_with("note firewall: nft inet other forward");
    assert!(findings.iter().any(firewall), "{findings:#?}");
}
