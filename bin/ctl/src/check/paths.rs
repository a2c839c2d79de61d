//! The paths of a cluster: who asks whom, what must be seen there, and the table of what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use crate::kubectl::AgentPod;
use crate::probe::{Outcome, PORT};
use crate::status::printable;
use crate::table::headed;

/// The kubelet's port: where nodes are connected to.
const KUBELET: u16 = 10250;

/// From where paths begin.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The node's name.
    node: String,
    /// The pod in which the question is asked: one of the check's own, or the agent's, which is in the node's network.
    pub(super) pod: String,
    kind: PlaceKind,
    /// Its addresses.
    addresses: Vec<IpAddr>,
    /// As whom pods of other nodes may see it too: a node that is reached in an overlay has the network addresses of its
    /// pod CIDRs there.
    overlay: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    Pod,
    Node,
}

/// What kind of path it is, as tutorials list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// From a pod to its own node.
    OwnNode,
    /// From a pod to another node.
    OtherNode,
    /// From a pod to one on its node.
    PodSameNode,
    /// From a pod to one on another node.
    PodOtherNode,
    /// From a pod to itself.
    Itself,
    /// From a pod out of the cluster.
    Outside,
    /// From a node to a pod of its own.
    NodeToOwnPod,
    /// From a node to a pod of another one.
    NodeToOtherPod,
}

const POD_COLUMNS: [(Kind, &str); 6] = [
    (Kind::OwnNode, "own node"),
    (Kind::OtherNode, "other node"),
    (Kind::PodSameNode, "pod, same node"),
    (Kind::PodOtherNode, "pod, other node"),
    (Kind::Itself, "itself"),
    (Kind::Outside, "outside"),
];

const NODE_COLUMNS: [(Kind, &str); 2] =
    [(Kind::NodeToOwnPod, "own pods"), (Kind::NodeToOtherPod, "other nodes' pods")];

/// Where a path ends.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    name: String,
    kind: Kind,
}

/// One path and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Path {
    node: String,
    from: String,
    to: String,
    address: SocketAddr,
    kind: Kind,
    /// What is wrong, if anything.
    fault: Option<String>,
}

/// Every path.
#[derive(Debug, Serialize)]
pub(super) struct Paths {
    paths: Vec<Path>,
}

impl Place {
    /// One of the check's pods.
    pub(super) fn pod(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let addresses = pod["status"]["podIPs"].as_array().into_iter().flatten();
        Self {
            node: text(&pod["spec"]["nodeName"]),
            pod: text(&pod["metadata"]["name"]),
            kind: PlaceKind::Pod,
            addresses: addresses.filter_map(|each| each["ip"].as_str()?.parse().ok()).collect(),
            overlay: Vec::new(),
        }
    }

    /// A node, and the agent's pod that is in its network.
    pub(super) fn node(agent: AgentPod, node: &Value) -> Self {
        let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        let own = addresses.filter(|each| each["type"] == "InternalIP");
        let addresses = own.filter_map(|each| each["address"].as_str()?.parse().ok()).collect();
        let pod_cidrs = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
        let pod_cidrs = pod_cidrs.filter_map(|each| each.as_str()?.parse::<IpNet>().ok());
        let overlay = pod_cidrs.map(|net| net.network()).collect();
        Self { node: agent.node, pod: agent.name, kind: PlaceKind::Node, addresses, overlay }
    }

    /// Whether it is a pod of the check's.
    pub(super) fn is_pod(&self) -> bool {
        self.kind == PlaceKind::Pod
    }

    /// Whom this place asks: of each family that it has addresses of itself.
    pub(super) fn targets(&self, places: &[Self], outside: Option<SocketAddr>) -> Vec<Target> {
        let families: BTreeSet<bool> = self.addresses.iter().map(IpAddr::is_ipv4).collect();
        let within = places.iter().flat_map(|place| {
            let kind = self.kind_of(place);
            let (port, name) = match place.kind {
                PlaceKind::Pod => (PORT, &place.pod),
                PlaceKind::Node => (KUBELET, &place.node),
            };
            let addresses = place.addresses.iter().filter(|address| families.contains(&address.is_ipv4()));
            let target = move |address: &IpAddr| {
                Some(Target { address: (*address, port).into(), name: name.clone(), kind: kind? })
            };
            addresses.filter_map(target).collect::<Vec<_>>()
        });
        let outside = outside.filter(|_| self.is_pod());
        let outside =
            outside.map(|address| Target { address, name: "outside".to_owned(), kind: Kind::Outside });
        within.chain(outside).collect()
    }

    fn kind_of(&self, to: &Self) -> Option<Kind> {
        let same = self.node == to.node;
        match (self.kind, to.kind) {
            (PlaceKind::Pod, PlaceKind::Pod) if self.pod == to.pod => Some(Kind::Itself),
            (PlaceKind::Pod, PlaceKind::Pod) => {
                Some(if same { Kind::PodSameNode } else { Kind::PodOtherNode })
            }
            (PlaceKind::Pod, PlaceKind::Node) => Some(if same { Kind::OwnNode } else { Kind::OtherNode }),
            (PlaceKind::Node, PlaceKind::Pod) => {
                Some(if same { Kind::NodeToOwnPod } else { Kind::NodeToOtherPod })
            }
            (PlaceKind::Node, PlaceKind::Node) => None,
        }
    }

    /// What is wrong with an answer: nothing came, or the address did not stay the asker's.
    fn fault(&self, kind: Kind, outcome: Option<&Outcome>) -> Option<String> {
        let foreign = matches!(kind, Kind::OwnNode | Kind::OtherNode | Kind::Outside);
        match outcome {
            Some(Outcome::Reached) if foreign => None,
            Some(Outcome::Reached) => Some("the pod's probe doesn't answer".to_owned()),
            Some(Outcome::Seen(address)) if self.addresses.contains(address) => None,
            Some(Outcome::Seen(address))
                if kind == Kind::NodeToOtherPod && self.overlay.contains(address) =>
            {
                None
            }
            Some(Outcome::Seen(address)) => Some(format!("arrived from {address}")),
            Some(Outcome::Failed(why)) => Some(why.clone()),
            None => Some("no answer".to_owned()),
        }
    }
}

impl Paths {
    /// What the places were answered.
    pub(super) fn of(places: &[Place], answers: Vec<(Vec<Target>, Vec<Outcome>)>) -> Self {
        let of_place = |(place, (targets, outcomes)): (&Place, (Vec<Target>, Vec<Outcome>))| {
            let paths = targets.into_iter().enumerate().map(|(at, target)| Path {
                node: place.node.clone(),
                from: if place.is_pod() { place.pod.clone() } else { place.node.clone() },
                fault: place.fault(target.kind, outcomes.get(at)),
                to: target.name,
                address: target.address,
                kind: target.kind,
            });
            paths.collect::<Vec<_>>()
        };
        Self { paths: places.iter().zip(answers).flat_map(of_place).collect() }
    }

    /// How many paths are not as expected.
    pub(super) fn faults(&self) -> usize {
        self.paths.iter().filter(|path| path.fault.is_some()).count()
    }

    /// All of it, as data.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// A row for each pod, one for each node, each fault, and a count.
    pub(super) fn table(&self) -> String {
        let mut text = self.rows(&["NODE", "POD"], &POD_COLUMNS);
        text.push('\n');
        text.push_str(&self.rows(&["NODE"], &NODE_COLUMNS));
        for path in &self.paths {
            if let Some(fault) = &path.fault {
                let line = format!("{} to {} ({}): {fault}", path.from, path.to, path.address);
                text.push_str(&printable(&line));
                text.push('\n');
            }
        }
        let good = self.paths.len() - self.faults();
        text.push_str(&format!("{good} of {} paths as expected.", self.paths.len()));
        if self.faults() == 0 && good > 0 {
            text.push_str(" Pods and nodes kept their own addresses.");
        }
        text + "\n"
    }

    fn rows(&self, names: &[&str], columns: &[(Kind, &str)]) -> String {
        let mut rows: BTreeMap<(&str, &str), BTreeMap<Kind, Vec<&Path>>> = BTreeMap::new();
        for path in self.paths.iter().filter(|path| columns.iter().any(|(kind, _)| *kind == path.kind)) {
            let row = rows.entry((&path.node, &path.from)).or_default();
            row.entry(path.kind).or_default().push(path);
        }
        let heading: Vec<&str> = names.iter().copied().chain(columns.iter().map(|(_, name)| *name)).collect();
        let row = |((node, from), kinds): (&(&str, &str), &BTreeMap<Kind, Vec<&Path>>)| {
            let named = [node, from].into_iter().take(names.len()).map(|name| printable(name));
            named.chain(columns.iter().map(|(kind, _)| cell(kinds.get(kind)))).collect()
        };
        headed(&heading, rows.iter().map(row))
    }
}

fn cell(paths: Option<&Vec<&Path>>) -> String {
    let Some(paths) = paths else { return "-".to_owned() };
    match paths.iter().filter(|path| path.fault.is_some()).count() {
        0 => "ok".to_owned(),
        bad => format!("FAILED ({bad} of {})", paths.len()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places() -> Vec<Place> {
        let pod = |node: &str, name: &str, ip: &str| {
            Place::pod(&json!({"metadata": {"name": name}, "spec": {"nodeName": node},
                "status": {"podIPs": [{"ip": ip}]}}))
        };
        let node = |name: &str, ip: &str, net: &str| {
            let agent = AgentPod { name: format!("agent-of-{name}"), node: name.to_owned(), image: None };
            let addresses =
                json!([{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": ip}]);
            Place::node(agent, &json!({"spec": {"podCIDRs": [net]}, "status": {"addresses": addresses}}))
        };
        vec![
            pod("a", "a-0", "10.244.0.2"),
            pod("a", "a-1", "10.244.0.3"),
            pod("b", "b-0", "10.244.1.2"),
            node("a", "192.0.2.1", "10.244.0.0/24"),
            node("b", "192.0.2.2", "10.244.1.0/24"),
        ]
    }

    fn asked(answer: impl Fn(&Place, &Target) -> Outcome) -> Paths {
        let places = places();
        let answers = places.iter().map(|place| {
            let targets = place.targets(&places, "203.0.113.1:443".parse().ok());
            let outcomes = targets.iter().map(|target| answer(place, target)).collect();
            (targets, outcomes)
        });
        Paths::of(&places, answers.collect())
    }

    #[test]
    fn every_pod_asks_everyone_and_every_node_asks_every_pod() {
        let paths = asked(|place, _| Outcome::Seen(place.addresses[0]));
        assert_eq!(paths.faults(), 0);
        assert_eq!(
            paths.table(),
            "\
NODE  POD  own node  other node  pod, same node  pod, other node  itself  outside
a     a-0  ok        ok          ok              ok               ok      ok
a     a-1  ok        ok          ok              ok               ok      ok
b     b-0  ok        ok          -               ok               ok      ok

NODE  own pods  other nodes' pods
a     ok        ok
b     ok        ok
24 of 24 paths as expected. Pods and nodes kept their own addresses.
"
        );
    }

    #[test]
    fn an_address_that_was_rewritten_and_a_silence_are_faults() {
        let paths = asked(|place, target| match (place.pod.as_str(), target.kind) {
            ("a-0", Kind::PodOtherNode) => Outcome::Seen([192, 0, 2, 1].into()),
            ("agent-of-b", Kind::NodeToOtherPod) => Outcome::Failed("timed out".to_owned()),
            ("a-0", Kind::OwnNode) => Outcome::Reached,
            _ => Outcome::Seen(place.addresses[0]),
        });
        assert_eq!(paths.faults(), 3);
        let table = paths.table();
        assert!(table.contains("a-0 to b-0 (10.244.1.2:7473): arrived from 192.0.2.1\n"), "{table}");
        assert!(table.contains("b to a-0 (10.244.0.2:7473): timed out\n"), "{table}");
        assert!(
            table.contains("FAILED (2 of 2)") && table.ends_with("21 of 24 paths as expected.\n"),
            "{table}"
        );
    }

    #[test]
    fn pods_of_other_nodes_may_see_a_node_as_its_address_in_an_overlay_and_its_own_pods_may_not() {
        let of = |own: bool| {
            asked(move |place, target| match target.kind {
                Kind::NodeToOtherPod => Outcome::Seen(place.overlay[0]),
                Kind::NodeToOwnPod if own => Outcome::Seen(place.overlay[0]),
                _ => Outcome::Seen(place.addresses[0]),
            })
        };
        assert_eq!(of(false).faults(), 0, "{}", of(false).table());
        assert_eq!(of(true).faults(), 3, "{}", of(true).table());
    }

    #[test]
    fn a_family_that_the_asker_lacks_is_not_asked() {
        let mut places = places();
        places[2].addresses.push("fd00::2".parse().unwrap());
        let targets = places[0].targets(&places, None);
        assert!(targets.iter().all(|target| target.address.is_ipv4()), "{targets:?}");
    }
}
