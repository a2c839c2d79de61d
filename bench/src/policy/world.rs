//! A cluster as teams have it: many namespaces, each with its pods and its policies.

use serde_json::{Value, json};

use super::usual::{USUAL, app, policy};

/// What a namespace's pods are.
const APPS: [&str; 5] = ["web", "api", "db", "cache", "worker"];

/// Where namespaces are.
pub(crate) const ZONES: usize = 50;

/// The pods that a node takes by default.
const PODS_OF_NODE: usize = 110;

/// How large a cluster is, and whose node it is seen from.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The node that has the local pods.
    pub(crate) node: String,
    /// All pods, of whatever node.
    pub(crate) pods: usize,
    /// The pods of that node: each in a namespace of its own, but for the last, which is the first one's neighbour.
    pub(crate) local: usize,
    pub(crate) namespaces: usize,
    /// All that a namespace has, for as many namespaces as there are policies for.
    pub(crate) policies: usize,
    /// How large a pod's object is in the API, in bytes, most of which is nothing to anybody here.
    pub(crate) object: usize,
}

/// What changes about a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    /// It has the label that its namespace's policy for `web` asks for.
    Granted,
}

impl World {
    /// The numbers of the node's own pods.
    pub(crate) fn local(&self) -> impl Iterator<Item = usize> {
        (0..self.local.saturating_sub(1)).chain([self.namespaces])
    }

    pub(crate) fn is_local(&self, pod: usize) -> bool {
        pod + 1 < self.local || pod == self.namespaces
    }

    /// A pod of another node in the namespace of a local one; another for each number, as long as there are.
    pub(crate) fn neighbour(&self, number: usize) -> usize {
        let places = self.local.saturating_sub(1).max(1);
        // The second pod of a namespace may be local too.
        let row = 2 + number / places % (self.pods / self.namespaces - 2).max(1);
        row * self.namespaces + number % places
    }

    /// The IPv4 address of another node's pod.
    pub(crate) fn address(&self, pod: usize) -> [u8; 4] {
        let [.., high, low] = self.node_of(pod).to_be_bytes();
        [10, 100 + high, low, octet(2 + pod % PODS_OF_NODE)]
    }

    fn node_of(&self, pod: usize) -> usize {
        pod / PODS_OF_NODE
    }

    /// The other nodes, on the segment of ours.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Value> {
        (0..self.pods.div_ceil(PODS_OF_NODE)).map(|number| {
            let [.., high, low] = number.to_be_bytes();
            let cidr = format!("10.{}.{low}.0/24", 100 + high);
            let address = format!("172.31.{}.{}", 100 + number / 250, 1 + number % 250);
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("peer-{number}")},
                "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
        })
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = Value> {
        (0..self.namespaces).map(|number| {
            let name = namespace(number);
            let labels = json!({"kubernetes.io/metadata.name": name, "zone": zone(number)});
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        })
    }

    /// A pod that hasn't got addresses yet, if it is one of the node's own.
    pub(crate) fn pod(&self, number: usize, access: Access) -> Value {
        let mut labels =
            json!({"app": self.app(number), "pod-template-hash": format!("{:08x}", number % 977)});
        if self.monitors(number) {
            labels["role"] = "monitor".into();
        }
        if access == Access::Granted {
            labels["access"] = "granted".into();
        }
        let (node, ips) = if self.is_local(number) {
            (self.node.clone(), json!([]))
        } else {
            let [a, b, c, d] = self.address(number);
            (format!("peer-{}", self.node_of(number)), json!([{"ip": format!("{a}.{b}.{c}.{d}")}]))
        };
        let padding = json!([{"manager": "kubelet", "fieldsV1": {"f:padding": "x".repeat(self.object)}}]);
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": self.namespace_of(number), "name": name(number), "uid": uid(number),
                "labels": labels, "managedFields": padding},
            "spec": {"nodeName": node, "containers": [{"name": "main"}]},
            "status": {"phase": "Running", "podIPs": ips}})
    }

    pub(crate) fn namespace_of(&self, pod: usize) -> String {
        namespace(pod % self.namespaces)
    }

    /// What a pod's label `app` says.
    pub(crate) fn app(&self, pod: usize) -> &'static str {
        APPS[pod / self.namespaces % APPS.len()]
    }

    /// True of one pod in every tenth namespace.
    pub(crate) fn monitors(&self, pod: usize) -> bool {
        pod / self.namespaces == 9 && (pod % self.namespaces).is_multiple_of(10)
    }

    pub(crate) fn policies(&self) -> impl Iterator<Item = Value> {
        (0..self.policies).map(|number| {
            let (place, kind) = (number / USUAL.len(), number % USUAL.len());
            USUAL[kind].object(place)
        })
    }

    /// One more policy, of which no other is like, that selects the local pod of a namespace.
    pub(crate) fn further(&self, number: usize) -> Value {
        let place = number % self.local.saturating_sub(1).max(1);
        let from = json!([{"podSelector": {"matchLabels": {"app": "cache"}}}]);
        let port = json!([{"port": 9000 + number % 20_000}]);
        let spec = json!({"podSelector": app("web"), "policyTypes": ["Ingress"],
            "ingress": [{"from": from, "ports": port}]});
        policy(place, &format!("further-{number}"), &spec)
    }
}

/// The name of a namespace.
pub(crate) fn namespace(number: usize) -> String {
    format!("team-{number}")
}

/// Where a namespace is.
pub(crate) fn zone(place: usize) -> String {
    format!("zone-{}", place % ZONES)
}

pub(crate) fn name(pod: usize) -> String {
    format!("pod-{pod}")
}

pub(crate) fn uid(pod: usize) -> String {
    format!("uid-{pod}")
}

fn octet(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
