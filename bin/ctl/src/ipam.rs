//! `selvedgectl ipam`: which address is whose.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use selvedge_leases::{LeaseError, Store, boottime_ms};
use selvedge_model::chain;
use serde::{Deserialize, Serialize};

use crate::kubectl::{ClusterArgs, Kubectl, KubectlError, each, items};
use crate::print;
use crate::status::printable;
use crate::table::headed;

/// Show the leases of this node: which address is whose, and since when
#[derive(Debug, Clone, Args)]
pub(crate) struct IpamArgs {
    /// Print everything, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The addresses of one attachment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lease {
    /// The node, where a cluster was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// The network's name in CNI.
    network: String,
    /// The addresses, with their prefix lengths.
    addresses: Vec<String>,
    /// The pod, `NAMESPACE/NAME`, where a cluster was asked and has one with this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    /// The container's id.
    container: String,
    /// The interface in the container.
    interface: String,
    /// The host end.
    host_end: String,
    /// How long it has been there, in seconds.
    age_seconds: u64,
}

/// What is printed as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    leases: Vec<Lease>,
    /// The nodes that could not be asked, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    silent: BTreeMap<String, String>,
}

/// Prints the leases of the node, or of a cluster. Fails if a node could not be asked.
pub(crate) fn run(run_dir: &Path, args: &IpamArgs, cluster_by_default: bool) -> ExitCode {
    let answer = match args.cluster.cluster(cluster_by_default) {
        None => of_node(run_dir).map_err(|error| chain(&error)),
        Some(kubectl) => of_cluster(&kubectl).map_err(|error| chain(&error)),
    };
    let text = |answer: &Answer| {
        if args.json {
            serde_json::to_string_pretty(answer).map(|json| json + "\n").map_err(|error| error.to_string())
        } else {
            Ok(table(answer))
        }
    };
    match answer.and_then(|answer| Ok((text(&answer)?, answer.silent.is_empty()))) {
        Ok((text, complete)) => {
            print(&mut io::stdout().lock(), &text);
            if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            print(&mut io::stderr().lock(), &format!("selvedgectl: {why}\n"));
            ExitCode::from(2)
        }
    }
}

fn of_node(run_dir: &Path) -> Result<Answer, LeaseError> {
    let (mut leases, now) = (Vec::new(), boottime_ms());
    for network in Store::networks(run_dir)? {
        for (key, lease) in Store::new(run_dir, &network).read()?.leases() {
            leases.push(Lease {
                node: None,
                network: network.to_string(),
                addresses: lease.addresses.iter().map(ToString::to_string).collect(),
                pod: None,
                container: key.container.to_string(),
                interface: key.ifname.to_string(),
                host_end: lease.veth.to_string(),
                age_seconds: now.saturating_sub(lease.since_ms) / 1000,
            });
        }
    }
    leases.sort();
    Ok(Answer { leases, silent: BTreeMap::new() })
}

fn of_cluster(kubectl: &Kubectl) -> Result<Answer, KubectlError> {
    let pods = kubectl.json(&["get", "pods", "--all-namespaces", "--output=json"])?;
    let pods = by_address(items(&pods));
    let agents = kubectl.agents()?;
    let answers = each(&agents, |agent| {
        let told = kubectl.in_agent(agent, &["ipam", "--json"]).map_err(|error| chain(&error))?;
        serde_json::from_value::<Answer>(told).map_err(|error| format!("{} answers: {error}", agent.name))
    });
    let mut all = Answer::default();
    for (agent, answer) in agents.into_iter().zip(answers) {
        match answer {
            Ok(answer) => all.leases.extend(answer.leases.into_iter().map(|lease| {
                let addresses = lease.addresses.iter().filter_map(|net| net.split('/').next());
                let pod = addresses.filter_map(|address| pods.get(address)).next().cloned();
                Lease { node: Some(agent.node.clone()), pod, ..lease }
            })),
            Err(why) => drop(all.silent.insert(agent.node, why)),
        }
    }
    all.leases.sort();
    Ok(all)
}

/// `NAMESPACE/NAME` of each pod that has a network of its own and still runs, by its addresses.
fn by_address<'a>(pods: impl Iterator<Item = &'a serde_json::Value>) -> BTreeMap<String, String> {
    let of = |pod: &serde_json::Value| {
        let ended = ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
        if ended || pod["spec"]["hostNetwork"] == true {
            return Vec::new();
        }
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
        let name = format!("{}/{}", text("namespace"), text("name"));
        let addresses = pod["status"]["podIPs"].as_array().into_iter().flatten();
        addresses.filter_map(|each| Some((each["ip"].as_str()?.to_owned(), name.clone()))).collect()
    };
    pods.flat_map(of).collect()
}

fn table(answer: &Answer) -> String {
    let clustered = answer.leases.iter().any(|lease| lease.node.is_some());
    let first: &[&str] = if clustered { &["NODE", "POD"] } else { &[] };
    let rest = ["NETWORK", "ADDRESSES", "CONTAINER", "INTERFACE", "HOST END", "AGE"];
    let heading = [first, &rest[..]].concat();
    let row = |lease: &Lease| {
        let mut row = Vec::new();
        if clustered {
            row.push(lease.node.clone().unwrap_or_default());
            row.push(lease.pod.clone().unwrap_or_else(|| "-".to_owned()));
        }
        // Runtimes' ids have 64 characters; as many as their own tools show tell them apart.
        let container: String = lease.container.chars().take(13).collect();
        row.extend([lease.network.clone(), lease.addresses.join(","), container, lease.interface.clone()]);
        row.extend([lease.host_end.clone(), format!("{} s", lease.age_seconds)]);
        row.iter().map(|field| printable(field)).collect()
    };
    let mut text = headed(&heading, answer.leases.iter().map(row));
    for (node, why) in &answer.silent {
        text.push_str(&format!("{}: {}\n", printable(node), printable(why)));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_known_by_its_addresses_unless_they_are_its_nodes_or_it_has_ended() {
        let pod = |name: &str, more: serde_json::Value| {
            let mut pod = json!({
                "metadata": {"namespace": "shop", "name": name},
                "spec": {},
                "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.2"}, {"ip": "fd00::2"}]},
            });
            let (field, value) = more.as_object().unwrap().iter().next().unwrap();
            pod[field] = value.clone();
            pod
        };
        let ended = pod("done", json!({"status": {"phase": "Succeeded", "podIPs": [{"ip": "10.244.0.2"}]}}));
        let on_host = pod("agent", json!({"spec": {"hostNetwork": true}}));
        let pods = [pod("web-0", json!({"kind": "Pod"})), ended, on_host];
        let known = by_address(pods.iter());
        let name = "shop/web-0".to_owned();
        assert_eq!(known, [("10.244.0.2".to_owned(), name.clone()), ("fd00::2".to_owned(), name)].into());
    }

    #[test]
    fn a_node_without_leases_has_a_heading_alone() {
        assert_eq!(table(&Answer::default()), "NETWORK  ADDRESSES  CONTAINER  INTERFACE  HOST END  AGE\n");
    }
}
