//! A cluster: a control plane and three nodes without a pod network, and kubectl.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use selvedge_tests::kubernetes::{Folder, Programs, run, say, until};
use serde_json::Value;

use crate::control::Control;
use crate::images;
use crate::node::Node;

/// It is gone when this is dropped, and when the test's process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) control: Control,
    pub(crate) programs: Programs,
    pub(crate) folder: Folder,
}

impl Cluster {
    /// Starts one of three nodes, which are registered then, and not ready. `None` if this user may not.
    pub(crate) fn start() -> Option<Self> {
        let programs = Programs::find()
            .unwrap_or_else(|| panic!("etcd or Kubernetes is not there: run `make kubernetes`"));
        let folder = Folder::new();
        say("the control plane starts");
        // What is printed when it does not come up.
        let guard = Logs(&folder);
        let mut control = Control::start(&folder, &programs)?;
        control.start_controllers(&folder, &programs);
        say("images are made");
        images::make(&folder, &programs);
        say("three nodes boot");
        let nodes: Vec<_> = thread::scope(|scope| {
            let boot = |number| {
                let (control, folder, programs) = (&control, &folder, &programs);
                scope.spawn(move || Node::boot(control, (folder, programs), number))
            };
            let booting = [0, 1, 2].map(boot);
            booting.into_iter().map(|node| node.join().expect("a node boots")).collect()
        });
        drop(guard);
        let mut cluster = Self { nodes, control, programs, folder };
        until(90, "three nodes are registered, with networks for pods", || {
            cluster.nodes.iter_mut().for_each(Node::must_run);
            let nodes = cluster.get("nodes");
            let all = items(&nodes).filter(|node| node["spec"]["podCIDR"].is_string()).count();
            if all == 3 { Ok(()) } else { Err(format!("{all} are")) }
        });
        cluster.control.route_to_pods(&items(&cluster.get("nodes")).collect::<Vec<_>>());
        for node in &mut cluster.nodes {
            node.start_proxy(&cluster.control, &cluster.folder, &cluster.programs);
        }
        say("three nodes are registered");
        Some(cluster)
    }

    /// kubectl with these arguments, at its end: what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        run(self.control.kubectl(&self.programs).args(arguments))
    }

    /// kubectl with words of a line.
    pub(crate) fn type_in(&self, line: &str) -> String {
        self.kubectl(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Objects, as the API has them.
    pub(crate) fn get(&self, what: &str) -> Value {
        let text = self.type_in(&format!("get {what} -o json"));
        serde_json::from_str(&text).unwrap()
    }

    /// Applies manifests that are no file's.
    pub(crate) fn apply(&self, manifest: &Value) {
        let file = self.folder.join("applied.json");
        fs::write(&file, manifest.to_string()).unwrap();
        self.kubectl(&["apply", "-f", &file.display().to_string()]);
    }

    /// Executes a command in a pod; what it printed, if it succeeded.
    pub(crate) fn exec(&self, pod: &str, line: &[&str]) -> Result<String, String> {
        let mut kubectl = self.control.kubectl(&self.programs);
        let output = kubectl.args(["exec", pod, "--"]).args(line).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("start kubectl: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A node by its name.
    pub(crate) fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Takes a node's power away and boots it again.
    pub(crate) fn reboot(&mut self, number: u8) {
        drop(self.nodes.remove(usize::from(number)));
        let mut node = Node::boot(&self.control, (&self.folder, &self.programs), number);
        node.start_proxy(&self.control, &self.folder, &self.programs);
        self.nodes.insert(usize::from(number), node);
    }

    /// Starts the API server that was stopped.
    pub(crate) fn start_api(&mut self) {
        self.control.start_api(&self.folder, &self.programs);
    }

    /// Waits until so many nodes are ready.
    pub(crate) fn nodes_are_ready(&self, count: usize, seconds: u64) {
        until(seconds, &format!("{count} nodes are ready"), || {
            let nodes = self.get("nodes");
            let ready = items(&nodes).filter(|node| is_ready(node)).count();
            if ready == count {
                Ok(())
            } else {
                Err(format!("{ready} are:\n{}", self.type_in("get nodes -o wide")))
            }
        });
    }

    /// What a person would look at: nodes, pods, events.
    fn print(&self) {
        for line in ["get nodes -o wide", "get pods -A -o wide", "get events -A --sort-by=.lastTimestamp"] {
            let mut kubectl: Command = self.control.kubectl(&self.programs);
            kubectl.args(line.split(' ')).args(["--request-timeout", "5s"]);
            let text = kubectl.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let text = text.unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            say(&format!("kubectl {line}\n{}", lines[lines.len().saturating_sub(40)..].join("\n")));
        }
        for pod in self.pods_of_ours() {
            let mut kubectl = self.control.kubectl(&self.programs);
            kubectl.args(["-n", "kube-system", "logs", "--all-containers", "--tail", "40"]);
            kubectl.args(["--request-timeout", "5s", &pod]);
            let text = kubectl.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            say(&format!("the end of {pod}'s log:\n{}", text.unwrap_or_default()));
        }
    }

    fn pods_of_ours(&self) -> Vec<String> {
        let mut kubectl = self.control.kubectl(&self.programs);
        kubectl.args(["-n", "kube-system", "get", "pods", "-o", "name", "--request-timeout", "5s"]);
        let text = kubectl.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.folder.print_logs();
            self.print();
        }
    }
}

struct Logs<'a>(&'a Folder);

impl Drop for Logs<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.print_logs();
        }
    }
}

/// The objects of a list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// A Node's or a Pod's condition `Ready`.
pub(crate) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut ready = conditions.into_iter().flatten().filter(|condition| condition["type"] == "Ready");
    ready.any(|condition| condition["status"] == "True") && object["metadata"]["deletionTimestamp"].is_null()
}
