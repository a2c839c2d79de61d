use std::mem;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_model::{Cluster as Known, Listing, NetworkName, Owner, PodTag};

use super::*;
use crate::testing::{self, NODES};
use crate::{Compiled, Following, compile_after};

/// What a cluster becomes if it takes over some of what another one has, and lacks, object by object.
fn mixed(cluster: &Known, other: &Known, mut is_taken: impl FnMut() -> bool) -> Known {
    let (mut nodes, mut pods) = (Arc::clone(cluster.nodes()), cluster.pods().clone());
    let (mut namespaces, mut policies) = (Arc::clone(cluster.namespaces()), cluster.policies().clone());
    for key in cluster.pods().keys().chain(other.pods().keys()).filter(|_| is_taken()) {
        match other.pods().get(key) {
            Some(pod) => mem::drop(pods.insert(Arc::clone(pod))),
            None => mem::drop(pods.remove(key)),
        }
    }
    for key in cluster.policies().keys().chain(other.policies().keys()).filter(|_| is_taken()) {
        match other.policies().get(key) {
            Some(policy) => mem::drop(policies.insert(Arc::clone(policy))),
            None => mem::drop(policies.remove(key)),
        }
    }
    for name in cluster.namespaces().keys().chain(other.namespaces().keys()).filter(|_| is_taken()) {
        match other.namespaces().get(name) {
            Some(namespace) => {
                mem::drop(Arc::make_mut(&mut namespaces).insert(name.clone(), namespace.clone()))
            }
            None => mem::drop(Arc::make_mut(&mut namespaces).remove(name)),
        }
    }
    if is_taken() {
        nodes = Arc::clone(other.nodes());
    }
    Listing::of(nodes, pods, namespaces, policies).finish().unwrap()
}

/// The attachments of a node's pods, by host end; where `api_is_late`, with other addresses than the API tells of.
fn attachments(cluster: &Known, node: &NodeName, api_is_late: bool) -> BTreeMap<IfName, Owner> {
    let here = cluster.pods().values().filter(|pod| pod.node.as_ref() == Some(node) && !pod.host_network);
    let owner = |(number, pod): (usize, &Arc<Pod>)| {
        let last = if api_is_late { 99 } else { 3 };
        let own = pod.addresses.first().copied().filter(|_| !api_is_late || number % 3 > 0);
        let address = own.unwrap_or_else(|| format!("10.244.{last}.{}", number + 1).parse().unwrap());
        let net = ipnet::IpNet::from(address);
        let owner: Owner = format!("selvedge mynet c-{number}/eth0 {net}").parse().unwrap();
        (format!("slv{number}").parse().unwrap(), owner.of_pod(Some(PodTag::new(&pod.key, None))))
    };
    here.enumerate().map(owner).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// What is made of the state before and of what has changed is what would be made of nothing.
    #[test]
    fn what_is_kept_up_to_date_is_what_would_be_compiled_anew(
        states in vec(testing::listed(), 2..5),
        choice in vec(0_u8..10, 200),
        late in any::<bool>(),
    ) {
        let mut choice = choice.into_iter().cycle();
        let node: NodeName = NODES[0].parse().unwrap();
        let network: NetworkName = "mynet".parse().unwrap();
        let mut following = Following::new(node.clone(), network.clone());
        let (mut now, mut compiled) = (states[0].clone(), Compiled::default());
        for state in &states {
            now = mixed(&now, state, || choice.next() < Some(3));
            following.hear(&Arc::new(now.clone()));
            let attached = attachments(&now, &node, late);
            let (cluster, local) = following.local(&attached, None);
            let mut anew = Cluster::new(&now);
            let local_anew = LocalNode::of(&mut anew, (&node, &network), &attached, None);
            prop_assert_eq!(&local, &local_anew);
            let held = |cluster: &Cluster| -> Vec<(IpAddr, Vec<Pod>)> {
                cluster.addresses().map(|a| (a, cluster.with_address(a).cloned().collect())).collect()
            };
            prop_assert_eq!(held(&cluster), held(&anew));
            compiled = compile_after(&compiled, &Arc::new(cluster), &local);
            prop_assert_eq!(compiled.table(), &compile(&anew, &local_anew));
        }
    }
}
