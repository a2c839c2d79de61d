//! The policies that every namespace has: a default that denies, and what opens it again.

use serde_json::{Value, json};

use super::world::{namespace, zone};

/// A policy of a namespace, as it is in each.
#[derive(Debug)]
pub(crate) struct Usual {
    name: &'static str,
    /// Which of the namespace's pods it is for, by their label `app`: all without.
    pub(crate) selects: Option<&'static str>,
    pub(crate) ways: &'static [Way],
    /// What it admits, each of its ways.
    pub(crate) rules: &'static [Rule],
}

/// A direction, seen from the pods that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// Who is admitted, and at what; at everything without a port.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) peer: Peer,
    pub(crate) ports: &'static [Port],
}

/// `tcp` or `udp`, and the first and last of a range.
#[derive(Debug)]
pub(crate) struct Port(pub(crate) &'static str, pub(crate) u16, pub(crate) u16);

/// Some pods, or what is no pod.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    /// All of the namespace.
    Within,
    /// Those of the namespace that are one of these.
    Apps(&'static [&'static str]),
    /// Those of the namespace that somebody has granted it.
    Granted,
    /// Those of every namespace in the same zone that are this.
    Zone(&'static str),
    /// Those of the first namespace that are this.
    First(&'static str),
    /// Those of all namespaces that watch over others.
    Monitors,
    /// Somewhere outside, but for a part.
    Outside,
}

const IN: &[Way] = &[Way::In];
const OUT: &[Way] = &[Way::Out];
const WEB: &[Port] = &[Port("tcp", 8080, 8080)];
const DATABASE: &[Port] = &[Port("tcp", 5432, 5440)];
const METRICS: &[Port] = &[Port("tcp", 9090, 9090)];
const DNS: &[Port] = &[Port("udp", 53, 53), Port("tcp", 53, 53)];

const fn to(peer: Peer, ports: &'static [Port]) -> Rule {
    Rule { peer, ports }
}

const fn usual(
    name: &'static str,
    selects: Option<&'static str>,
    ways: &'static [Way],
    rules: &'static [Rule],
) -> Usual {
    Usual { name, selects, ways, rules }
}

/// All that a namespace has.
pub(crate) static USUAL: [Usual; 10] = [
    usual("default-deny", None, &[Way::In, Way::Out], &[]),
    usual("within", None, IN, &[to(Peer::Within, &[])]),
    usual("dns", None, OUT, &[to(Peer::First("db"), DNS)]),
    usual("web-from-granted", Some("web"), IN, &[to(Peer::Granted, WEB)]),
    usual("web-from-zone", Some("web"), IN, &[to(Peer::Zone("api"), WEB)]),
    usual("api-from-web", Some("api"), IN, &[to(Peer::Apps(&["web"]), WEB)]),
    usual("db-from-api", Some("db"), IN, &[to(Peer::Apps(&["api"]), DATABASE)]),
    usual("web-to-api", Some("web"), OUT, &[to(Peer::Apps(&["api"]), WEB), to(Peer::Outside, &[])]),
    usual("monitors", None, IN, &[to(Peer::Monitors, METRICS)]),
    usual("cache", Some("cache"), IN, &[to(Peer::Apps(&["web", "api"]), &[])]),
];

impl Usual {
    /// Its object in a namespace.
    pub(crate) fn object(&self, place: usize) -> Value {
        let mut spec = json!({"podSelector": self.selects.map_or(json!({}), app), "policyTypes": []});
        for way in self.ways {
            let (kind, field, end) = match way {
                Way::In => ("Ingress", "ingress", "from"),
                Way::Out => ("Egress", "egress", "to"),
            };
            spec["policyTypes"].as_array_mut().into_iter().for_each(|kinds| kinds.push(kind.into()));
            let rules = self.rules.iter().map(|rule| {
                let mut object = json!({end: [rule.peer.object(place)]});
                if !rule.ports.is_empty() {
                    object["ports"] = rule.ports.iter().map(Port::object).collect();
                }
                object
            });
            spec[field] = rules.collect();
        }
        policy(place, self.name, &spec)
    }
}

impl Port {
    fn object(&self) -> Value {
        let Self(protocol, first, last) = self;
        let mut object = json!({"protocol": protocol.to_uppercase(), "port": first});
        if last > first {
            object["endPort"] = (*last).into();
        }
        object
    }
}

impl Peer {
    fn object(self, place: usize) -> Value {
        match self {
            Self::Within => json!({"podSelector": {}}),
            Self::Apps([one]) => json!({"podSelector": app(one)}),
            Self::Apps(apps) => {
                let either = json!({"key": "app", "operator": "In", "values": apps});
                json!({"podSelector": {"matchExpressions": [either]}})
            }
            Self::Granted => json!({"podSelector": {"matchLabels": {"access": "granted"}}}),
            Self::Zone(name) => {
                json!({"namespaceSelector": {"matchLabels": {"zone": zone(place)}}, "podSelector": app(name)})
            }
            Self::First(name) => {
                let first = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace(0)}});
                json!({"namespaceSelector": first, "podSelector": app(name)})
            }
            Self::Monitors => {
                json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "monitor"}}})
            }
            Self::Outside => json!({"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.64/26"]}}),
        }
    }
}

/// A policy of a namespace.
pub(crate) fn policy(place: usize, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace(place), "name": name, "uid": format!("p-{place}-{name}")}, "spec": spec})
}

/// A selector of what pods are.
pub(crate) fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}
