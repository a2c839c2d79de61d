//! Objects as the API sends them: of each only what pod networking needs is kept from the start.

mod namespace;
mod pod;
mod policy;

use std::borrow::Cow;
use std::fmt::Debug;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope, Resource};
use selvedge_model::transport::Choice;
use selvedge_model::{Node, NodeName, Nodes, PublicKey, SharedLabels};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::kubernetes::known::Store;
use crate::kubernetes::standing::{Condition, Standing, Taint};

pub(super) use namespace::ApiNamespace;
pub(super) use pod::ApiPod;
pub(super) use policy::ApiPolicy;

/// A kind of object that is followed.
pub(super) trait Followed:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Where they are kept.
    type Store: Store;

    /// Which object it is, or what it lacks for that.
    fn key(&self) -> Result<<Self::Store as Store>::Key, String>;

    /// What is kept of it, if anything is, or which field is no good.
    fn keep(self, keeper: &mut Keeper) -> Result<Option<Kept<Self>>, Refusal<Kept<Self>>>;

    /// True if what is kept only stands in for an object that never had a good form.
    fn is_stand_in(_: &Kept<Self>) -> bool {
        false
    }
}

/// What is kept of an object.
pub(super) type Kept<K> = <<K as Followed>::Store as Store>::Kept;

/// Who keeps objects.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The node that it is for: of other nodes' pods less is kept.
    pub(super) node: NodeName,
    pub(super) labels: SharedLabels,
}

/// Which field of an object is no good.
#[derive(Debug)]
pub(super) struct Refusal<T> {
    pub(super) why: String,
    pub(super) instead: Instead<T>,
}

/// What is in force in place of an object with a field that is no good.
#[derive(Debug)]
pub(super) enum Instead<T> {
    /// Its last good form, if it ever had one.
    LastGood,
    /// This where it never had a good form; what that means is said in brackets.
    Closed(T, &'static str),
    /// This, whatever it was: the object without the field.
    Without(Box<T>),
}

impl<T> From<String> for Refusal<T> {
    fn from(why: String) -> Self {
        Self { why, instead: Instead::LastGood }
    }
}

/// A Node (core/v1).
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ApiNode {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDR", default)]
    pod_cidr: String,
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    addresses: Vec<NodeAddress>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// Declares an object of version v1 of a group.
macro_rules! v1 {
    ($object:ty, $group:literal, $kind:literal, $plural:literal, $scope:ty) => {
        impl Resource for $object {
            type DynamicType = ();
            type Scope = $scope;

            fn kind(&(): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group(&(): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version(&(): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural(&(): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

v1!(ApiNode, "", "Node", "nodes", ClusterResourceScope);
v1!(ApiPod, "", "Pod", "pods", NamespaceResourceScope);
v1!(ApiNamespace, "", "Namespace", "namespaces", ClusterResourceScope);
v1!(ApiPolicy, "networking.k8s.io", "NetworkPolicy", "networkpolicies", NamespaceResourceScope);

impl ApiNode {
    /// True if that is its name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.metadata.name.as_deref() == Some(name)
    }

    /// How it stands in the API.
    pub(super) fn standing(&self) -> Standing {
        let key = annotation(&self.metadata, PublicKey::ANNOTATION);
        Standing::of((&self.status.conditions, &self.spec.taints), key)
    }
}

impl Followed for ApiNode {
    type Store = Nodes;

    fn key(&self) -> Result<NodeName, String> {
        parsed("metadata.name", self.metadata.name.as_deref().unwrap_or_default())
    }

    fn keep(self, _: &mut Keeper) -> Result<Option<Node>, Refusal<Node>> {
        let name = self.key()?;
        let cidr = |(i, text): (usize, &String)| {
            parsed::<IpNet>(&format!("spec.podCIDRs[{i}]"), text).map(|net| net.trunc())
        };
        let mut pod_cidrs =
            self.spec.pod_cidrs.iter().enumerate().map(cidr).collect::<Result<Vec<_>, _>>()?;
        if pod_cidrs.is_empty() && !self.spec.pod_cidr.is_empty() {
            pod_cidrs.push(parsed::<IpNet>("spec.podCIDR", &self.spec.pod_cidr)?.trunc());
        }
        let internal =
            self.status.addresses.iter().enumerate().filter(|(_, entry)| entry.kind == "InternalIP");
        let address = |(i, entry): (usize, &NodeAddress)| {
            parsed(&format!("status.addresses[{i}].address"), &entry.address)
        };
        let addresses = internal.map(address).collect::<Result<Vec<IpAddr>, _>>()?;
        let mut node = Node::new(name, pod_cidrs, addresses);
        let transport = annotated(&self.metadata, Choice::ANNOTATION).map(|read| node.transport = read);
        let key = annotated(&self.metadata, PublicKey::ANNOTATION).map(|read| node.wireguard = read);
        match [transport, key].into_iter().filter_map(Result::err).reduce(|a, b| format!("{a}; {b}")) {
            None => Ok(Some(node)),
            Some(why) => Err(Refusal { why, instead: Instead::Without(Box::new(node)) }),
        }
    }
}

/// metadata.namespace and metadata.name
fn namespaced(metadata: &ObjectMeta) -> Result<(String, String), String> {
    Ok((named("metadata.namespace", &metadata.namespace)?, named("metadata.name", &metadata.name)?))
}

/// A name that Kubernetes would take: the characters of a Node's.
fn named(path: &str, name: &Option<String>) -> Result<String, String> {
    parsed::<NodeName>(path, name.as_deref().unwrap_or_default()).map(String::from)
}

/// An annotation, if the object has it.
fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// What an annotation says, if the object has it.
fn annotated<T>(metadata: &ObjectMeta, name: &str) -> Result<Option<T>, String>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let path = || format!("metadata.annotations[{name:?}]");
    annotation(metadata, name).map(|text| parsed(&path(), text)).transpose()
}

/// A value, or what is wrong with it by its field's path.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(path: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|why| format!("{path} {text:?}: {why}"))
}

#[cfg(test)]
mod tests;
