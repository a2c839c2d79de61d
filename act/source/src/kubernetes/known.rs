//! What is known of the cluster's objects: complete, or on the way to be.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;
use selvedge_model::{Cluster, Listing, Node, Pod};

use crate::kubernetes::object::{ApiNode, ApiPod, Followed};
use crate::networks::Networks;
use crate::object::ObjectKey;

/// The objects of every kind that is followed.
#[derive(Debug, Default)]
pub(super) struct Known {
    nodes: Objects<Node>,
    pods: Objects<Pod>,
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
    /// Takes what happened to a Node.
    pub(super) fn node(&mut self, event: Event<ApiNode>) {
        self.nodes.take(event);
    }

    /// Takes what happened to a Pod.
    pub(super) fn pod(&mut self, event: Event<ApiPod>) {
        self.pods.take(event);
    }

    /// The cluster by the last complete listing of each kind and what has happened since; `None` as long as a kind was
    /// never listed as a whole.
    pub(super) fn complete(&self) -> Option<Complete> {
        let (nodes, pods) = (self.nodes.complete.as_ref()?, self.pods.complete.as_ref()?);
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
        pods.readable.values().for_each(|pod| listing.pod(pod.clone()));
        Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
        let unreadable = || nodes.unreadable.values().chain(pods.unreadable.values());
        problems.extend(unreadable().map(|object| object.problem.clone()));
        let whole = unreadable().all(|object| object.last_form);
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
    /// Its last readable form is in force.
    last_form: bool,
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

impl<T: Clone> Objects<T> {
    fn take<K: Followed<Kept = T>>(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.coming = Some(Set::default()),
            Event::InitApply(object) | Event::Apply(object) => self.put(object),
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

    fn put<K: Followed<Kept = T>>(&mut self, object: K) {
        let (key, kept) = match object.key() {
            Ok(key) => (key, object.keep()),
            Err(why) => {
                let problem = format!("{} without a name that can be read: {why}", K::kind(&()));
                self.current()
                    .map(|set| set.unreadable.insert(why, Unreadable { problem, last_form: false }));
                return;
            }
        };
        let last = || self.complete.as_ref().and_then(|complete| complete.readable.get(&key)).cloned();
        let (form, problem) = match kept {
            Ok(kept) => (Some(kept), None),
            Err(why) => (last(), Some(why)),
        };
        let Some(set) = self.current() else { return };
        match problem {
            None => drop(set.unreadable.remove(&key.to_string())),
            Some(why) => {
                let in_force = if form.is_some() { " (its last good form stays in force)" } else { "" };
                let problem = format!("{key}: {why}{in_force}");
                let unreadable = Unreadable { problem, last_form: form.is_some() };
                set.unreadable.insert(key.to_string(), unreadable);
            }
        }
        set.readable.extend(form.map(|form| (key, form)));
    }

    /// Where what is said now belongs: to a listing under way, or to what is complete.
    fn current(&mut self) -> Option<&mut Set<T>> {
        self.coming.as_mut().or(self.complete.as_mut())
    }
}

#[cfg(test)]
mod tests;
