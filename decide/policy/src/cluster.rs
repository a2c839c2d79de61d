//! What policy knows of a cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use selvedge_model::{Labels, Log, Namespace, Nodes, Pod, PodKey, Pods, Policies};

use crate::holders::Holders;
use selvedge_model::policy::{Direction, Mode, Namespaces, PodPeer, Policy, Rule};

/// The label by which every namespace can be selected: its name.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Nodes, namespaces, pods and policies at one moment, and which pods have which address. Clones share what hasn't
/// changed.
///
/// It is made of a complete [`selvedge_model::Cluster`].
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    nodes: Nodes,
    namespaces: Arc<BTreeMap<String, Labels>>,
    /// Of which namespaces' pods not what is usual is logged.
    logs: Arc<BTreeMap<String, Log>>,
    pods: Pods,
    /// The pods that an address means, see [`Cluster::with_address`].
    holders: Holders,
    policies: Policies,
}

impl Cluster {
    /// What policy knows of the cluster.
    pub fn new(cluster: &selvedge_model::Cluster) -> Self {
        Self::default().after(&selvedge_model::Cluster::default(), cluster)
    }

    /// What policy knows of a cluster that was another one `before`, of which this was made.
    #[must_use]
    pub fn after(mut self, before: &selvedge_model::Cluster, now: &selvedge_model::Cluster) -> Self {
        self.nodes = now.nodes().clone();
        if !Arc::ptr_eq(now.namespaces(), before.namespaces()) {
            let logs = now.namespaces().iter().map(|(name, namespace)| (name.clone(), namespace.log));
            self.logs = Arc::new(logs.filter(|(_, log)| *log != Log::default()).collect());
            self.namespaces = Arc::new(now.namespaces().iter().map(named).collect());
        }
        for (then, now) in now.pods().changes(before.pods()) {
            then.filter(|pod| Self::is_judged(pod)).inspect(|pod| self.holders.remove(pod));
            now.filter(|pod| Self::is_judged(pod)).inspect(|pod| self.holders.add(pod));
        }
        self.pods = now.pods().clone();
        self.policies = now.policies().clone();
        self
    }

    /// Gives a pod the addresses of its attachment, which has them before any API tells; a pod that isn't known has
    /// none.
    pub fn attach(&mut self, key: &PodKey, addresses: &[IpAddr]) {
        let has_others = |pod: &&Arc<Pod>| Self::is_judged(pod) && pod.addresses != addresses;
        let Some(pod) = self.pods.get(key).filter(has_others) else { return };
        let attached = Arc::new(Pod { addresses: addresses.to_vec(), ..Pod::clone(pod) });
        self.holders.remove(pod);
        self.holders.add(&attached);
        self.pods.insert(attached);
    }

    /// Takes an address from whoever else is said to have it: an attachment has it now, of that pod if it is one's.
    pub(crate) fn vacate(&mut self, address: IpAddr, of: Option<&PodKey>) {
        let others = self.with_address(address).map(|pod| &pod.key).filter(|key| Some(*key) != of);
        let holders: Vec<PodKey> = others.cloned().collect();
        for key in holders {
            let Some(pod) = self.pods.get(&key) else { continue };
            let left = pod.addresses.iter().copied().filter(|other| *other != address).collect::<Vec<_>>();
            self.attach(&key, &left);
        }
    }

    /// True if policies can select the pod, and addresses mean it.
    pub fn is_judged(pod: &Pod) -> bool {
        !pod.host_network && !pod.finished
    }

    /// The pods that have an address, one as a rule.
    ///
    /// A pod that has ended has none: its address may be another's by now. A pod in its node's network has none
    /// of its own: what it sends and receives is its node's. Where several pods have the same address, which happens
    /// while one follows another and the first has not been heard to have gone, a flow passes if it passes for each.
    pub fn with_address(&self, address: IpAddr) -> impl Iterator<Item = &Pod> {
        self.holders(address).iter().map(Arc::as_ref)
    }

    pub(crate) fn holders(&self, address: IpAddr) -> &[Arc<Pod>] {
        self.holders.of(address)
    }

    /// The addresses that pods have.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.holders.addresses()
    }

    /// The nodes.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The namespaces that there are, and their labels.
    pub fn namespaces(&self) -> &BTreeMap<String, Labels> {
        &self.namespaces
    }

    /// The pods, those included that no address leads to.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// The policies.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// True if that is an address of the node that the pod is on.
    pub fn is_own_node(&self, pod: &Pod, address: IpAddr) -> bool {
        let node = pod.node.as_ref().and_then(|node| self.nodes.get(node));
        node.is_some_and(|node| node.addresses.contains(&address))
    }

    /// The namespaces whose labels are not as they were before, or that have come or gone.
    pub(crate) fn relabelled<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a String> {
        let same = Arc::ptr_eq(&self.namespaces, &before.namespaces);
        let (now, then) = (&self.namespaces, &before.namespaces);
        let changed = now.iter().filter(|(name, labels)| then.get(*name) != Some(labels));
        let gone = then.keys().filter(|name| !now.contains_key(*name));
        let all = changed.map(|(name, _)| name).chain(gone);
        all.filter(move |_| !same)
    }

    /// The policies that isolate a pod in a direction, with their rules for it.
    pub fn isolating(
        &self,
        pod: &Pod,
        direction: Direction,
    ) -> impl Iterator<Item = (&Arc<Policy>, &[Rule])> {
        let here = self.enforced_in(&pod.key.namespace);
        here.filter(|policy| policy.selects.selects(&pod.labels))
            .filter_map(move |policy| Some((policy, policy.rules(direction)?)))
    }

    /// The policies of a namespace that are in force: a shadow isolates nothing.
    pub fn enforced_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Policy>> {
        self.of_mode_in(Mode::Enforced, namespace)
    }

    fn of_mode_in(&self, mode: Mode, namespace: &str) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.within(namespace).iter().filter(move |policy| policy.mode == mode)
    }

    /// The shadows that would isolate a pod in a direction, with their rules for it. Policies add up: they would be
    /// alone in that where no policy in force isolates it, and admit more than those where one does.
    pub fn shadowing(
        &self,
        pod: &Pod,
        direction: Direction,
    ) -> impl Iterator<Item = (&Arc<Policy>, &[Rule])> {
        let here = self.of_mode_in(Mode::Shadow, &pod.key.namespace);
        here.filter(|policy| policy.selects.selects(&pod.labels))
            .filter_map(move |policy| Some((policy, policy.rules(direction)?)))
    }

    /// True if the flows of the same namespaces' pods are logged as in the other.
    pub(crate) fn logs_as(&self, other: &Self) -> bool {
        self.logs == other.logs
    }

    /// Which flows of a namespace's pods are logged.
    pub fn log(&self, namespace: &str) -> Log {
        self.logs.get(namespace).copied().unwrap_or_default()
    }

    /// True if a peer of a policy of the namespace `own` means a pod.
    pub fn is_meant(&self, pod: &Pod, own: &str, peer: &PodPeer) -> bool {
        self.is_namespace_meant(&pod.key.namespace, own, &peer.namespaces) && peer.pods.selects(&pod.labels)
    }

    /// True if a peer of a policy of the namespace `own` means pods of a namespace.
    ///
    /// A namespace that isn't known has no labels that one could tell whether a selector selects it: only one that
    /// selects everything does.
    pub fn is_namespace_meant(&self, namespace: &str, own: &str, namespaces: &Namespaces) -> bool {
        match namespaces {
            Namespaces::Own => namespace == own,
            Namespaces::Labelled(selector) => match self.namespaces.get(namespace) {
                Some(labels) => selector.selects(labels),
                None => selector.is_everything(),
            },
        }
    }
}

/// The namespace with the label that Kubernetes 1.21 and later give it.
fn named((name, namespace): (&String, &Namespace)) -> (String, Labels) {
    let labels = &namespace.labels;
    if labels.get(NAMESPACE_NAME) == Some(name) {
        return (name.clone(), labels.clone());
    }
    let mut with_name = BTreeMap::clone(labels);
    with_name.insert(NAMESPACE_NAME.to_owned(), name.clone());
    (name.clone(), with_name.into())
}
