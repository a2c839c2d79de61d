//! The lab while it stands: nodes with their agents, pods with their attachments.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use selvedge_model::{NodeName, PodKey};
use selvedge_netlink::NetlinkError;
use selvedge_netns::{Namespace, NetnsError};

use crate::agent::{Agent, AgentError, AgentFiles, NodeDirs};
use crate::limits::{TooManyPaths, probeable};
use crate::manifest;
use crate::matrix::Matrix;
use crate::path::{fixed_addresses, paths};
use crate::plan::{Place, Plan};
use crate::probe::{ProbeError, Timing, probe};
use crate::runtime::{Attached, CniError, Conflist};
use crate::shape::{Shape, Transport};
use crate::status::{NodeStatus, PodStatus, Status};
use crate::topology::{Topology, TopologyError};

mod pods;

/// What a lab is made of and where its files are.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What it looks like.
    pub shape: Shape,
    /// Where the binaries `selvedge` and `selvedge-agent` are.
    pub bin_dir: PathBuf,
    /// A directory for manifests, logs and the agents' files, empty at first.
    pub files: PathBuf,
    /// A directory in which the namespaces are kept by name, empty at first.
    pub netns: PathBuf,
}

/// A lab that stands.
#[derive(Debug)]
pub struct Cluster {
    setup: Setup,
    plan: Plan,
    topology: Topology,
    agents: BTreeMap<NodeName, Agent>,
    pods: BTreeMap<PodKey, Pod>,
    ready_after: Duration,
}

/// A pod that is attached.
#[derive(Debug)]
struct Pod {
    conflist: Conflist,
    attached: Attached,
}

/// Why a lab does not stand, or can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The machines and wires.
    #[error("build the lab's network")]
    Topology(#[from] TopologyError),
    /// A node agent.
    #[error("start the node agents")]
    Agent(#[from] AgentError),
    /// A pod.
    #[error("attach the pods")]
    Cni(#[from] CniError),
    /// The probes.
    #[error("probe the paths")]
    Probe(#[from] ProbeError),
    /// There are too many paths.
    #[error(transparent)]
    TooManyPaths(#[from] TooManyPaths),
    /// A file of the lab's own.
    #[error("write {path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A namespace.
    #[error("keep the namespace of {name}")]
    Namespace {
        /// Whose.
        name: String,
        /// Why.
        source: NetnsError,
    },
    /// What is left on a node can't be seen.
    #[error("look for what is left on {node}")]
    Leftovers {
        /// The node.
        node: NodeName,
        /// Why.
        source: NetlinkError,
    },
}

impl Cluster {
    /// Builds a lab: network, agents, pods. `progress` is told what is being done.
    ///
    /// # Errors
    /// [`LabError`]. What was built until then goes with the caller's mount and PID namespaces.
    pub fn build(setup: Setup, mut progress: impl FnMut(&str)) -> Result<Self, LabError> {
        let begun = Instant::now();
        let plan = Plan::new(setup.shape.clone());
        progress("making the nodes' network");
        let topology = Topology::build(&plan)?;
        let (agents, pods, ready_after) = (BTreeMap::new(), BTreeMap::new(), begun.elapsed());
        let mut lab = Self { setup, plan, topology, agents, pods, ready_after };
        lab.keep_namespaces()?;
        progress("starting the node agents");
        lab.write_manifests()?;
        lab.start_agents()?;
        progress("attaching the pods");
        lab.attach_pods()?;
        lab.write_manifests()?;
        lab.ready_after = begun.elapsed();
        Ok(lab)
    }

    /// Probes every path.
    ///
    /// # Errors
    /// [`LabError::Probe`] or [`LabError::TooManyPaths`] where that is not possible; broken paths are in the matrix.
    pub fn matrix(&self) -> Result<Matrix, LabError> {
        probeable(&self.setup.shape)?;
        let mut addresses = fixed_addresses(&self.plan);
        addresses.extend(self.pod_addresses().into_iter().map(|(pod, ips)| (Place::Pod(pod), ips)));
        let timing = Timing::with(self.setup.shape.network.loss);
        Ok(probe(&self.topology.places, &addresses, paths(&self.plan), timing)?)
    }

    /// What there is and how it is.
    pub fn status(&mut self) -> Status {
        let addresses = self.pod_addresses();
        let pods = self.plan.pods().map(|(node, pod)| PodStatus {
            pod: pod.clone(),
            node: node.name.clone(),
            addresses: addresses.get(pod).cloned().unwrap_or_default(),
        });
        let pods = pods.collect();
        let agents = &mut self.agents;
        let nodes = self.plan.nodes.iter().filter_map(|node| {
            let agent = agents.get_mut(&node.name)?;
            Some(NodeStatus {
                name: node.name.clone(),
                segment: node.segment,
                addresses: node.addresses.iter().map(IpNet::addr).collect(),
                run_dir: agent.dirs().run(),
                agent: agent.state(),
            })
        });
        Status {
            shape: self.setup.shape.clone(),
            ready_after_ms: u64::try_from(self.ready_after.as_millis()).unwrap_or(u64::MAX),
            nodes: nodes.collect(),
            pods,
            netns: self.setup.netns.clone(),
            bin_dir: self.setup.bin_dir.clone(),
        }
    }

    /// What the agents say is amiss, node by node.
    pub fn words(&self) -> Vec<String> {
        self.agents.values().flat_map(Agent::words).collect()
    }

    fn pod_addresses(&self) -> BTreeMap<PodKey, Vec<IpAddr>> {
        self.pods.iter().map(|(pod, p)| (pod.clone(), p.attached.addresses())).collect()
    }

    /// Binds every namespace to its name, for `lab exec` and for a person's own tools.
    fn keep_namespaces(&self) -> Result<(), LabError> {
        let places = self.topology.places.iter().map(|(place, namespace)| (place.to_string(), namespace));
        let segments = self.topology.segments.iter().map(|(segment, n)| (segment.to_string(), n));
        let router = [("router".to_owned(), &self.topology.router)];
        for (name, namespace) in places.chain(segments).chain(router) {
            self.keep(&name, namespace)?;
        }
        Ok(())
    }

    fn keep(&self, name: &str, namespace: &Namespace) -> Result<(), LabError> {
        let kept = namespace.bind(&self.setup.netns.join(name));
        kept.map_err(|source| LabError::Namespace { name: name.to_owned(), source })
    }

    /// Writes the manifests; the agents watch the directory, so each appears whole, by rename.
    fn write_manifests(&self) -> Result<(), LabError> {
        let directory = self.manifests();
        let failed = |source| LabError::File { path: directory.clone(), source };
        fs::create_dir_all(&directory).map_err(failed)?;
        let pods = manifest::pods(&self.plan, &self.pod_addresses());
        for (name, text) in [("nodes.yaml", manifest::nodes(&self.plan)), ("pods.yaml", pods)] {
            let draft = directory.join(format!(".{name}.draft"));
            fs::write(&draft, text).map_err(failed)?;
            fs::rename(&draft, directory.join(name)).map_err(failed)?;
        }
        Ok(())
    }

    /// Starts all agents, then waits for all of them.
    fn start_agents(&mut self) -> Result<(), LabError> {
        let config = self.setup.files.join("agent.yaml");
        let text = manifest::agent_config(&self.setup.shape, &self.setup.files.join("keys"));
        fs::write(&config, text).map_err(|source| LabError::File { path: config.clone(), source })?;
        let manifests = self.manifests();
        let files = AgentFiles { bin_dir: &self.setup.bin_dir, manifests: &manifests, config: &config };
        for node in &self.plan.nodes {
            let Some(namespace) = self.topology.places.get(&Place::Node(node.name.clone())) else { continue };
            let dirs = NodeDirs { root: self.setup.files.join(node.name.as_str()) };
            let agent = Agent::start(&node.name, namespace, dirs, &files)?;
            self.agents.insert(node.name.clone(), agent);
        }
        for agent in self.agents.values_mut() {
            agent.await_conflist()?;
        }
        if self.setup.shape.transport == Transport::Wireguard {
            // Each has the keys of all others then, which come one by one.
            self.agents.values_mut().try_for_each(Agent::await_ready)?;
        }
        Ok(())
    }

    fn manifests(&self) -> PathBuf {
        self.setup.files.join("manifests")
    }
}
