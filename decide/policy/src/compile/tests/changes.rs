use std::cell::Cell;
use std::mem;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use selvedge_model::{Cluster as Known, Listing, NetworkName, Owner, PodTag};

use super::*;
use crate::testing::{self, NODES};
use crate::{Compiled, Following, compile_after};

/// What of a cluster may change.
enum What<'a> {
    /// A pod, as it was and as it would be.
    Pod(Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>),
    Policy,
    Namespace,
    Nodes,
}

/// What a cluster becomes if it takes over some of what another one has, and lacks, object by object.
fn mixed(cluster: &Known, other: &Known, mut is_taken: impl FnMut(What<'_>) -> bool) -> Known {
    let (mut nodes, mut pods) = (cluster.nodes().clone(), cluster.pods().clone());
    let (mut namespaces, mut policies) = (Arc::clone(cluster.namespaces()), cluster.policies().clone());
    for key in cluster.pods().keys().chain(other.pods().keys()) {
        if !is_taken(What::Pod(cluster.pods().get(key), other.pods().get(key))) {
            continue;
        }
        match other.pods().get(key) {
            Some(pod) => mem::drop(pods.insert(Arc::clone(pod))),
            None => mem::drop(pods.remove(key)),
        }
    }
    for key in cluster.policies().keys().chain(other.policies().keys()).filter(|_| is_taken(What::Policy)) {
        match other.policies().get(key) {
            Some(policy) => mem::drop(policies.insert(Arc::clone(policy))),
            None => mem::drop(policies.remove(key)),
        }
    }
    for name in
        cluster.namespaces().keys().chain(other.namespaces().keys()).filter(|_| is_taken(What::Namespace))
    {
        match other.namespaces().get(name) {
            Some(namespace) => {
                mem::drop(Arc::make_mut(&mut namespaces).insert(name.clone(), namespace.clone()))
            }
            None => mem::drop(Arc::make_mut(&mut namespaces).remove(name)),
        }
    }
    if is_taken(What::Nodes) {
        nodes = other.nodes().clone();
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

/// What may change at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Anything,
    /// Pods of other nodes, and namespaces.
    Elsewhere,
    /// Which pods are attached here, and their addresses.
    Attachments,
}

/// What is made of the state before and of what has changed is what would be made of nothing.
#[test]
fn what_is_kept_up_to_date_is_what_would_be_compiled_anew() {
    let steps = vec((select(&[Step::Anything, Step::Elsewhere, Step::Attachments][..]), any::<bool>()), 3..8);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) };
    let states = vec(testing::listed(), 8);
    let (all, short) = (Cell::new(0), Cell::new(0));
    let result =
        TestRunner::new(config).run(&(states, steps, vec(0_u8..10, 200)), |(states, steps, choice)| {
            let mut choice = choice.into_iter().cycle();
            let mut states = states.iter().cycle();
            let node: NodeName = NODES[0].parse().unwrap();
            let network: NetworkName = "mynet".parse().unwrap();
            let mut following = Following::new(node.clone(), network.clone());
            let (mut now, mut compiled) = (states.next().unwrap().clone(), Compiled::default());
            let mut is_late = false;
            for (step, late) in steps {
                let is_here =
                    |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| pod.node.as_ref() == Some(&node));
                let next = mixed(&now, states.next().unwrap(), |what| match (step, what) {
                    (Step::Anything, _) => choice.next() < Some(3),
                    (Step::Elsewhere, What::Namespace) => choice.next() < Some(2),
                    (Step::Elsewhere, What::Pod(then, now)) => {
                        !is_here(then) && !is_here(now) && choice.next() < Some(5)
                    }
                    _ => false,
                });
                now = next;
                is_late = if step == Step::Elsewhere { is_late } else { late };
                following.hear(&Arc::new(now.clone()));
                let attached = attachments(&now, &node, is_late);
                let (cluster, local) = following.local(&attached, None);
                let mut anew = Cluster::new(&now);
                let local_anew = LocalNode::of(&mut anew, (&node, &network), &attached, None);
                prop_assert_eq!(&local, &local_anew);
                let held = |cluster: &Cluster| -> Vec<(IpAddr, Vec<Pod>)> {
                    cluster.addresses().map(|a| (a, cluster.with_address(a).cloned().collect())).collect()
                };
                prop_assert_eq!(held(&cluster), held(&anew));
                let cluster = Arc::new(cluster);
                all.set(all.get() + 1);
                short.set(short.get() + usize::from(compiled.with_members_of(&cluster, &local).is_some()));
                compiled = compile_after(&compiled, &cluster, &local);
                prop_assert_eq!(compiled.table(), &compile(&anew, &local_anew));
            }
            Ok(())
        });
    result.unwrap_or_else(|why| panic!("{why}"));
    println!("{} steps, in {} of which nothing but members of sets could change", all.get(), short.get());
    assert!(short.get() * 10 >= all.get(), "{} of {}", short.get(), all.get());
}
