//! Which fields occur in a cluster, so that a test can tell that it has tried them.

use std::collections::BTreeSet;

use selvedge_model::{Pod, Transport};

use crate::cluster::Cluster;
use selvedge_model::policy::{
    Direction, Mode, Namespaces, Peer, Peers, PodPeer, Policy, Port, Ports, Rule, Which,
};
use selvedge_model::selector::{Requirement, Selector};

/// All that [`fields`] looks for.
pub const FIELDS: [&str; 45] = [
    "egress alone",
    "ingress alone",
    "both directions",
    "no rules",
    "refused policy",
    "shadow policy",
    "several policies for a pod",
    "podSelector: everything",
    "podSelector: requirements",
    "from/to: anyone",
    "peer: podSelector",
    "peer: podSelector, everything",
    "peer: namespaceSelector",
    "peer: namespaceSelector, everything",
    "peer: both selectors",
    "peer: ipBlock IPv4",
    "peer: ipBlock IPv6",
    "peer: ipBlock with except",
    "several peers",
    "several rules",
    "In, one value",
    "In, several values",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "ports: any",
    "ports: TCP",
    "ports: UDP",
    "ports: SCTP",
    "port: missing",
    "port: number",
    "port: name, ingress",
    "port: name, egress",
    "endPort",
    "several ports",
    "pod: IPv4",
    "pod: IPv6",
    "pod: dual stack",
    "pod: no address",
    "pod: host network",
    "pod: finished",
    "pod: named ports",
    "address of several pods",
    "address of a finished pod's successor",
    "namespace unknown",
];

/// The fields that occur in a cluster, each once.
pub fn fields(cluster: &Cluster) -> BTreeSet<&'static str> {
    let mut found = Found(BTreeSet::new());
    cluster.policies().values().for_each(|policy| found.policy(policy));
    cluster.pods().values().for_each(|pod| found.pod(pod, cluster));
    let addresses: Vec<_> = cluster.addresses().collect();
    found.add("address of several pods", addresses.iter().any(|a| cluster.with_address(*a).nth(1).is_some()));
    let mut finished = cluster.pods().values().filter(|pod| pod.finished && !pod.host_network);
    let successor = finished.any(|pod| pod.addresses.iter().any(|address| addresses.contains(address)));
    found.add("address of a finished pod's successor", successor);
    found.0
}

struct Found(BTreeSet<&'static str>);

impl Found {
    fn add(&mut self, field: &'static str, occurs: bool) {
        debug_assert!(FIELDS.contains(&field), "{field} is listed");
        if occurs {
            self.0.insert(field);
        }
    }

    fn pod(&mut self, pod: &Pod, cluster: &Cluster) {
        let (v4, v6) = (pod.addresses.iter().any(|a| a.is_ipv4()), pod.addresses.iter().any(|a| a.is_ipv6()));
        self.add("pod: IPv4", v4 && !v6);
        self.add("pod: IPv6", v6 && !v4);
        self.add("pod: dual stack", v4 && v6);
        self.add("pod: no address", pod.addresses.is_empty());
        self.add("pod: host network", pod.host_network);
        self.add("pod: finished", pod.finished);
        self.add("pod: named ports", !pod.ports.is_empty());
        self.add("namespace unknown", !cluster.namespaces().contains_key(&pod.key.namespace));
        let several = |direction| cluster.isolating(pod, direction).nth(1).is_some();
        self.add("several policies for a pod", Direction::ALL.into_iter().any(several));
    }

    fn policy(&mut self, policy: &Policy) {
        let (ingress, egress) = (policy.ingress.as_deref(), policy.egress.as_deref());
        self.add("egress alone", ingress.is_none());
        self.add("ingress alone", egress.is_none());
        self.add("both directions", ingress.is_some() && egress.is_some());
        self.add("refused policy", policy.refused.is_some());
        self.add("shadow policy", policy.mode == Mode::Shadow);
        self.add("podSelector: everything", policy.selects.is_everything());
        self.add("podSelector: requirements", !policy.selects.is_everything());
        self.selector(&policy.selects);
        for (direction, rules) in Direction::ALL.into_iter().filter_map(|d| Some((d, policy.rules(d)?))) {
            self.add("no rules", rules.is_empty());
            self.add("several rules", rules.len() > 1);
            rules.iter().for_each(|rule| self.rule(rule, direction));
        }
    }

    fn rule(&mut self, rule: &Rule, direction: Direction) {
        match &rule.peers {
            Peers::Anyone => self.add("from/to: anyone", true),
            Peers::Of(peers) => {
                self.add("several peers", peers.len() > 1);
                peers.iter().for_each(|peer| self.peer(peer));
            }
        }
        match &rule.ports {
            Ports::Any => self.add("ports: any", true),
            Ports::Of(ports) => {
                self.add("several ports", ports.len() > 1);
                ports.iter().for_each(|port| self.port(port, direction));
            }
        }
    }

    fn peer(&mut self, peer: &Peer) {
        match peer {
            Peer::Block(block) => {
                self.add("peer: ipBlock IPv4", block.cidr().addr().is_ipv4());
                self.add("peer: ipBlock IPv6", block.cidr().addr().is_ipv6());
                self.add("peer: ipBlock with except", !block.except().is_empty());
            }
            Peer::Pods(PodPeer { namespaces: Namespaces::Own, pods }) => {
                self.add("peer: podSelector", !pods.is_everything());
                self.add("peer: podSelector, everything", pods.is_everything());
                self.selector(pods);
            }
            Peer::Pods(PodPeer { namespaces: Namespaces::Labelled(namespaces), pods }) => {
                self.add("peer: both selectors", !pods.is_everything());
                self.add("peer: namespaceSelector", pods.is_everything());
                self.add("peer: namespaceSelector, everything", namespaces.is_everything());
                self.selector(namespaces);
                self.selector(pods);
            }
        }
    }

    fn port(&mut self, port: &Port, direction: Direction) {
        self.add("ports: TCP", port.transport == Transport::Tcp);
        self.add("ports: UDP", port.transport == Transport::Udp);
        self.add("ports: SCTP", port.transport == Transport::Sctp);
        match (&port.which, direction) {
            (Which::All, _) => self.add("port: missing", true),
            (Which::Numbers(range), _) if range.first() == range.last() => self.add("port: number", true),
            (Which::Numbers(_), _) => self.add("endPort", true),
            (Which::Named(_), Direction::Ingress) => self.add("port: name, ingress", true),
            (Which::Named(_), Direction::Egress) => self.add("port: name, egress", true),
        }
    }

    fn selector(&mut self, selector: &Selector) {
        for requirement in selector.requirements() {
            let field = match requirement {
                Requirement::In(_, values) if values.iter().len() == 1 => "In, one value",
                Requirement::In(..) => "In, several values",
                Requirement::NotIn(..) => "NotIn",
                Requirement::Exists(_) => "Exists",
                Requirement::DoesNotExist(_) => "DoesNotExist",
            };
            self.add(field, true);
        }
    }
}
