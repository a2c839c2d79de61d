//! What is known of the cluster's objects: complete, or on the way to be.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use ipnet::IpNet;
use kube::runtime::watcher::Event;
use selvedge_model::{
    Cluster, Keyed, Listing, Namespace, Namespaced, Node, NodeName, Nodes, Pods, Policies, SharedLabels,
    SortedMap,
};

use crate::kubernetes::object::{
    ApiNamespace, ApiNode, ApiPod, ApiPolicy, Followed, Instead, Keeper, Refusal,
};
use crate::networks::Networks;

/// The objects of every kind that is followed.
#[derive(Debug)]
pub(super) struct Known {
    keeper: Keeper,
    nodes: Objects<Nodes>,
    /// The nodes as they were last looked at, and what of them is in force.
    claimed: Option<(Nodes, Claimed)>,
    pods: Objects<Pods>,
    namespaces: Objects<Arc<BTreeMap<String, Namespace>>>,
    policies: Objects<Policies>,
}

/// Nodes none of which has another's pod network, and what kept any from it.
type Claimed = (Nodes, Vec<String>);

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
        let (namespaces, policies) = (Objects::default(), Objects::default());
        Self { keeper, nodes, claimed: None, pods, namespaces, policies }
    }

    /// Takes what happened to a Node.
    pub(super) fn node(&mut self, event: Event<ApiNode>) {
        self.nodes.take(event, &mut self.keeper);
        let Some(Set { readable, .. }) = &self.nodes.complete else { return };
        if self.claimed.as_ref().is_none_or(|(seen, _)| !seen.shares(readable)) {
            self.claimed = Some((readable.clone(), claimed(readable)));
        }
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
        let (_, (nodes_in_force, problems)) = self.claimed.as_ref()?;
        let listing = Listing::of(
            nodes_in_force.clone(),
            pods.readable.clone(),
            Arc::clone(&namespaces.readable),
            policies.readable.clone(),
        );
        let mut problems = problems.clone();
        let sets = [&nodes.unreadable, &pods.unreadable, &namespaces.unreadable, &policies.unreadable];
        let unreadable = || sets.into_iter().flat_map(BTreeMap::values);
        problems.extend(unreadable().map(|object| object.problem.clone()));
        let whole = unreadable().all(|object| object.in_force);
        listing.finish().ok().map(|cluster| Complete { cluster, whole, problems })
    }
}

/// The nodes, each without the networks that overlap another's. The first by name keeps them, whichever came first: all
/// nodes of the cluster must decide alike.
fn claimed(nodes: &Nodes) -> Claimed {
    let mut networks = Networks::default();
    let mut in_force = nodes.clone();
    let mut problems = Vec::new();
    for (name, node) in nodes.iter() {
        let mut claim = |cidr: &IpNet| match networks.claim(*cidr, name) {
            Ok(()) => true,
            Err((other, owner)) => {
                problems.push(format!(
                    "Node {name}: podCIDR {cidr} overlaps {other} of Node {owner}, which keeps it"
                ));
                false
            }
        };
        let kept: Vec<IpNet> = node.pod_cidrs.iter().copied().filter(&mut claim).collect();
        if kept.len() < node.pod_cidrs.len() {
            in_force.insert(name.clone(), Node { pod_cidrs: kept, ..node.clone() });
        }
    }
    (in_force, problems)
}

/// Where objects of a kind are kept.
pub(super) trait Store: Default {
    /// By what they are told from each other.
    type Key: Display;
    /// What is kept of one.
    type Kept: Clone + PartialEq;

    fn get(&self, key: &Self::Key) -> Option<&Self::Kept>;
    fn put(&mut self, key: Self::Key, kept: Self::Kept);
    fn remove(&mut self, key: &Self::Key);
}

impl<K: Ord + Clone + Display, V: Clone + PartialEq> Store for Arc<BTreeMap<K, V>> {
    type Key = K;
    type Kept = V;

    fn get(&self, key: &K) -> Option<&V> {
        BTreeMap::get(self, key)
    }

    fn put(&mut self, key: K, kept: V) {
        Arc::make_mut(self).insert(key, kept);
    }

    fn remove(&mut self, key: &K) {
        if self.contains_key(key) {
            Arc::make_mut(self).remove(key);
        }
    }
}

impl<K: Ord + Clone + Display, V: Ord + Clone> Store for SortedMap<K, V> {
    type Key = K;
    type Kept = V;

    fn get(&self, key: &K) -> Option<&V> {
        Self::get(self, key)
    }

    fn put(&mut self, key: K, kept: V) {
        self.insert(key, kept);
    }

    fn remove(&mut self, key: &K) {
        Self::remove(self, key);
    }
}

impl<T: Keyed<Key: Display> + PartialEq> Store for Namespaced<T> {
    type Key = T::Key;
    type Kept = Arc<T>;

    fn get(&self, key: &T::Key) -> Option<&Arc<T>> {
        Self::get(self, key)
    }

    fn put(&mut self, _: T::Key, kept: Arc<T>) {
        self.insert(kept);
    }

    fn remove(&mut self, key: &T::Key) {
        Self::remove(self, key);
    }
}

/// The objects of one kind.
#[derive(Debug)]
struct Objects<S> {
    /// By the last complete listing and what has happened since; `None` before the first.
    complete: Option<Set<S>>,
    /// A listing under way, which nothing may be concluded from yet.
    coming: Option<Set<S>>,
}

#[derive(Debug)]
struct Set<S> {
    readable: S,
    /// Those whose present form can't be read, by their key or, if that can't be read either, by what is wrong.
    unreadable: BTreeMap<String, Unreadable>,
}

#[derive(Debug)]
struct Unreadable {
    problem: String,
    /// Its last readable form is in force, or what stands in for it.
    in_force: bool,
}

impl<S> Default for Objects<S> {
    fn default() -> Self {
        Self { complete: None, coming: None }
    }
}

impl<S: Default> Default for Set<S> {
    fn default() -> Self {
        Self { readable: S::default(), unreadable: BTreeMap::new() }
    }
}

impl<S: Store> Objects<S> {
    fn take<K: Followed<Store = S>>(&mut self, event: Event<K>, keeper: &mut Keeper) {
        match event {
            Event::Init => self.coming = Some(Set::default()),
            Event::InitApply(object) | Event::Apply(object) => self.put(object, keeper),
            // A listing that ends without having begun is none.
            Event::InitDone => self.complete = self.coming.take().or_else(|| self.complete.take()),
            Event::Delete(object) => {
                if let (Ok(key), Some(set)) = (object.key(), self.current()) {
                    set.unreadable.remove(&shown::<K>(&key));
                    set.readable.remove(&key);
                }
            }
        }
    }

    fn put<K: Followed<Store = S>>(&mut self, object: K, keeper: &mut Keeper) {
        let (key, kept) = match object.key() {
            Ok(key) => (key, object.keep(keeper)),
            Err(why) => {
                let problem = format!("{} without a name that can be read: {why}", K::kind(&()));
                let unreadable = Unreadable { problem, in_force: false };
                self.current().map(|set| set.unreadable.insert(why, unreadable));
                return;
            }
        };
        let shown = shown::<K>(&key);
        let last = self.complete.as_ref().and_then(|complete| complete.readable.get(&key)).cloned();
        let (form, unreadable) = match kept {
            // What was handed over already is not kept twice.
            Ok(kept) => (if kept == last { last } else { kept }, None),
            Err(refusal) => {
                let (form, unreadable) = instead(refusal, last.filter(|last| !K::is_stand_in(last)), &shown);
                (form, Some(unreadable))
            }
        };
        let Some(set) = self.current() else { return };
        match unreadable {
            None => drop(set.unreadable.remove(&shown)),
            Some(unreadable) => drop(set.unreadable.insert(shown, unreadable)),
        }
        match form {
            // Without a change nothing that others share is copied.
            Some(form) if set.readable.get(&key) == Some(&form) => {}
            Some(form) => set.readable.put(key, form),
            None => set.readable.remove(&key),
        }
    }

    /// Where what is said now belongs: to a listing under way, or to what is complete.
    fn current(&mut self) -> Option<&mut Set<S>> {
        self.coming.as_mut().or(self.complete.as_mut())
    }
}

/// An object's kind and name.
fn shown<K: Followed>(key: &<K::Store as Store>::Key) -> String {
    format!("{} {key}", K::kind(&()))
}

/// What is in force in place of what is no good, and what is said of it.
fn instead<T>(refusal: Refusal<T>, last_good: Option<T>, shown: &str) -> (Option<T>, Unreadable) {
    let (form, said) = match (refusal.instead, last_good) {
        (Instead::Without(form), _) => (Some(*form), " (counts as not there)"),
        (_, Some(last)) => (Some(last), " (its last good form stays in force)"),
        (Instead::Closed(form, said), None) => (Some(form), said),
        (Instead::LastGood, None) => (None, ""),
    };
    let why = refusal.why;
    let unreadable = Unreadable { problem: format!("{shown}: {why}{said}"), in_force: form.is_some() };
    (form, unreadable)
}

#[cfg(test)]
mod tests;
