//! The files that a node agent reads, as text: the cluster as ordinary Kubernetes YAML, and the agent's settings.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use selvedge_model::PodKey;

use crate::plan::Plan;
use crate::shape::{Shape, Transport};

/// The Nodes.
pub(crate) fn nodes(plan: &Plan) -> String {
    let documents = plan.nodes.iter().map(|node| {
        let mut text = format!("apiVersion: v1\nkind: Node\nmetadata:\n  name: {}\nspec:\n", node.name);
        if let Some(first) = node.pod_cidrs.first() {
            add(&mut text, format_args!("  podCIDR: \"{first}\"\n"));
        }
        add(&mut text, format_args!("  podCIDRs: {}\nstatus:\n  addresses:\n", list(&node.pod_cidrs)));
        for address in node.addresses.iter().map(IpNet::addr) {
            add(&mut text, format_args!("  - type: InternalIP\n    address: \"{address}\"\n"));
        }
        add(&mut text, format_args!("  - type: Hostname\n    address: {}\n", node.name));
        text
    });
    documents.collect::<Vec<_>>().join("---\n")
}

/// The Pods, those that have addresses with them.
pub(crate) fn pods(plan: &Plan, addresses: &BTreeMap<PodKey, Vec<IpAddr>>) -> String {
    let documents = plan.pods().map(|(node, pod)| {
        let app = pod.name.split('-').next().unwrap_or_default();
        let mut text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: {}\n  name: {}\n  uid: {}\n  labels:\n    app: {app}\n\
             spec:\n  nodeName: {}\n  containers:\n  - name: {app}\n    image: none\n",
            pod.namespace,
            pod.name,
            uid(pod),
            node.name,
        );
        if let Some(ips) = addresses.get(pod) {
            add(&mut text, format_args!("status:\n  phase: Running\n"));
            if let Some(first) = ips.first() {
                add(&mut text, format_args!("  podIP: \"{first}\"\n"));
            }
            text.push_str("  podIPs:\n");
            for ip in ips {
                add(&mut text, format_args!("  - ip: \"{ip}\"\n"));
            }
        }
        text
    });
    documents.collect::<Vec<_>>().join("---\n")
}

/// The metadata.uid that a pod has in the lab.
pub(crate) fn uid(pod: &PodKey) -> String {
    format!("lab-{}-{}", pod.namespace, pod.name)
}

/// The agent's settings.
pub(crate) fn agent_config(shape: &Shape, keys: &Path) -> String {
    let mut text = format!("attach: {}\ntransport: {}\n", shape.attach, shape.transport);
    if shape.transport == Transport::Wireguard {
        // From the first packet on: a way that is changed later changes what receivers see.
        add(&mut text, format_args!("encryption: strict\nwireguard: {{keys: {keys:?}}}\n"));
        text.push_str("clusterCidrs: [10.244.0.0/16, 'fd00:10:244::/48']\n");
    }
    text
}

fn list<T: Display>(items: &[T]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

#[expect(clippy::let_underscore_must_use, reason = "writing to a String can't fail")]
fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(line);
}

#[cfg(test)]
mod tests {
    use crate::shape::{Attach, Count, FamilyChoice, Shape};

    use super::*;

    fn plan() -> Plan {
        let (nodes, pods) = (Count::new(2).unwrap(), Count::new(1).unwrap());
        Plan::new(Shape::new(nodes, pods, Attach::Routed, FamilyChoice::Dual))
    }

    #[test]
    fn the_nodes_carry_their_subnets_and_addresses() {
        assert_eq!(nodes(&plan()), include_str!("../testdata/nodes.yaml"));
    }

    #[test]
    fn a_pod_has_a_status_once_it_has_addresses() {
        let web: PodKey = "web-0".parse().unwrap();
        let ips = ["10.244.0.2", "fd00:10:244::2"].map(|ip| ip.parse().unwrap()).to_vec();
        let text = pods(&plan(), &BTreeMap::from([(web, ips)]));
        assert_eq!(text, include_str!("../testdata/pods.yaml"));
    }
}
