//! What is known of the cluster's objects: complete, or on the way to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use selvedge_model::policy::Policy;
use selvedge_model::{Cluster, Listing, Namespace, Node, NodeName, Pod, SharedLabels};

use crate::kubernetes::object::{ApiNamespace, ApiNode, ApiPod, ApiPolicy, Followed, Keeper, Refusal};
use crate::networks::Networks;
use crate::object::ObjectKey;

/// The objects of every kind that is followed.
#[derive(Debug)]
pub(super) struct Known {
    keeper: Keeper,
    nodes: Objects<Node>,
    pods: Objects<Arc<Pod>>,
    namespaces: Objects<Namespace>,
    policies: Objects<Arc<Policy>>,
}

/// What the objects come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complete {
    pub(super) cluster: Cluster,
    /// False if an object has never been readable: nothing may be pruned because the cluster lacks it.
    pub(super) whole: bool,
    pub(super) problems: Vec<String>,
}

impl Known {
    /// Nothing yet, on behalf of a node.
    pub(super) fn new(node: NodeName) -> Self {
        let keeper = Keeper { node, labels: SharedLabels::default() };
        let (nodes, pods) = (Objects::default(), Objects::default());
        Self { keeper, nodes, pods, namespaces: Objects::default(), policies: Objects::default() }
    }

    /// Takes what happened to a Node.
    pub(super) fn node(&mut self, event: Event<ApiNode>) {
        self.nodes.take(event, &mut self.keeper);
    }

    /// Takes what happened to a Pod.
    pub(super) fn pod(&mut self, event: Event<ApiPod>) {
        self.pods.take(event, &mut self.keeper);
    }

    /// Takes what happened to a Namespace.
    pub(super) fn namespace(&mut self, event: Event<ApiNamespace>) {
        self.namespaces.take(event, &mut self.keeper);
    }

    /// Takes what happened to a NetworkPolicy.
    pub(super) fn policy(&mut self, event: Event<ApiPolicy>) {
        self.policies.take(event, &mut self.keeper);
    }

    /// The cluster by the last complete listing of each kind and what has happened since; `None` as long as a kind was
    /// never listed as a whole.
    pub(super) fn complete(&self) -> Option<Complete> {
        let (nodes, pods) = (self.nodes.complete.as_ref()?, self.pods.complete.as_ref()?);
        let (namespaces, policies) = (self.namespaces.complete.as_ref()?, self.policies.complete.as_ref()?);
        let mut listing = Listing::default();
        let mut networks = Networks::default();
        let mut problems = Vec::new();
        for (key, node) in &nodes.readable {
            let mut node = node.clone();
            // The first by name keeps it, whichever came first: all nodes of the cluster must decide alike.
            node.pod_cidrs.retain(|cidr| match networks.claim(*cidr, key) {
                Ok(()) => true,
                Err((other, owner)) => {
                    problems
                        .push(format!("{key}: podCIDR {cidr} overlaps {other} of {owner}, which keeps it"));
                    false
                }
            });
            listing.node(node);
        }
        listing.pods(pods.readable.values().cloned().collect());
        for (key, namespace) in &namespaces.readable {
            if let ObjectKey::Namespace(name) = key {
                listing.namespace(name, namespace.clone());
            }
        }
        policies.readable.values().for_each(|policy| listing.policy(Arc::clone(policy)));
        Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
        let sets = [&nodes.unreadable, &pods.unreadable, &namespaces.unreadable, &policies.unreadable];
        let unreadable = || sets.into_iter().flat_map(BTreeMap::values);
        problems.extend(unreadable().map(|object| object.problem.clone()));
        let whole = unreadable().all(|object| object.in_force);
        listing.finish().ok().map(|cluster| Complete { cluster, whole, problems })
    }
}

/// The objects of one kind.
#[derive(Debug)]
struct Objects<T> {
    /// By the last complete listing and what has happened since; `None` before the first.
    complete: Option<Set<T>>,
    /// A listing under way, which nothing may be concluded from yet.
    coming: Option<Set<T>>,
}

#[derive(Debug)]
struct Set<T> {
    readable: BTreeMap<ObjectKey, T>,
    /// Those whose present form can't be read, by their key or, if that can't be read either, by what is wrong.
    unreadable: BTreeMap<String, Unreadable>,
}

#[derive(Debug)]
struct Unreadable {
    problem: String,
    /// Its last readable form is in force, or what stands in for it.
    in_force: bool,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { complete: None, coming: None }
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self { readable: BTreeMap::new(), unreadable: BTreeMap::new() }
    }
}

impl<T: Clone + PartialEq> Objects<T> {
    fn take<K: Followed<Kept = T>>(&mut self, event: Event<K>, keeper: &mut Keeper) {
        match event {
            Event::Init => self.coming = Some(Set::default()),
            Event::InitApply(object) | Event::Apply(object) => self.put(object, keeper),
            // A listing that ends without having begun is none.
            Event::InitDone => self.complete = self.coming.take().or_else(|| self.complete.take()),
            Event::Delete(object) => {
                if let (Ok(key), Some(set)) = (object.key(), self.current()) {
                    set.unreadable.remove(&key.to_string());
                    set.readable.remove(&key);
                }
            }
        }
    }

    fn put<K: Followed<Kept = T>>(&mut self, object: K, keeper: &mut Keeper) {
        let (key, kept) = match object.key() {
            Ok(key) => (key, object.keep(keeper)),
            Err(why) => {
                let problem = format!("{} without a name that can be read: {why}", K::kind(&()));
                let unreadable = Unreadable { problem, in_force: false };
                self.current().map(|set| set.unreadable.insert(why, unreadable));
                return;
            }
        };
        let last = self.complete.as_ref().and_then(|complete| complete.readable.get(&key)).cloned();
        let (form, unreadable) = match kept {
            // What was handed over already is not kept twice.
            Ok(kept) => (if kept == last { last } else { kept }, None),
            Err(refusal) => {
                let (form, unreadable) = instead(refusal, last.filter(|last| !K::is_stand_in(last)), &key);
                (form, Some(unreadable))
            }
        };
        let Some(set) = self.current() else { return };
        match unreadable {
            None => drop(set.unreadable.remove(&key.to_string())),
            Some(unreadable) => drop(set.unreadable.insert(key.to_string(), unreadable)),
        }
        match form {
            Some(form) => drop(set.readable.insert(key, form)),
            None => drop(set.readable.remove(&key)),
        }
    }

    /// Where what is said now belongs: to a listing under way, or to what is complete.
    fn current(&mut self) -> Option<&mut Set<T>> {
        self.coming.as_mut().or(self.complete.as_mut())
    }
}

/// What is in force in place of what is no good: its last good form, or what stands in for one.
fn instead<T>(refusal: Refusal<T>, last_good: Option<T>, key: &ObjectKey) -> (Option<T>, Unreadable) {
    let Refusal { why, closed } = refusal;
    let said = match (&last_good, &closed) {
        (Some(_), _) => " (its last good form stays in force)",
        (None, Some(closed)) => closed.said,
        (None, None) => "",
    };
    let form = last_good.or_else(|| closed.map(|closed| closed.form));
    let unreadable = Unreadable { problem: format!("{key}: {why}{said}"), in_force: form.is_some() };
    (form, unreadable)
}

#[cfg(test)]
mod tests;
