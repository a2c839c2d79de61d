//! Objects as Kubernetes writes them, reduced to the fields that pod networking needs.

mod pod;
mod policy;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use selvedge_model::policy::{Policy, PolicyKey};
use selvedge_model::transport::Choice;
use selvedge_model::{Labels, Log, Namespace, Node, NodeName, Pod, PodKey, PublicKey};

use crate::yaml::{Field, Located};

/// What Kubernetes writes at length into the objects that are read, and is not read.
pub(crate) const UNREAD: &[&str] = &[
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
    /// A Namespace.
    Namespace(String),
    /// A NetworkPolicy.
    Policy(PolicyKey),
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "Node {name}"),
            Self::Pod(key) => write!(f, "Pod {key}"),
            Self::Namespace(name) => write!(f, "Namespace {name}"),
            Self::Policy(key) => write!(f, "NetworkPolicy {key}"),
        }
    }
}

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Node.
    Node(Node),
    /// A Pod.
    Pod(Arc<Pod>),
    /// A Namespace, by its name.
    Namespace(String, Namespace),
    /// A NetworkPolicy.
    Policy(Arc<Policy>),
}

impl Object {
    /// Which one it is.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Node(node) => ObjectKey::Node(node.name.clone()),
            Self::Pod(pod) => ObjectKey::Pod(pod.key.clone()),
            Self::Namespace(name, _) => ObjectKey::Namespace(name.clone()),
            Self::Policy(policy) => ObjectKey::Policy(policy.key.clone()),
        }
    }

    /// True if it only stands in for one that never had a good form.
    pub(crate) fn is_stand_in(&self) -> bool {
        matches!(self, Self::Policy(policy) if policy.refused.is_some())
    }
}

/// An object that was read.
pub(crate) struct Read {
    pub(crate) object: Object,
    /// What is wrong with annotations, which count as not there.
    pub(crate) without: Vec<Located>,
}

impl From<Object> for Read {
    fn from(object: Object) -> Self {
        Self { object, without: Vec::new() }
    }
}

/// What is wrong with one of an object's fields.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Located,
    /// What stands in for the object where it never had a good form.
    pub(crate) closed: Option<Arc<Policy>>,
}

impl From<Located> for Refusal {
    fn from(fault: Located) -> Self {
        Self { fault, closed: None }
    }
}

/// One document, or one item of a list, as far as it says what it is.
pub(crate) enum Manifest<'a> {
    /// Several objects, the version and kind of each unless it says so itself.
    List { items: Vec<Field<'a>>, kind: Option<Type> },
    /// An object of ours, or what is wrong with one of its fields.
    Object { key: ObjectKey, object: Result<Read, Refusal> },
    /// An object of a kind that is not read, or nothing.
    Other,
}

/// apiVersion and kind.
pub(crate) type Type = (&'static str, &'static str);

/// Reads a document or, with the type that its list gives it, an item. Fails if it doesn't say which object it is.
pub(crate) fn read<'a>(manifest: &Field<'a>, given: Option<Type>) -> Result<Manifest<'a>, Located> {
    if manifest.is_null() {
        return Ok(Manifest::Other);
    }
    let (version, kind) = match given {
        Some(given) => given,
        None => (manifest.require("apiVersion")?.text()?, manifest.require("kind")?.text()?),
    };
    match (version, kind) {
        ("v1", "Node") => {
            let name: NodeName = manifest.require("metadata")?.require("name")?.parse()?;
            let object = node(manifest, name.clone()).map_err(Refusal::from);
            Ok(Manifest::Object { key: ObjectKey::Node(name), object })
        }
        ("v1", "Pod") => {
            let (namespace, name) = namespaced(manifest)?;
            let key = PodKey { namespace, name };
            let object = pod::read(manifest, key.clone()).map(|pod| Object::Pod(Arc::new(pod)).into());
            Ok(Manifest::Object { key: ObjectKey::Pod(key), object: object.map_err(Refusal::from) })
        }
        ("v1", "Namespace") => {
            let name = object_name(&manifest.require("metadata")?.require("name")?)?;
            let object = namespace(manifest).map(|read| Object::Namespace(name.clone(), read).into());
            Ok(Manifest::Object { key: ObjectKey::Namespace(name), object: object.map_err(Refusal::from) })
        }
        (version, "NetworkPolicy") if policy::is_meant(version) => {
            let (namespace, name) = namespaced(manifest)?;
            let key = PolicyKey { namespace, name };
            let object = policy::read(manifest, key.clone(), version);
            Ok(Manifest::Object {
                key: ObjectKey::Policy(key),
                object: object.map(|policy| Object::Policy(policy).into()),
            })
        }
        ("v1", "List") => list(manifest, None),
        ("v1", "NodeList") => list(manifest, Some(("v1", "Node"))),
        ("v1", "PodList") => list(manifest, Some(("v1", "Pod"))),
        ("v1", "NamespaceList") => list(manifest, Some(("v1", "Namespace"))),
        (policy::VERSION, "NetworkPolicyList") => list(manifest, Some((policy::VERSION, "NetworkPolicy"))),
        // Other groups have Nodes too.
        _ => Ok(Manifest::Other),
    }
}

fn list<'a>(manifest: &Field<'a>, kind: Option<Type>) -> Result<Manifest<'a>, Located> {
    let items = manifest.get("items")?.map(|items| items.items().map(Iterator::collect)).transpose()?;
    Ok(Manifest::List { items: items.unwrap_or_default(), kind })
}

fn node(manifest: &Field<'_>, name: NodeName) -> Result<Read, Located> {
    let mut node = Node::new(name, Vec::new(), Vec::new());
    let metadata = manifest.require("metadata")?;
    let transport = annotated(&metadata, Choice::ANNOTATION)?.map(|read| node.transport = read);
    let key = annotated(&metadata, PublicKey::ANNOTATION)?.map(|read| node.wireguard = read);
    let without = [transport, key].into_iter().filter_map(Result::err).collect();
    if let Some(spec) = manifest.get("spec")? {
        node.pod_cidrs = match spec.get("podCIDRs")? {
            Some(list) => list.items()?.map(|cidr| cidr.cidr()).collect::<Result<_, _>>()?,
            None => filled(&spec, "podCIDR")?.map(|cidr| cidr.cidr()).transpose()?.into_iter().collect(),
        };
    }
    if let Some(status) = manifest.get("status")?
        && let Some(addresses) = status.get("addresses")?
    {
        for entry in addresses.items()? {
            if entry.require("type")?.text()? == "InternalIP" {
                node.addresses.push(entry.require("address")?.address()?);
            }
        }
    }
    Ok(Read { object: Object::Node(node), without })
}

/// What an annotation says, if the object has it; or, within, what is wrong with that.
fn annotated<T>(metadata: &Field<'_>, name: &str) -> Result<Result<Option<T>, Located>, Located>
where
    T: FromStr<Err: fmt::Display>,
{
    let parse = |field: Field<'_>| {
        let text = field.text()?;
        text.parse().map_err(|why: T::Err| field.refuse(text, why.to_string()))
    };
    Ok(annotation(metadata, name)?.map(parse).transpose())
}

fn namespace(manifest: &Field<'_>) -> Result<Namespace, Located> {
    let metadata = manifest.require("metadata")?;
    let log = match annotation(&metadata, Log::ANNOTATION)? {
        None => Log::default(),
        Some(field) => {
            let text = field.text()?;
            Log::named(text).ok_or_else(|| field.refuse(text, "must be off, denied or all"))?
        }
    };
    Ok(Namespace { labels: labels(&metadata)?, log })
}

fn labels(metadata: &Field<'_>) -> Result<Labels, Located> {
    match metadata.get("labels")? {
        Some(labels) => labels.entries()?.map(label).collect(),
        None => Ok(Labels::default()),
    }
}

/// A label without a value is one with an empty value, as in Kubernetes.
fn label((key, value): (&str, Field<'_>)) -> Result<(String, String), Located> {
    let text = if value.is_null() { "" } else { value.text()? };
    Ok((key.to_owned(), text.to_owned()))
}

/// An annotation, if the object has it.
fn annotation<'a>(metadata: &Field<'a>, name: &str) -> Result<Option<Field<'a>>, Located> {
    metadata.get("annotations")?.map(|annotations| annotations.get(name)).transpose().map(Option::flatten)
}

/// metadata.namespace and metadata.name
fn namespaced(manifest: &Field<'_>) -> Result<(String, String), Located> {
    let metadata = manifest.require("metadata")?;
    let name = object_name(&metadata.require("name")?)?;
    let namespace = filled(&metadata, "namespace")?.map(|namespace| object_name(&namespace)).transpose()?;
    Ok((namespace.unwrap_or_else(|| "default".to_owned()), name))
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
