//! Selvedge, as a user installs it and takes it away.

use std::env;
use std::path::PathBuf;
use std::time::Instant;

use selvedge_tests::kubernetes::{repository, run, say, until};
use selvedge_tests::{client, skipped};

use crate::cluster::{Cluster, is_ready, items};
use crate::node::Node;

/// Imports the image, applies the manifest and waits for the nodes to be ready.
pub(crate) fn install(cluster: &Cluster) {
    import(cluster);
    say("the image is imported; kubectl apply -f deploy/selvedge.yaml");
    let began = Instant::now();
    cluster.kubectl(&["apply", "-f", &manifest()]);
    nodes_get_ready(cluster, began);
}

/// Puts the image on every node.
fn import(cluster: &Cluster) {
    let image =
        env::var_os("SELVEDGE_IMAGE").map_or_else(|| repository("target/selvedge-image.tar"), PathBuf::from);
    assert!(image.is_file(), "{image:?} is not there: run `make image`");
    cluster.nodes.iter().for_each(|node| node.import(&cluster.programs, &image));
}

fn nodes_get_ready(cluster: &Cluster, began: Instant) {
    until(60, "the DaemonSet's pods are started", || {
        let pods = cluster.get("pods -n kube-system -l app.kubernetes.io/name=selvedge");
        let started =
            items(&pods).filter(|pod| pod["status"]["containerStatuses"][0]["state"]["running"].is_object());
        if started.count() == 3 { Ok(()) } else { Err(cluster.type_in("get pods -A")) }
    });
    let started = Instant::now();
    cluster.nodes_are_ready(3, 60);
    let (ready, applied) = (started.elapsed().as_secs_f64(), began.elapsed().as_secs_f64());
    say(&format!(
        "three nodes are ready {ready:.1} s after the agents' start, {applied:.1} s after the manifest"
    ));
    assert!(ready < 30.0, "nodes are to be ready within 10 s; this machine is given 30");
    agents_are_ready(cluster);
}

/// Helm, with which values are given.
pub(crate) struct Helm(PathBuf);

impl Helm {
    /// `None` if it can't be had, which has been said.
    pub(crate) fn find() -> Option<Self> {
        let found = client("helm/helm").map(Self);
        if found.is_none() {
            skipped("helm and kubectl could not be unpacked");
        }
        found
    }

    /// Imports the image, installs the chart and waits for the nodes to be ready.
    pub(crate) fn install(&self, cluster: &Cluster, values: &[&str]) {
        import(cluster);
        let began = Instant::now();
        self.set(cluster, "install", values);
        nodes_get_ready(cluster, began);
        self.wait(cluster);
    }

    /// Changes values, and waits until all agents go by them.
    pub(crate) fn upgrade(&self, cluster: &Cluster, values: &[&str]) {
        self.set(cluster, "upgrade --reuse-values", values);
        self.wait(cluster);
    }

    /// Takes it away as the documentation says, and fails if a node keeps anything of it.
    pub(crate) fn uninstall(&self, cluster: &Cluster) {
        self.upgrade(cluster, &["uninstall=true"]);
        let words = ["uninstall", "selvedge", "--namespace", "kube-system"];
        run(cluster.control.administer(&cluster.programs, &self.0).args(words));
        nothing_is_left(cluster);
    }

    /// Pods that have not been ready for as long as they should are all replaced at once.
    fn wait(&self, cluster: &Cluster) {
        cluster.type_in("-n kube-system rollout status daemonset selvedge --timeout 300s");
    }

    fn set(&self, cluster: &Cluster, verb: &str, values: &[&str]) {
        let chart = repository("deploy/helm/selvedge").display().to_string();
        let place = ["selvedge", &chart, "--namespace", "kube-system"];
        let values = values.iter().flat_map(|value| ["--set", value]);
        let words: Vec<&str> = verb.split(' ').chain(place).chain(values).collect();
        say(&format!("helm {}", words.join(" ").replace(&chart, "deploy/helm/selvedge")));
        run(cluster.control.administer(&cluster.programs, &self.0).args(words));
    }
}

/// Waits until every agent says that it is ready.
pub(crate) fn agents_are_ready(cluster: &Cluster) {
    until(90, "the agents are ready", || {
        let pods = cluster.get("pods -n kube-system -l app.kubernetes.io/name=selvedge");
        let (all, ready) = (items(&pods).count(), items(&pods).filter(|pod| is_ready(pod)).count());
        if all == ready && all == cluster.nodes.len() { Ok(()) } else { Err(format!("{ready} of {all} are")) }
    });
}

fn manifest() -> String {
    let named = env::var_os("SELVEDGE_MANIFEST").map(PathBuf::from);
    named.unwrap_or_else(|| repository("deploy/selvedge.yaml")).display().to_string()
}

/// Takes it away as the documentation says, and fails if a node keeps anything of it.
pub(crate) fn uninstall(cluster: &Cluster) {
    let over = repository("deploy/selvedge-uninstall.yaml").display().to_string();
    cluster.kubectl(&["apply", "-f", &over]);
    cluster.type_in("-n kube-system rollout status daemonset selvedge --timeout 120s");
    cluster.kubectl(&["delete", "-f", &over]);
    nothing_is_left(cluster);
}

fn nothing_is_left(cluster: &Cluster) {
    for node in &cluster.nodes {
        assert_eq!(left_on(node), "", "{}", node.name);
    }
    say("uninstalled, and nothing of ours is left on the nodes");
}

/// What bears our name or mark on a node, a line each.
fn left_on(node: &Node) -> String {
    let list = "{ ip -details link; ip route show table all; ip rule; ip -6 rule; nft list ruleset; iptables-legacy-save;
        ls /etc/cni/net.d /opt/cni/bin /run; } 2>/dev/null | grep -e selvedge -e 'slv[br0-9a-z]' -e 'proto 83' || true";
    run(node.machine.command("sh").args(["-c", list]))
}
