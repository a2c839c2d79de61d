//! Pods come and go: their namespaces, and the plugins that attach and detach them.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_datapath::state::{ObservedNetwork, RouteProtocol};
use selvedge_model::mark::{REAP_GROUP, ROUTE_PROTOCOL};
use selvedge_model::names::HOST_VETH_PREFIX;
use selvedge_model::{NodeName, PodKey, chain};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;

use super::{Cluster, LabError, Pod};
use crate::agent::Agent;
use crate::patience::patience;
use crate::plan::{Place, PlannedNode};
use crate::runtime::{CniError, Conflist, Sandbox};

/// How long what a detached pod leaves behind may take to go: the agent reaps its veth.
const REAPING: Duration = Duration::from_secs(10);

impl Cluster {
    /// Makes every pod's namespace and attaches it, the nodes side by side, each node's pods one after another.
    pub(super) fn attach_pods(&mut self) -> Result<(), LabError> {
        let keys: Vec<PodKey> = self.plan.pods().map(|(_, pod)| pod.clone()).collect();
        for pod in keys {
            let failed = |source| LabError::Namespace { name: pod.to_string(), source };
            let namespace = Namespace::create().map_err(failed)?;
            self.keep(&pod.name, &namespace)?;
            self.topology.places.insert(Place::Pod(pod), namespace);
        }
        let mut jobs = Vec::new();
        for node in &self.plan.nodes {
            let Some(agent) = self.agents.get_mut(&node.name) else { continue };
            jobs.push((node, Conflist::read(&agent.await_conflist()?)?));
        }
        let lab = &*self;
        let attached: Vec<Result<BTreeMap<PodKey, Pod>, CniError>> = thread::scope(|scope| {
            let attach = |(node, conflist)| scope.spawn(move || lab.attach_to(node, &conflist));
            let nodes: Vec<_> = jobs.into_iter().map(attach).collect();
            nodes.into_iter().map(|n| n.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        for pods in attached {
            self.pods.extend(pods?);
        }
        Ok(())
    }

    fn attach_to(&self, node: &PlannedNode, conflist: &Conflist) -> Result<BTreeMap<PodKey, Pod>, CniError> {
        let mut pods = BTreeMap::new();
        for pod in &node.pods {
            let (netns, plugins) = (self.netns(pod), self.plugins(&node.name));
            let Some(sandbox) = self.sandbox((node, pod), &netns, &plugins) else { continue };
            let attached = conflist.add(sandbox)?;
            pods.insert(pod.clone(), Pod { conflist: conflist.clone(), attached });
        }
        Ok(pods)
    }

    /// Detaches every pod, and says what went wrong and what the nodes kept of the pods although they should not.
    ///
    /// # Errors
    /// [`LabError::Leftovers`] where a node can't be looked at.
    pub fn detach_pods(&mut self) -> Result<Vec<String>, LabError> {
        let pods = std::mem::take(&mut self.pods);
        let (lab, pods) = (&*self, &pods);
        let mut left: Vec<String> = thread::scope(|scope| {
            let detach = |node| scope.spawn(move || lab.detach_from(node, pods));
            let nodes: Vec<_> = lab.plan.nodes.iter().map(detach).collect();
            nodes.into_iter().flat_map(|n| n.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let deadline = Instant::now() + patience(REAPING);
        loop {
            let remains = self.remains()?;
            if remains.is_empty() || Instant::now() > deadline {
                left.extend(remains);
                return Ok(left);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What went wrong on one node.
    fn detach_from(&self, node: &PlannedNode, pods: &BTreeMap<PodKey, Pod>) -> Vec<String> {
        let mut errors = Vec::new();
        for key in &node.pods {
            let (netns, plugins) = (self.netns(key), self.plugins(&node.name));
            let sandbox = self.sandbox((node, key), &netns, &plugins);
            let (Some(pod), Some(sandbox)) = (pods.get(key), sandbox) else { continue };
            errors.extend(pod.conflist.del(sandbox, &pod.attached).err().map(|error| chain(&error)));
        }
        errors
    }

    /// What is left of pods on the nodes: their links, reaped ones too, and routes to them.
    fn remains(&self) -> Result<Vec<String>, LabError> {
        let mut all = Vec::new();
        for node in &self.plan.nodes {
            let Some(namespace) = self.topology.places.get(&Place::Node(node.name.clone())) else { continue };
            let observed = RouteSocket::open_in(namespace).and_then(|mut socket| socket.observe());
            let failed = |source| LabError::Leftovers { node: node.name.clone(), source };
            all.extend(remains_in(&node.name, &observed.map_err(failed)?));
        }
        Ok(all)
    }

    fn sandbox<'a>(
        &'a self,
        (node, pod): (&'a PlannedNode, &'a PodKey),
        netns: &'a Path,
        plugins: &'a Path,
    ) -> Option<Sandbox<'a>> {
        let node = self.topology.places.get(&Place::Node(node.name.clone()))?;
        Some(Sandbox { pod, netns, node, plugins })
    }

    fn netns(&self, pod: &PodKey) -> PathBuf {
        self.setup.netns.join(&pod.name)
    }

    fn plugins(&self, node: &NodeName) -> PathBuf {
        self.agents.get(node).map(Agent::dirs).map(|dirs| dirs.bin()).unwrap_or_default()
    }
}

/// The links and routes in a node's namespace that are there for pods only.
fn remains_in(node: &NodeName, observed: &ObservedNetwork) -> Vec<String> {
    let pods_link = |name: &str, group| name.starts_with(HOST_VETH_PREFIX) || group == REAP_GROUP;
    let links = observed.links.iter().filter(|(name, link)| pods_link(name.as_str(), link.group));
    let links = links.map(|(name, link)| format!("left on {node}: link {name} ({})", link.alias));
    let ours = observed.routes.iter().filter(|route| route.protocol == RouteProtocol(ROUTE_PROTOCOL));
    let routes = ours.filter(|route| route.destination.prefix_len() == route.destination.max_prefix_len());
    links.chain(routes.map(|route| format!("left on {node}: route {route}"))).collect()
}
