//! Nodes and Pods as Kubernetes writes them, reduced to the fields that pod networking needs.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;

use selvedge_model::{ContainerPort, Labels, Node, NodeName, Pod, PodKey, Transport};

use crate::yaml::{Field, Located};

/// What Kubernetes writes at length into the objects that are read, and is not read.
pub(crate) const UNREAD: &[&str] = &[
    "annotations",
    "args",
    "command",
    "conditions",
    "containerStatuses",
    "env",
    "envFrom",
    "images",
    "initContainerStatuses",
    "lifecycle",
    "livenessProbe",
    "managedFields",
    "nodeInfo",
    "ownerReferences",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "tolerations",
    "volumeMounts",
    "volumes",
];

/// Which object of the cluster is meant. Displayed as `Node NAME` or `Pod NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKey {
    /// A Node.
    Node(NodeName),
    /// A Pod.
    Pod(PodKey),
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "Node {name}"),
            Self::Pod(key) => write!(f, "Pod {key}"),
        }
    }
}

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Node(Node),
    Pod(Pod),
}

impl Object {
    pub(crate) fn key(&self) -> ObjectKey {
        match self {
            Self::Node(node) => ObjectKey::Node(node.name.clone()),
            Self::Pod(pod) => ObjectKey::Pod(pod.key.clone()),
        }
    }
}

/// One document, or one item of a list, as far as it says what it is.
pub(crate) enum Manifest<'a> {
    /// Several objects, the kind of each unless it says so itself.
    List { items: Vec<Field<'a>>, kind: Option<&'static str> },
    /// An object of ours, or what is wrong with one of its fields.
    Object { key: ObjectKey, object: Result<Object, Located> },
    /// An object of a kind that is not read, or nothing.
    Other,
}

/// Reads a document or, with the kind that its list gives it, an item. Fails if it doesn't say which object it is.
pub(crate) fn read<'a>(manifest: &Field<'a>, kind: Option<&'static str>) -> Result<Manifest<'a>, Located> {
    if manifest.is_null() {
        return Ok(Manifest::Other);
    }
    let (version, kind) = match kind {
        Some(kind) => ("v1", kind),
        None => (manifest.require("apiVersion")?.text()?, manifest.require("kind")?.text()?),
    };
    // Other groups have Nodes too.
    if version != "v1" {
        return Ok(Manifest::Other);
    }
    match kind {
        "Node" => {
            let name: NodeName = manifest.require("metadata")?.require("name")?.parse()?;
            let object = node(manifest, name.clone()).map(Object::Node);
            Ok(Manifest::Object { key: ObjectKey::Node(name), object })
        }
        "Pod" => {
            let key = pod_key(manifest)?;
            let object = pod(manifest, key.clone()).map(Object::Pod);
            Ok(Manifest::Object { key: ObjectKey::Pod(key), object })
        }
        "List" => list(manifest, None),
        "NodeList" => list(manifest, Some("Node")),
        "PodList" => list(manifest, Some("Pod")),
        _ => Ok(Manifest::Other),
    }
}

fn list<'a>(manifest: &Field<'a>, kind: Option<&'static str>) -> Result<Manifest<'a>, Located> {
    let items = manifest.get("items")?.map(|items| items.items().map(Iterator::collect)).transpose()?;
    Ok(Manifest::List { items: items.unwrap_or_default(), kind })
}

fn node(manifest: &Field<'_>, name: NodeName) -> Result<Node, Located> {
    let mut node = Node { name, pod_cidrs: Vec::new(), addresses: Vec::new() };
    if let Some(spec) = manifest.get("spec")? {
        node.pod_cidrs = match spec.get("podCIDRs")? {
            Some(list) => list.items()?.map(|cidr| cidr.cidr()).collect::<Result<_, _>>()?,
            None => filled(&spec, "podCIDR")?.map(|cidr| cidr.cidr()).transpose()?.into_iter().collect(),
        };
    }
    let Some(status) = manifest.get("status")? else { return Ok(node) };
    let Some(addresses) = status.get("addresses")? else { return Ok(node) };
    for entry in addresses.items()? {
        if entry.require("type")?.text()? == "InternalIP" {
            node.addresses.push(entry.require("address")?.address()?);
        }
    }
    Ok(node)
}

fn pod(manifest: &Field<'_>, key: PodKey) -> Result<Pod, Located> {
    let metadata = manifest.require("metadata")?;
    let uid = filled(&metadata, "uid")?.map(|uid| uid.text().map(str::to_owned)).transpose()?;
    let labels = match metadata.get("labels")? {
        Some(labels) => labels.entries()?.map(label).collect::<Result<_, _>>()?,
        None => BTreeMap::new(),
    };
    let mut pod = Pod {
        key,
        uid,
        node: None,
        labels: Labels::from(labels),
        addresses: Vec::new(),
        host_network: false,
        finished: false,
        ports: Vec::new(),
    };
    if let Some(spec) = manifest.get("spec")? {
        pod.node = filled(&spec, "nodeName")?.map(|name| name.parse()).transpose()?;
        let host_network = spec.get("hostNetwork")?.map(|value| value.boolean()).transpose()?;
        pod.host_network = host_network.unwrap_or(false);
        pod.ports = named_ports(&spec)?;
    }
    if let Some(status) = manifest.get("status")? {
        pod.addresses = match status.get("podIPs")? {
            Some(list) => {
                list.items()?.map(|item| item.require("ip")?.address()).collect::<Result<_, _>>()?
            }
            None => filled(&status, "podIP")?.map(|ip| ip.address()).transpose()?.into_iter().collect(),
        };
        pod.finished =
            filled(&status, "phase")?.map(|phase| phase.text()).transpose()?.is_some_and(Pod::is_final);
    }
    Ok(pod)
}

/// The ports that a policy may name: of the containers, and of those init containers that go on beside them.
fn named_ports(spec: &Field<'_>) -> Result<Vec<ContainerPort>, Located> {
    let mut ports = Vec::new();
    for key in ["containers", "initContainers"] {
        let Some(containers) = spec.get(key)? else { continue };
        for container in containers.items()? {
            let goes_on = key == "containers"
                || filled(&container, "restartPolicy")?.is_some_and(|policy| policy.text() == Ok("Always"));
            let Some(list) = container.get("ports")?.filter(|_| goes_on) else { continue };
            for port in list.items()? {
                ports.extend(named_port(&port)?);
            }
        }
    }
    Ok(ports)
}

fn named_port(port: &Field<'_>) -> Result<Option<ContainerPort>, Located> {
    let Some(name) = filled(port, "name")? else { return Ok(None) };
    let transport = match filled(port, "protocol")? {
        None => Transport::Tcp,
        Some(protocol) => {
            let text = protocol.text()?;
            let rule = "is no protocol with ports: TCP, UDP or SCTP";
            Transport::of_kubernetes(text).ok_or_else(|| protocol.refuse(text, rule))?
        }
    };
    let field = port.require("containerPort")?;
    let number = field.number()?;
    let rule = "is no port: 1 to 65535";
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    let number = port.ok_or_else(|| field.refuse(&number.to_string(), rule))?;
    Ok(Some(ContainerPort { name: name.text()?.into(), transport, number }))
}

/// A label without a value is one with an empty value, as in Kubernetes.
fn label((key, value): (&str, Field<'_>)) -> Result<(String, String), Located> {
    let text = if value.is_null() { "" } else { value.text()? };
    Ok((key.to_owned(), text.to_owned()))
}

fn pod_key(manifest: &Field<'_>) -> Result<PodKey, Located> {
    let metadata = manifest.require("metadata")?;
    let name = object_name(&metadata.require("name")?)?;
    let namespace = filled(&metadata, "namespace")?.map(|namespace| object_name(&namespace)).transpose()?;
    Ok(PodKey { namespace: namespace.unwrap_or_else(|| "default".to_owned()), name })
}

/// A name that Kubernetes would take: the characters of a Node's.
fn object_name(field: &Field<'_>) -> Result<String, Located> {
    let rule = "is no name: 1 to 253 lower-case letters, digits, '-' and '.'";
    let text = field.text()?;
    let name: Result<NodeName, _> = text.parse();
    name.map(String::from).map_err(|_no_name| field.refuse(text, rule))
}

/// The field unless it is absent or, as Kubernetes writes what has no value yet, the empty text.
fn filled<'a>(parent: &Field<'a>, key: &str) -> Result<Option<Field<'a>>, Located> {
    Ok(parent.get(key)?.filter(|field| field.text() != Ok("")))
}
