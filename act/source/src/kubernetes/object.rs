//! Nodes and Pods as the API sends them: of each only what pod networking needs is kept from the start.

use std::borrow::Cow;
use std::fmt::Debug;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope, Resource};
use selvedge_model::{ContainerPort, Node, NodeName, Pod, PodKey, Transport};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::kubernetes::standing::{Condition, Standing, Taint};
use crate::object::ObjectKey;

/// A kind of object that is followed.
pub(super) trait Followed:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// What is kept of one.
    type Kept: Clone + PartialEq;

    /// Which object it is, or what it lacks for that.
    fn key(&self) -> Result<ObjectKey, String>;

    /// What is kept of it, or which field is no good.
    fn keep(self) -> Result<Self::Kept, String>;
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

/// A Pod (core/v1).
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ApiPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    ports: Vec<Port>,
    restart_policy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: String,
    protocol: String,
    container_port: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    phase: String,
}

#[derive(Debug, Clone, Deserialize)]
struct PodIp {
    ip: String,
}

macro_rules! core_v1 {
    ($object:ty, $kind:literal, $plural:literal, $scope:ty) => {
        impl Resource for $object {
            type DynamicType = ();
            type Scope = $scope;

            fn kind(&(): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group(&(): &()) -> Cow<'_, str> {
                "".into()
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

core_v1!(ApiNode, "Node", "nodes", ClusterResourceScope);
core_v1!(ApiPod, "Pod", "pods", NamespaceResourceScope);

impl ApiNode {
    /// True if that is its name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.metadata.name.as_deref() == Some(name)
    }

    /// How it stands in the API.
    pub(super) fn standing(&self) -> Standing {
        Standing::of(&self.status.conditions, &self.spec.taints)
    }
}

impl Followed for ApiNode {
    type Kept = Node;

    fn key(&self) -> Result<ObjectKey, String> {
        Ok(ObjectKey::Node(parsed("metadata.name", self.metadata.name.as_deref().unwrap_or_default())?))
    }

    fn keep(self) -> Result<Node, String> {
        let name: NodeName = parsed("metadata.name", self.metadata.name.as_deref().unwrap_or_default())?;
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
        Ok(Node { name, pod_cidrs, addresses })
    }
}

impl ApiPod {
    fn pod_key(&self) -> Result<PodKey, String> {
        let text = |field: &Option<String>, path: &str| {
            let name: NodeName = parsed(path, field.as_deref().unwrap_or_default())?;
            Ok::<_, String>(String::from(name))
        };
        let namespace = text(&self.metadata.namespace, "metadata.namespace")?;
        Ok(PodKey { namespace, name: text(&self.metadata.name, "metadata.name")? })
    }
}

impl Followed for ApiPod {
    type Kept = Pod;

    fn key(&self) -> Result<ObjectKey, String> {
        self.pod_key().map(ObjectKey::Pod)
    }

    fn keep(self) -> Result<Pod, String> {
        let key = self.pod_key()?;
        let node = Some(&self.spec.node_name).filter(|name| !name.is_empty());
        let node = node.map(|name| parsed("spec.nodeName", name)).transpose()?;
        let ips: Vec<&String> = match &self.status.pod_ips[..] {
            [] => Some(&self.status.pod_ip).filter(|ip| !ip.is_empty()).into_iter().collect(),
            ips => ips.iter().map(|entry| &entry.ip).collect(),
        };
        let address = |(i, ip): (usize, &String)| parsed(&format!("status.podIPs[{i}].ip"), ip);
        let addresses = ips.into_iter().enumerate().map(address).collect::<Result<_, _>>()?;
        Ok(Pod {
            key,
            uid: self.metadata.uid,
            mirror: None,
            node,
            labels: self.metadata.labels.unwrap_or_default().into(),
            addresses,
            host_network: self.spec.host_network,
            finished: Pod::is_final(&self.status.phase),
            ports: self.spec.named_ports(),
        })
    }
}

impl PodSpec {
    /// The ports that a policy may name: of the containers, and of those init containers that go on beside them.
    fn named_ports(self) -> Vec<ContainerPort> {
        let beside =
            self.init_containers.into_iter().filter(|container| container.restart_policy == "Always");
        let ports = self.containers.into_iter().chain(beside).flat_map(|container| container.ports);
        let mut named: Vec<_> = ports.filter_map(Port::named).collect();
        named.shrink_to_fit();
        named
    }
}

impl Port {
    /// What a name leads to; nothing where it has none, or no port that a packet could have.
    fn named(self) -> Option<ContainerPort> {
        let protocol = if self.protocol.is_empty() { "TCP" } else { &self.protocol };
        let transport = Transport::of_kubernetes(protocol)?;
        let number = u16::try_from(self.container_port).ok().and_then(NonZeroU16::new)?;
        (!self.name.is_empty()).then(|| ContainerPort { name: self.name.into(), transport, number })
    }
}

/// A value, or what is wrong with it by its field's path.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(path: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|why| format!("{path} {text:?}: {why}"))
}

#[cfg(test)]
mod tests;
