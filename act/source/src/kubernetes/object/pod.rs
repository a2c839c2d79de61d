//! Pods.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use selvedge_model::{ContainerPort, NodeName, Pod, PodKey, Pods, Transport};
use serde::Deserialize;

use super::{Followed, Keeper, Refusal, annotation, namespaced, parsed};

/// A Pod (core/v1).
#[derive(Debug, Clone, Deserialize)]
pub(in crate::kubernetes) struct ApiPod {
    pub(super) metadata: ObjectMeta,
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

impl Followed for ApiPod {
    type Store = Pods;

    fn key(&self) -> Result<PodKey, String> {
        namespaced(&self.metadata).map(|(namespace, name)| PodKey { namespace, name })
    }

    /// Of other nodes' pods only what policies ask for: who has which address.
    fn keep(self, keeper: &mut Keeper) -> Result<Option<Arc<Pod>>, Refusal<Arc<Pod>>> {
        let key = self.key()?;
        let node = Some(&self.spec.node_name).filter(|name| !name.is_empty());
        let node: Option<NodeName> = node.map(|name| parsed("spec.nodeName", name)).transpose()?;
        let is_elsewhere = node.as_ref().is_some_and(|node| *node != keeper.node);
        let finished = Pod::is_final(&self.status.phase);
        // Its address is its node's, or may be another pod's by now.
        if is_elsewhere && (self.spec.host_network || finished) {
            return Ok(None);
        }
        let mirror = || Pod::MIRRORS.iter().find_map(|name| annotation(&self.metadata, name));
        let mirror = if is_elsewhere { None } else { mirror().map(Box::from) };
        let addresses = self.status.addresses()?;
        Ok(Some(Arc::new(Pod {
            key,
            uid: self.metadata.uid.filter(|_| !is_elsewhere),
            mirror,
            node,
            labels: keeper.labels.share(self.metadata.labels.unwrap_or_default().into()),
            addresses,
            host_network: self.spec.host_network,
            finished,
            ports: self.spec.named_ports(),
        })))
    }
}

impl PodStatus {
    fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        let ips: Vec<&String> = match &self.pod_ips[..] {
            [] => Some(&self.pod_ip).filter(|ip| !ip.is_empty()).into_iter().collect(),
            ips => ips.iter().map(|entry| &entry.ip).collect(),
        };
        let address = |(i, ip): (usize, &String)| parsed(&format!("status.podIPs[{i}].ip"), ip);
        ips.into_iter().enumerate().map(address).collect()
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
