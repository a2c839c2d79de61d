//! Nodes on a segment with their agents and pods: the lab's network, held by the test itself, which may break it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use selvedge_lab::plan::{Place, Plan, PlannedNode};
use selvedge_lab::shape::{Attach, Count, FamilyChoice, Shape};
use selvedge_lab::topology::Topology;
use selvedge_netns::Namespace;
use serde_json::{Value, json};

use crate::{Agent, Call, Picture, Pod, Stage};

/// Nodes `node-a`, `node-b` and on, IPv4 and IPv6, addressed as in the lab. No agent runs at first.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    manifests: PathBuf,
    /// What is between the nodes.
    between: Topology,
    stage: Stage,
}

/// A node of a [`Cluster`].
#[derive(Debug)]
pub struct Node {
    /// Its name, addresses and subnets.
    pub plan: PlannedNode,
    /// Its namespace.
    pub namespace: Namespace,
    folder: PathBuf,
    manifests: PathBuf,
}

/// A pod that has been attached to a node.
#[derive(Debug)]
pub struct Attached {
    /// Its namespace.
    pub pod: Pod,
    /// Its container's id.
    pub container: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The name of its host end.
    pub host_end: String,
    result: Value,
}

impl Cluster {
    /// Builds the nodes' network and writes their manifests. `None` if this user may not make namespaces, which has
    /// been said.
    ///
    /// # Panics
    /// If something of it fails for another reason.
    pub fn build(nodes: u8, attach: Attach) -> Option<Self> {
        Self::of(Self::shape(nodes, attach))
    }

    /// Nodes on one segment, without pods, with the default transport.
    ///
    /// # Panics
    /// If a lab can't have so many nodes.
    pub fn shape(nodes: u8, attach: Attach) -> Shape {
        let nodes = Count::new(nodes).unwrap_or_else(|error| panic!("{error}"));
        Shape::new(nodes, Count::default(), attach, FamilyChoice::Dual)
    }

    /// The same as [`Self::build`] with another network between the nodes, and with another transport.
    ///
    /// # Panics
    /// As [`Self::build`].
    pub fn of(shape: Shape) -> Option<Self> {
        let stage = Stage::new()?;
        let (attach, transport) = (shape.attach, shape.transport);
        let plan = Plan::new(shape);
        let mut topology = Topology::build(&plan).unwrap_or_else(|error| panic!("{error:?}"));
        let manifests = stage.folder().join("manifests");
        fs::create_dir_all(&manifests).unwrap_or_else(|error| panic!("make {manifests:?}: {error}"));
        let mut made = Vec::new();
        for plan in plan.nodes {
            let folder = stage.folder().join(plan.name.as_str());
            fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("make {folder:?}: {error}"));
            write(&folder.join("agent.yaml"), &format!("attach: {attach}\ntransport: {transport}\n"));
            let namespace = topology.places.remove(&Place::Node(plan.name.clone()));
            let namespace = namespace.unwrap_or_else(|| panic!("the lab made no {}", plan.name));
            made.push(Node { plan, namespace, folder, manifests: manifests.clone() });
        }
        let cluster = Self { nodes: made, manifests, between: topology, stage };
        cluster.nodes.iter().for_each(|node| cluster.declare(node, &node.plan.pod_cidrs));
        Some(cluster)
    }

    /// What the nodes have their default route by.
    pub fn router(&self) -> &Namespace {
        &self.between.router
    }

    /// Where the nodes' segments are bridged: every packet between nodes passes one.
    pub fn segments(&self) -> impl Iterator<Item = &Namespace> {
        self.between.segments.values()
    }

    /// Writes a node's manifest, with these subnets.
    pub fn declare(&self, node: &Node, pod_cidrs: &[IpNet]) {
        self.manifest(node, &node.object(pod_cidrs).to_string());
    }

    /// Replaces the text of a node's manifest, whatever it is, as a careful writer does.
    pub fn manifest(&self, node: &Node, text: &str) {
        self.place(text, &self.manifest_of(node));
    }

    /// Writes the manifest of that name, as `policies`, with these objects; without any there is none.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn put(&self, name: &str, objects: &[Value]) {
        let path = self.manifests.join(format!("{name}.yaml"));
        let text: Vec<String> = objects.iter().map(|object| format!("---\n{object}\n")).collect();
        match text.is_empty() {
            true => fs::remove_file(&path).unwrap_or_else(|error| panic!("remove {path:?}: {error}")),
            false => self.place(&text.concat(), &path),
        }
    }

    /// Replaces the text of the manifest of that name, whatever it is.
    pub fn put_text(&self, name: &str, text: &str) {
        self.place(text, &self.manifests.join(format!("{name}.yaml")));
    }

    fn place(&self, text: &str, path: &Path) {
        let draft = self.stage.folder().join("draft");
        write(&draft, text);
        fs::rename(&draft, path).unwrap_or_else(|error| panic!("put {path:?} in place: {error}"));
    }

    /// Removes a node's manifest.
    pub fn remove(&self, node: &Node) {
        let path = self.manifest_of(node);
        fs::remove_file(&path).unwrap_or_else(|error| panic!("remove {path:?}: {error}"));
    }

    /// Makes a pod that is attached to nothing yet.
    pub fn pod(&self) -> Pod {
        self.stage.pod()
    }

    /// Makes a pod and attaches it to a node as its agent has it.
    ///
    /// # Panics
    /// If the plugin fails.
    pub fn attach(&self, node: &Node, container: &str) -> Attached {
        self.attach_with(node, container, &json!({}))
    }

    /// The same with what a runtime adds for this container: its `runtimeConfig`.
    ///
    /// # Panics
    /// If the plugin fails.
    pub fn attach_with(&self, node: &Node, container: &str, runtime: &Value) -> Attached {
        self.attach_as(node, (container, self.pod()), (runtime, ""))
    }

    /// The same in a pod that there is, with CNI_ARGS.
    ///
    /// # Panics
    /// If the plugin fails.
    pub fn attach_as(
        &self,
        node: &Node,
        (container, pod): (&str, Pod),
        (runtime, args): (&Value, &str),
    ) -> Attached {
        let mut config = node.plugin_config();
        config["runtimeConfig"] = runtime.clone();
        let answer = Call::new("ADD", config).of(container, &pod).with("CNI_ARGS", args).run(&node.namespace);
        let result = answer.result().clone();
        let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
        let address = |ip: &Value| ip["address"].as_str()?.parse::<IpNet>().ok();
        let addresses: Vec<IpAddr> = ips.iter().filter_map(address).map(|net| net.addr()).collect();
        assert_eq!(addresses.len(), 2, "an address a family: {result}");
        let links = result["interfaces"].as_array().map(Vec::as_slice).unwrap_or_default();
        let host_end = links.iter().filter_map(|link| link["name"].as_str()).find(|n| n.starts_with("slv"));
        let host_end = host_end.unwrap_or_else(|| panic!("no host end in {result}")).to_owned();
        Attached { pod, container: container.to_owned(), addresses, host_end, result }
    }

    /// Detaches a pod from its node.
    ///
    /// # Panics
    /// If the plugin fails.
    pub fn detach(&self, node: &Node, pod: &Attached) {
        let mut config = node.plugin_config();
        config["prevResult"] = pod.result.clone();
        let answer = Call::new("DEL", config).of(&pod.container, &pod.pod).run(&node.namespace);
        assert_eq!(answer.code, 0, "{:?}\n{}", answer.stdout, answer.stderr);
    }

    fn manifest_of(&self, node: &Node) -> PathBuf {
        self.manifests.join(format!("{}.json", node.plan.name))
    }
}

impl Node {
    /// Its Node object, with these subnets.
    pub fn object(&self, pod_cidrs: &[IpNet]) -> Value {
        let addresses = self.plan.addresses.iter();
        let addresses: Vec<Value> =
            addresses.map(|net| json!({"type": "InternalIP", "address": net.addr()})).collect();
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": self.plan.name.as_str()},
            "spec": {"podCIDRs": pod_cidrs}, "status": {"addresses": addresses}
        })
    }

    /// Replaces the configuration that its next agent reads.
    pub fn configure(&self, text: &str) {
        write(&self.folder.join("agent.yaml"), text);
    }

    /// Where its configuration is, and what its agent makes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the node's agent and returns at once.
    pub fn start_agent(&self) -> Agent {
        self.agent_of(("--manifests", &self.manifests))
    }

    /// The same with another source of the cluster: the flag that names it, and its path.
    pub fn agent_of(&self, source: (&str, &Path)) -> Agent {
        Agent::start(self.plan.name.as_str(), &self.namespace, (&self.folder, source))
    }

    /// The same with more flags and their values, the manifests as the source.
    pub fn agent_with(&self, more: &[(&str, &Path)]) -> Agent {
        let source = ("--manifests", self.manifests.as_path());
        Agent::start_with(self.plan.name.as_str(), &self.namespace, (&self.folder, source, more))
    }

    /// Starts the node's agent and waits until it serves pods.
    pub fn ready_agent(&self) -> Agent {
        let agent = self.start_agent();
        agent.wait_until_ready();
        agent
    }

    /// The node as it is now.
    pub fn picture(&self) -> Picture {
        Picture::of(&self.namespace, &self.conflist())
    }

    /// Where its agent writes the conflist.
    pub fn conflist(&self) -> PathBuf {
        self.folder.join("net.d/10-selvedge.conflist")
    }

    /// Where its state is.
    pub fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The configuration of the plugin, as a runtime makes it of the conflist.
    ///
    /// # Panics
    /// If there is no conflist.
    pub fn plugin_config(&self) -> Value {
        let path = self.conflist();
        let text = fs::read(&path).unwrap_or_else(|error| panic!("read {path:?}: {error}"));
        let list: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let mut config = list["plugins"][0].clone();
        config["cniVersion"] = list["cniVersion"].clone();
        config["name"] = list["name"].clone();
        config
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("write {path:?}: {error}"));
}
