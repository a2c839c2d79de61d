//! What policy wants of the node's tables, and which attachments are in force then.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_datapath::converge::Observed;
use selvedge_datapath::firewall;
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::names::HOST_VETH_PREFIX;
use selvedge_model::{Cluster, IfName, NetworkName, NodeName, Owner};
use selvedge_policy::{
    Compiled, Following, LocalNode, Netlog, Revoker, Unknown, Whose, carry, compile, compile_after,
};
use selvedge_reconcile::{Admission, Standing};
use selvedge_ruleset::Table;

/// Whose policies they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    /// The Node.
    pub(super) name: &'a NodeName,
    /// The network of the pods that policies can be about.
    pub(super) network: &'a NetworkName,
    /// The bridge, where there is one.
    pub(super) bridge: Option<&'a IfName>,
    /// What becomes of attachments that aren't in force yet.
    pub(super) unknown: Unknown,
    /// Whether the kernel can tell of packets.
    pub(super) netlog: Netlog,
}

/// The chains and sets of policy, and the attachments that are in force with them.
#[derive(Debug, Clone)]
pub(crate) struct Policed {
    /// The cluster, which knows the addresses of the node's pods.
    pub(crate) cluster: Arc<selvedge_policy::Cluster>,
    /// The node's pods.
    pub(crate) local: LocalNode,
    /// The chains and sets.
    pub(crate) table: Table,
    /// The attachments that are in force with them.
    pub(super) admitted: BTreeMap<IfName, Admission>,
    /// The attachments of the node's network that no Pod answers for, as far as the cluster tells of Pods' addresses.
    pub(super) without_pod: Vec<String>,
}

impl Policed {
    /// Who judges the flows that are tracked already.
    pub(super) fn revoker(&self, observed: &Observed) -> Revoker {
        Revoker::new(Arc::clone(&self.cluster), &self.local, observed.network.addresses())
    }
}

/// The last decision: as long as nothing that it came from has changed it stays, and then what comes after is made of it
/// and of what has.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    following: Option<Following>,
    compiled: Compiled,
    last: Option<(Arc<Cluster>, Attached, Arc<Policed>)>,
}

/// The attachments of a node, of whatever network of ours.
type Attached = (BTreeMap<IfName, Owner>, Option<IfName>);

impl Policies {
    /// What a node with these attachments wants on account of a cluster; where nothing is known of it, the kernel's
    /// verdicts stay.
    pub(super) fn decide(
        &mut self,
        known: Option<&Arc<Cluster>>,
        node: Node<'_>,
        observed: &Observed,
    ) -> Arc<Policed> {
        let attached = (attached(observed), node.bridge.cloned());
        let Some(heard) = known else {
            return Arc::new(unheard(node, &attached, observed));
        };
        if let Some((before, same, policed)) = &self.last
            && Arc::ptr_eq(before, heard)
            && *same == attached
        {
            return Arc::clone(policed);
        }
        let new = || Following::new(node.name.clone(), node.network.clone());
        let following = self.following.get_or_insert_with(new);
        following.hear(heard);
        let (cluster, mut local) = following.local(&attached.0, attached.1.as_ref());
        (local.unknown, local.netlog) = (node.unknown, node.netlog);
        let cluster = Arc::new(cluster);
        self.compiled = compile_after(&self.compiled, &cluster, &local);
        let mut policed = Policed::of(cluster, local, self.compiled.table().clone(), &attached);
        let is_ours = |owner: &Owner| owner.network == *node.network;
        let pods = attached.0.values().zip(&policed.local.pods);
        let forgotten = pods.filter(|(owner, pod)| is_ours(owner) && !following.answers_for(pod));
        policed.without_pod = forgotten.map(|(owner, _)| owner.key.to_string()).collect();
        let policed = Arc::new(policed);
        self.last = Some((Arc::clone(heard), attached, Arc::clone(&policed)));
        policed
    }
}

/// What stays while nothing is known of the cluster.
fn unheard(node: Node<'_>, attached: &Attached, observed: &Observed) -> Policed {
    let kernel = observed.tables.get(&firewall::AGENT).map(|table| table.known());
    let nothing = Following::new(node.name.clone(), node.network.clone());
    let (cluster, mut local) = nothing.local(&attached.0, attached.1.as_ref());
    (local.unknown, local.netlog) = (node.unknown, node.netlog);
    let table = kernel.and_then(|kernel| carry(&kernel, &local)).unwrap_or_else(|| compile(&cluster, &local));
    Policed::of(Arc::new(cluster), local, table, attached)
}

impl Policed {
    fn of(
        cluster: Arc<selvedge_policy::Cluster>,
        local: LocalNode,
        table: Table,
        (attached, _): &Attached,
    ) -> Self {
        let standing = |whose: &Whose| match whose {
            Whose::Pod(_) | Whose::Nobody => Standing::Known,
            Whose::Unseen(_) if whose.is_closed(&cluster) => Standing::Isolated,
            Whose::Unseen(_) => Standing::Free,
        };
        let admitted = attached.iter().zip(&local.pods).map(|((host, owner), pod)| {
            (host.clone(), Admission { owner: owner.to_string(), standing: standing(&pod.whose) })
        });
        Self { admitted: admitted.collect(), without_pod: Vec::new(), table, cluster, local }
    }
}

fn attached(observed: &Observed) -> BTreeMap<IfName, Owner> {
    let is_host_end = |name: &IfName| name.as_str().starts_with(HOST_VETH_PREFIX);
    let links = observed.network.links.iter();
    let links = links.filter(|(name, link)| link.group != REAP_GROUP && is_host_end(name));
    links.filter_map(|(name, link)| Some((name.clone(), link.alias.parse::<Owner>().ok()?))).collect()
}
