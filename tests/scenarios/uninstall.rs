//! `selvedge-agent uninstall`: of ours nothing stays, and of others everything.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use selvedge_lab::shape::Attach;
use selvedge_tests::{Cluster, Node, Traces, program};
use serde_json::json;

use crate::site::{alone, on};

/// Other people's objects of each kind that we make too; Docker's policy among them.
const OTHERS: &[&str] = &[
    "ip link add br-other type bridge mcast_snooping 0",
    "ip link set br-other up",
    "ip address add 192.0.2.1/24 dev br-other",
    "ip link add veth-other type veth peer name veth-peer",
    "ip link set veth-other alias somebody-else",
    "ip route add 198.51.100.0/24 via 192.0.2.2 proto static",
    "nft add table inet other",
    "nft add chain inet other forward { type filter hook forward priority 0 ; policy drop ; }",
    "nft add rule inet other forward ip saddr 192.0.2.0/24 accept comment \"theirs\"",
];

fn bin(node: &Node) -> PathBuf {
    node.folder().join("bin")
}

fn uninstall(node: &Node, more: &[&str]) -> Output {
    let mut command = Command::new(program("selvedge-agent"));
    command.arg("uninstall").args(more);
    command.arg("--config").arg(node.folder().join("agent.yaml"));
    command.arg("--cni-conf-dir").arg(node.folder().join("net.d"));
    command.arg("--cni-bin-dir").arg(bin(node)).arg("--run-dir").arg(node.run_dir());
    command.env("NODE_NAME", "node-a");
    node.namespace.run(|| command.output()).unwrap().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn takes_what_is_ours_and_nothing_else(attach: Attach) {
    let _alone = alone();
    let Some(cluster) = Cluster::build(2, attach) else { return };
    let node = &cluster.nodes[0];
    OTHERS.iter().for_each(|line| on(node, line));
    fs::create_dir_all(bin(node)).unwrap();
    fs::create_dir_all(node.folder().join("net.d")).unwrap();
    fs::write(bin(node).join("bridge"), "another plugin").unwrap();
    fs::write(node.folder().join("net.d/20-other.conflist"), r#"{"name": "other", "plugins": []}"#).unwrap();
    let before = Traces::on(&node.namespace, &node.run_dir());

    let agent = node.agent_with(&[("--cni-bin-dir", &bin(node)), ("--plugin", &program("selvedge"))]);
    agent.wait_until_ready();
    let limits = json!({"bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000,
        "egressRate": 8_000_000, "egressBurst": 800_000},
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let _limited = cluster.attach_with(node, "limited", &limits);
    let _plain = cluster.attach(node, "plain");
    let refused = uninstall(node, &["--with-pods"]);
    assert!(!refused.status.success() && told(&refused).contains("an agent runs"), "{}", told(&refused));
    assert_eq!(agent.terminate().code(), Some(0));
    let working = Traces::on(&node.namespace, &node.run_dir());
    let refused = uninstall(node, &[]);
    assert!(
        !refused.status.success() && told(&refused).contains("2 pods are attached"),
        "{}",
        told(&refused)
    );
    let dry = uninstall(node, &["--dry-run"]);
    assert!(
        dry.status.success() && told(&dry).contains("nft delete table inet selvedge\n"),
        "{}",
        told(&dry)
    );
    working.must_be_back_on(&node.namespace, &node.run_dir());

    let done = uninstall(node, &["--with-pods"]);
    assert!(done.status.success(), "{}", told(&done));
    before.must_be_back_on(&node.namespace, &node.run_dir());
    assert!(!node.run_dir().exists() && !node.conflist().exists() && !bin(node).join("selvedge").exists());
    assert!(bin(node).join("bridge").exists() && node.folder().join("net.d/20-other.conflist").exists());
    let again = uninstall(node, &[]);
    assert!(again.status.success() && !told(&again).contains("done"), "{}", told(&again));
    // A node that was left can be come back to.
    let agent = node.agent_with(&[("--cni-bin-dir", &bin(node)), ("--plugin", &program("selvedge"))]);
    agent.wait_until_ready();
}

#[test]
fn routed_pods_and_all_that_serves_them_go_and_what_others_have_stays() {
    takes_what_is_ours_and_nothing_else(Attach::Routed);
}

#[test]
fn the_bridge_and_all_that_serves_it_go_and_what_others_have_stays() {
    takes_what_is_ours_and_nothing_else(Attach::Bridge);
}

#[test]
fn configurations_go_by_what_is_written_in_them_and_the_plugin_stays_with_whoever_has_it_called() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    OTHERS.iter().for_each(|line| on(node, line));
    let rules = || {
        let list = || Command::new("nft").args(["list", "chain", "inet", "other", "forward"]).output();
        told(&node.namespace.run(list).unwrap().unwrap())
    };
    let configuration = fs::read_to_string(node.folder().join("agent.yaml")).unwrap();
    fs::write(node.folder().join("agent.yaml"), format!("{configuration}network: renamed\n")).unwrap();
    let agent = node.agent_with(&[("--cni-bin-dir", &bin(node)), ("--plugin", &program("selvedge"))]);
    agent.wait_until_ready();
    assert_eq!(agent.terminate().code(), Some(0));
    fs::write(node.folder().join("agent.yaml"), configuration).unwrap();
    let ours = fs::read_to_string(node.conflist()).unwrap();
    assert!(ours.contains(r#""name": "renamed""#) && rules().contains("selvedge renamed"), "{}", rules());
    let at = |name: &str| node.conflist().with_file_name(name);
    let theirs = r#"{"name": "other", "plugins": [{"type": "bridge"}]}"#;
    let by_hand = r#"{"name": "mine", "plugins": [{"type": "selvedge", "subnet": "10.9.0.0/24"}]}"#;
    fs::write(node.conflist(), theirs).unwrap();
    fs::write(at("07-renamed.conflist"), &ours).unwrap();
    fs::write(at(".10-selvedge.conflist.tmp"), &ours[..ours.len() / 2]).unwrap();
    fs::write(at("my-backup.txt"), &ours).unwrap();
    fs::write(at("50-mine.conflist"), by_hand).unwrap();
    let done = uninstall(node, &[]);
    assert!(done.status.success(), "{}", told(&done));
    assert!(
        !at("07-renamed.conflist").exists() && !at(".10-selvedge.conflist.tmp").exists(),
        "{}",
        told(&done)
    );
    assert!(!rules().contains("selvedge renamed") && rules().contains("theirs"), "{}", rules());
    assert_eq!(fs::read_to_string(node.conflist()).unwrap(), theirs);
    assert_eq!(fs::read_to_string(at("my-backup.txt")).unwrap(), ours);
    assert_eq!(fs::read_to_string(at("50-mine.conflist")).unwrap(), by_hand);
    let why = format!("{} stays: {}", bin(node).join("selvedge").display(), at("50-mine.conflist").display());
    assert!(bin(node).join("selvedge").exists() && told(&done).contains(&why), "{}", told(&done));
    fs::remove_file(at("50-mine.conflist")).unwrap();
    let done = uninstall(node, &[]);
    assert!(done.status.success() && !bin(node).join("selvedge").exists(), "{}", told(&done));
}
