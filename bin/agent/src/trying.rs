//! What the agent answers to those who ask what manifests would change. Nothing is changed by it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use selvedge_model::policy::PolicyKey;
use selvedge_model::{NodeName, PodKey};
use selvedge_netlink::RouteSocket;
use selvedge_nft::Conntrack;
use selvedge_policy::Revoker;
use selvedge_source::{Object, proposed};
use selvedge_whatif::{Changes, Compared, Limit, NodeFlows, Preview, Proposal, Tried, compare, cut};

use crate::explaining::Decided;

/// How many flows that would be cut are told one by one.
const FLOWS: usize = 10_000;

/// What a proposal would change in the cluster that was decided by last, and of the flows of this node.
///
/// # Errors
/// Nothing is known of the cluster, or the kernel can't be asked.
pub(crate) fn preview(
    decided: &Decided,
    node: &NodeName,
    proposal: &Proposal,
) -> Result<Tried, Box<dyn Error>> {
    let (policed, _) = decided.last()?;
    let before = &policed.cluster;
    if before.nodes().is_empty() {
        return Err("nothing is known of the cluster yet".into());
    }
    let (changes, mut notes) = match changes(proposal) {
        Ok(read) => read,
        Err(why) => return Ok(Tried::Refused(why)),
    };
    let (after, passed_over) = match changes.to(before) {
        Ok(there) => there,
        Err(why) => return Ok(Tried::Refused(vec![why.to_string()])),
    };
    notes.extend(passed_over);
    let Compared { changes: told, complete, unclear } = compare(before, &after, Limit::default());
    notes.extend(unclear.iter().map(|pod| format!("Pod {pod}: another pod is said to have its address")));
    let own: Vec<_> = RouteSocket::open()?.observe()?.addresses().collect();
    let after = Arc::new(after);
    let [now, then] = [before, &after]
        .map(|cluster| Revoker::new(Arc::clone(cluster), &policed.local, own.iter().copied()));
    let tracked = Conntrack::open()?.flows(|flow| then.denies(flow))?;
    let (flows, beyond) = cut(tracked, &now, (&then, &after), FLOWS);
    let tracked = vec![NodeFlows { node: node.to_string(), cut: flows, beyond }];
    Ok(Tried::Preview(Preview { changes: told, complete, tracked, notes }))
}

/// What a proposal says, and what of it is passed over; or what is wrong with it.
fn changes(proposal: &Proposal) -> Result<(Changes, Vec<String>), Vec<String>> {
    let texts = proposal.manifests.iter().map(|text| (Path::new(&text.name), text.text.as_bytes()));
    let read = proposed::read(texts);
    let objects = read.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let mut changes = Changes::default();
    let mut notes = Vec::new();
    for key in &proposal.delete {
        // A policy's name is written as a pod's.
        let PodKey { namespace, name } = key
            .parse()
            .map_err(|_why| vec![format!("--delete: {key:?} is no namespace/name of a NetworkPolicy")])?;
        changes.deleted.insert(PolicyKey { namespace, name });
    }
    for object in objects {
        let key = object.key();
        match object {
            Object::Policy(policy) => changes.policies.push(policy),
            Object::Namespace(name, namespace) => changes.namespaces.push((name, namespace.labels)),
            Object::Pod(pod) => changes.pods.push(pod),
            Object::Node(_) => notes.push(format!("{key}: Nodes are not tried")),
        }
    }
    let none = changes.policies.is_empty() && changes.deleted.is_empty();
    if none && changes.namespaces.is_empty() && changes.pods.is_empty() {
        return Err(vec!["no NetworkPolicy, Namespace or Pod is in there".to_owned()]);
    }
    Ok((changes, notes))
}
