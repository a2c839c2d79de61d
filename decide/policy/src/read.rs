//! NetworkPolicies as Kubernetes has them, read field by field.

use std::num::NonZeroU16;

use ipnet::IpNet;
use selvedge_model::Transport;
use serde_json::Value;

use crate::field::{Fault, Field};
use selvedge_model::policy::{
    Direction, IpBlock, Mode, Namespaces, Peer, Peers, PodPeer, Policy, PolicyKey, Port, PortName, PortRange,
    Ports, Rule, Which,
};
use selvedge_model::selector::{Requirement, Selector, Values};

/// A NetworkPolicy that is no good. Displayed as `NetworkPolicy NAMESPACE/NAME: FIELD: what is wrong`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NetworkPolicy {key}: {path}: {what}", key = .closed.key)]
pub struct Refused {
    /// The field.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// What stands in for the policy where it never had a good form: admits nothing, in the directions that it names
    /// or, if they can't be read, in both, and for the pods that it selects or, if that can't be read, for all of its
    /// namespace.
    pub closed: Box<Policy>,
}

/// Reads a NetworkPolicy's spec.
///
/// Beyond what Kubernetes itself checks, fields that are not known are refused: a later version of Kubernetes may have
/// given them a meaning that narrows the others'.
pub fn read(key: PolicyKey, spec: &Value) -> Result<Policy, Refused> {
    let spec = Field::root("spec", spec);
    let (selects, directions) = (selected(&spec), directions(&spec));
    let closed = |fault: Fault, selects, directions: &[Direction]| {
        let none = |direction| directions.contains(&direction).then(Vec::new);
        let (ingress, egress) = (none(Direction::Ingress), none(Direction::Egress));
        let refused = Some(format!("{}: {}", fault.path, fault.what));
        let mode = Mode::Enforced;
        let closed = Box::new(Policy { key: key.clone(), selects, ingress, egress, mode, refused });
        Refused { path: fault.path, what: fault.what, closed }
    };
    let (selects, directions) = match (selects, directions) {
        (Ok(selects), Ok(directions)) => (selects, directions),
        (Err(fault), directions) => {
            let directions = directions.unwrap_or_else(|_both| Direction::ALL.to_vec());
            return Err(closed(fault, Selector::everything(), &directions));
        }
        (Ok(selects), Err(fault)) => return Err(closed(fault, selects, &Direction::ALL)),
    };
    // Rules of a direction that the policy isn't about must be right too, and are not in force.
    let in_force = |direction, rules| directions.contains(&direction).then_some(rules);
    match both(&spec) {
        Ok((ingress, egress)) => Ok(Policy {
            key,
            selects,
            ingress: in_force(Direction::Ingress, ingress),
            egress: in_force(Direction::Egress, egress),
            mode: Mode::Enforced,
            refused: None,
        }),
        Err(fault) => Err(closed(fault, selects, &directions)),
    }
}

/// What was read, in the mode that the policy's annotation [`Mode::ANNOTATION`] names.
///
/// A shadow isolates nothing, whatever is wrong with its spec; a mode that isn't known is refused.
pub fn in_mode(read: Result<Policy, Refused>, mode: Option<&Value>) -> Result<Policy, Refused> {
    let named = match mode {
        None | Some(Value::Null) => Some(Mode::default()),
        Some(value) => value.as_str().and_then(Mode::named),
    };
    match (read, named) {
        (Ok(policy), Some(mode)) => Ok(Policy { mode, ..policy }),
        (Err(refused), Some(mode)) => {
            Err(Refused { closed: Box::new(Policy { mode, ..*refused.closed }), ..refused })
        }
        (Err(refused), None) => Err(refused),
        (Ok(policy), None) => {
            let path = format!("metadata.annotations[{:?}]", Mode::ANNOTATION);
            let value = mode.cloned().unwrap_or_default();
            Err(refuse(policy, path, format!("{value} is no mode: enforced or shadow")))
        }
    }
}

/// Refuses a policy whose spec is good for what is wrong with another of its fields.
pub fn refuse(policy: Policy, path: String, what: String) -> Refused {
    let closed = Box::new(policy.closed(format!("{path}: {what}")));
    Refused { path, what, closed }
}

/// The pods of the policy's namespace that it is about: all, where nothing is said.
fn selected(spec: &Field<'_>) -> Result<Selector, Fault> {
    selector_or_everything(spec.get("podSelector")?)
}

/// spec.policyTypes; by default ingress, and egress too if there is a rule for it.
fn directions(spec: &Field<'_>) -> Result<Vec<Direction>, Fault> {
    let types = spec.list("policyTypes")?;
    if types.is_empty() {
        // What is no list is no sign that egress isn't meant.
        let egress = spec.list("egress").map_or(true, |rules| !rules.is_empty());
        return Ok(Direction::ALL.into_iter().filter(|d| *d == Direction::Ingress || egress).collect());
    }
    let direction = |field: &Field<'_>| match field.text()? {
        "Ingress" => Ok(Direction::Ingress),
        "Egress" => Ok(Direction::Egress),
        other => Err(field.fault(format!("{other:?} is neither Ingress nor Egress"))),
    };
    types.iter().map(direction).collect()
}

fn both(spec: &Field<'_>) -> Result<(Vec<Rule>, Vec<Rule>), Fault> {
    spec.only(&["podSelector", "policyTypes", "ingress", "egress"])?;
    let rules = |key, peers| spec.list(key)?.iter().map(|field| rule(field, peers)).collect::<Result<_, _>>();
    Ok((rules("ingress", "from")?, rules("egress", "to")?))
}

fn rule(field: &Field<'_>, peers: &str) -> Result<Rule, Fault> {
    if !field.value().is_object() {
        return Err(field.must_be("a mapping"));
    }
    field.only(&[peers, "ports"])?;
    let peers = field.list(peers)?.iter().map(peer).collect::<Result<Vec<_>, _>>()?;
    let ports = field.list("ports")?.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    Ok(Rule {
        peers: if peers.is_empty() { Peers::Anyone } else { Peers::Of(peers) },
        ports: if ports.is_empty() { Ports::Any } else { Ports::Of(ports) },
    })
}

fn peer(field: &Field<'_>) -> Result<Peer, Fault> {
    field.only(&["podSelector", "namespaceSelector", "ipBlock"])?;
    let (pods, namespaces) = (field.get("podSelector")?, field.get("namespaceSelector")?);
    match (field.get("ipBlock")?, pods, namespaces) {
        (Some(block), None, None) => ip_block(&block).map(Peer::Block),
        (Some(block), ..) => Err(block.fault("can't stand beside a podSelector or namespaceSelector")),
        (None, None, None) => {
            Err(field.fault("names nobody: podSelector, namespaceSelector and ipBlock are missing"))
        }
        (None, pods, namespaces) => Ok(Peer::Pods(PodPeer {
            namespaces: match namespaces {
                Some(field) => Namespaces::Labelled(selector(&field)?),
                None => Namespaces::Own,
            },
            pods: selector_or_everything(pods)?,
        })),
    }
}

fn ip_block(field: &Field<'_>) -> Result<IpBlock, Fault> {
    field.only(&["cidr", "except"])?;
    let cidr = network(&field.require("cidr")?)?;
    let except = field.list("except")?;
    let nets = except.iter().map(network).collect::<Result<Vec<_>, _>>()?;
    IpBlock::new(cidr, nets).map_err(|why| except.get(why.index()).unwrap_or(field).fault(why.to_string()))
}

/// Host bits don't matter, as in Kubernetes.
fn network(field: &Field<'_>) -> Result<IpNet, Fault> {
    let text = field.text()?;
    let net: IpNet = text.parse().map_err(|_no_cidr| field.fault(format!("{text:?} is no CIDR")))?;
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            Err(field.fault(format!("{text:?} is IPv4 in the form of IPv6, which no packet has")))
        }
        net => Ok(net.trunc()),
    }
}

fn port(field: &Field<'_>) -> Result<Port, Fault> {
    if !field.value().is_object() {
        return Err(field.must_be("a mapping"));
    }
    field.only(&["protocol", "port", "endPort"])?;
    let transport = match field.get("protocol")? {
        None => Transport::Tcp,
        Some(protocol) => {
            let text = protocol.text()?;
            let unknown = || protocol.fault(format!("{text:?} is no protocol with ports: TCP, UDP or SCTP"));
            Transport::of_kubernetes(text).ok_or_else(unknown)?
        }
    };
    let which = match (field.get("port")?, field.get("endPort")?) {
        (None, None) => Which::All,
        (Some(port), None) => match port.value() {
            Value::String(name) => {
                let rule =
                    "is no port's name: 1 to 15 lower-case letters, digits and single '-', with a letter";
                Which::Named(PortName::new(name).ok_or_else(|| port.fault(format!("{name:?} {rule}")))?)
            }
            _ => Which::Numbers(PortRange::one(number(&port)?)),
        },
        (Some(port), Some(end)) if !port.value().is_string() => {
            let (first, last) = (number(&port)?, number(&end)?);
            let below = || end.fault(format!("{last} is below port {first}"));
            Which::Numbers(PortRange::new(first, last).ok_or_else(below)?)
        }
        (_, Some(end)) => return Err(end.fault("needs a port that is a number")),
    };
    Ok(Port { transport, which })
}

fn number(field: &Field<'_>) -> Result<NonZeroU16, Fault> {
    let Value::Number(number) = field.value() else { return Err(field.must_be("a number")) };
    let port = number.as_u64().and_then(|number| u16::try_from(number).ok()).and_then(NonZeroU16::new);
    port.ok_or_else(|| field.fault(format!("{number} is no port: 1 to 65535")))
}

fn selector_or_everything(field: Option<Field<'_>>) -> Result<Selector, Fault> {
    field.map_or_else(|| Ok(Selector::everything()), |field| selector(&field))
}

fn selector(field: &Field<'_>) -> Result<Selector, Fault> {
    field.only(&["matchLabels", "matchExpressions"])?;
    let equal = |(key, field): (&str, Field<'_>)| {
        let value = if field.value().is_null() { "" } else { field.text()? };
        Ok(Requirement::In(label(key, &field)?, Values::one(value)))
    };
    let labels = field.entries("matchLabels")?.into_iter().map(equal);
    let expressions = field.list("matchExpressions")?;
    labels.chain(expressions.iter().map(requirement)).collect()
}

fn requirement(field: &Field<'_>) -> Result<Requirement, Fault> {
    field.only(&["key", "operator", "values"])?;
    let key = field.require("key")?;
    let (key, operator) = (label(key.text()?, &key)?, field.require("operator")?);
    let given = field
        .list("values")?
        .iter()
        .map(|value| value.text().map(str::to_owned))
        .collect::<Result<Vec<_>, _>>()?;
    let (values, any) = (|| field.get("values"), !given.is_empty());
    let some = |given| {
        let name = operator.text().unwrap_or_default();
        Values::new(given).ok_or_else(|| operator.fault(format!("{name} needs values")))
    };
    let none = |requirement| match values()? {
        Some(field) if any => Err(field.fault("must be empty: the operator looks at no value")),
        _ => Ok(requirement),
    };
    match operator.text()? {
        "In" => Ok(Requirement::In(key, some(given)?)),
        "NotIn" => Ok(Requirement::NotIn(key, some(given)?)),
        "Exists" => none(Requirement::Exists(key)),
        "DoesNotExist" => none(Requirement::DoesNotExist(key)),
        other => Err(operator.fault(format!("{other:?} is no operator: In, NotIn, Exists or DoesNotExist"))),
    }
}

/// A label's key: a name of up to 63 characters, and before it a domain and `/` perhaps.
fn label(key: &str, field: &Field<'_>) -> Result<String, Fault> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let ends = |text: &str| {
        let is_alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        is_alphanumeric(text.bytes().next()) && is_alphanumeric(text.bytes().last())
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let name_ok = name.len() <= 63 && ends(name) && name.bytes().all(plain);
    let domain_ok = domain.is_none_or(|domain| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        domain.len() <= 253 && ends(domain) && domain.bytes().all(plain)
    });
    if name_ok && domain_ok {
        Ok(key.to_owned())
    } else {
        Err(field.fault(format!("{key:?} is no label's key")))
    }
}

#[cfg(test)]
mod tests;
