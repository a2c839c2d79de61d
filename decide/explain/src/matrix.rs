//! Which pods reach which others, as it is desired.

use std::net::IpAddr;

use selvedge_model::Pod;
use selvedge_policy::{Cluster, Flow, Source, judge};
use serde::{Deserialize, Serialize};

use crate::Query;
use crate::place::{self, ExplainError};

/// How many pods a matrix has at most: a person looks at it, and each pair may be probed.
pub const PODS: usize = 64;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The namespace whose pods are meant; all without one.
    pub namespace: Option<String>,
    /// The port; without one it is about ICMP echo.
    pub port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`; TCP unless stated.
    pub protocol: Option<String>,
}

/// Who reaches whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Matrix {
    /// The node that says so.
    pub node: String,
    /// The pods, in their names' order: those that policies can be about and that have an address.
    pub pods: Vec<Member>,
    /// A row for each pod that sends, with what is desired towards each of the pods.
    pub rows: Vec<Vec<Cell>>,
}

/// A pod of a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// `namespace/name`.
    pub name: String,
    /// The node that it is on.
    pub node: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// One pair of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// The address that it is about: the receiver's first of a family that both have. `None` if there is none.
    pub address: Option<IpAddr>,
    /// Whether policies of both ends agree to it.
    pub allowed: bool,
}

/// Who reaches whom among the pods that are meant, as one node knows the cluster.
///
/// # Errors
/// There are too many, or none, or the protocol isn't known.
pub fn matrix(cluster: &Cluster, node: &str, filter: &Filter) -> Result<Matrix, ExplainError> {
    let is_meant = |pod: &&Pod| {
        let here = filter.namespace.as_ref().is_none_or(|namespace| *namespace == pod.key.namespace);
        here && Cluster::is_judged(pod) && !pod.addresses.is_empty()
    };
    let pods: Vec<&Pod> = cluster.pods().values().map(AsRef::as_ref).filter(is_meant).collect();
    if pods.is_empty() {
        return Err(ExplainError::NoPods);
    }
    if pods.len() > PODS {
        return Err(ExplainError::TooMany { count: pods.len() });
    }
    let query = Query {
        from: String::new(),
        to: String::new(),
        port: filter.port,
        protocol: filter.protocol.clone(),
    };
    let row = |from: &&Pod| pods.iter().map(|to| cell(cluster, &query, (from, to))).collect();
    Ok(Matrix {
        node: node.to_owned(),
        rows: pods.iter().map(row).collect::<Result<_, _>>()?,
        pods: pods.iter().map(|pod| member(pod)).collect(),
    })
}

fn member(pod: &Pod) -> Member {
    Member {
        name: pod.key.to_string(),
        node: pod.node.as_ref().map(ToString::to_string),
        addresses: pod.addresses.clone(),
    }
}

fn cell(cluster: &Cluster, query: &Query, (from, to): (&Pod, &Pod)) -> Result<Cell, ExplainError> {
    let like = |one: &IpAddr| to.addresses.iter().find(|other| one.is_ipv4() == other.is_ipv4());
    let pair = from.addresses.iter().find_map(|one| Some((*one, *like(one)?)));
    let Some((source, destination)) = pair else { return Ok(Cell { address: None, allowed: false }) };
    let protocol = place::protocol(query, destination)?;
    let flow = Flow { source: Source::Address(source), destination, protocol };
    Ok(Cell { address: Some(destination), allowed: judge(cluster, &flow).is_allowed() })
}

#[cfg(test)]
mod tests {
    use selvedge_model::{Labels, Listing};
    use selvedge_policy::{PolicyKey, read};
    use serde_json::json;

    use super::*;

    fn cluster(count: usize) -> Cluster {
        let mut listing = Listing::default();
        Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
        for number in 0..count {
            let addresses = match number {
                1 => vec!["fd00::1".parse().unwrap()],
                _ => vec![format!("10.244.0.{number}").parse().unwrap()],
            };
            listing.pod(Pod {
                key: format!("x/pod-{number:03}").parse().unwrap(),
                uid: None,
                mirror: None,
                node: None,
                labels: Labels::from_iter([("n".to_owned(), number.to_string())]),
                addresses,
                host_network: false,
                finished: false,
                ports: Vec::new(),
            });
        }
        let key = PolicyKey { namespace: "x".to_owned(), name: "p".to_owned() };
        let spec =
            json!({"podSelector": {"matchLabels": {"n": "2"}}, "ingress": [{"ports": [{"port": 80}]}]});
        listing.policy(read(key, &spec).unwrap());
        Cluster::new(&listing.finish().unwrap())
    }

    #[test]
    fn a_matrix_says_of_each_pair_what_judging_it_says() {
        let cluster = cluster(3);
        let told = |port| {
            let filter = Filter { port, ..Filter::default() };
            let matrix = matrix(&cluster, "node-a", &filter).unwrap();
            let mark = |cell: &Cell| match (cell.address, cell.allowed) {
                (None, _) => '-',
                (Some(_), allowed) => {
                    if allowed {
                        'y'
                    } else {
                        'n'
                    }
                }
            };
            matrix.rows.iter().map(|row| row.iter().map(mark).collect()).collect::<Vec<String>>()
        };
        assert_eq!(told(None), ["y-n", "-y-", "y-y"]);
        assert_eq!(told(Some(80)), ["y-y", "-y-", "y-y"]);
    }

    #[test]
    fn too_many_pods_and_none_are_refused() {
        let of = |count, namespace: Option<&str>| {
            let filter = Filter { namespace: namespace.map(str::to_owned), ..Filter::default() };
            matrix(&cluster(count), "node-a", &filter).map(|matrix| matrix.pods.len())
        };
        assert_eq!(of(PODS, None), Ok(PODS));
        assert_eq!(of(PODS + 1, None), Err(ExplainError::TooMany { count: PODS + 1 }));
        assert_eq!(of(3, Some("y")), Err(ExplainError::NoPods));
    }
}
