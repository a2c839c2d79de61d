//! Which of the flows that a node tracks would be cut.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use selvedge_model::Tracked;
use selvedge_policy::{Cluster, Flow, Protocol, Revoker, Verdict, judge};

use crate::CutFlow;
use crate::compare::denied;

/// The flows that the node allows now and would not, in order, at most so many, and how many there are beyond them.
pub fn cut(
    tracked: impl IntoIterator<Item = Tracked>,
    before: &Revoker,
    (after, cluster): (&Revoker, &Cluster),
    most: usize,
) -> (Vec<CutFlow>, usize) {
    let is_cut = |flow: &Tracked| after.denies(flow) && !before.denies(flow);
    let mut flows: Vec<Tracked> = tracked.into_iter().filter(is_cut).collect();
    flows.sort_unstable();
    let beyond = flows.len().saturating_sub(most);
    flows.truncate(most);
    (flows.iter().map(|flow| told(flow, cluster)).collect(), beyond)
}

fn told(tracked: &Tracked, cluster: &Cluster) -> CutFlow {
    let flow = Flow::of(tracked);
    let why = match judge(cluster, &flow) {
        Verdict::Deny(reason) => denied(&reason),
        Verdict::Allow { .. } => "no source has shown one of its pods yet: that would be isolated".to_owned(),
    };
    let at = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let (source, destination) = (tracked.original.source, tracked.reply.source);
    CutFlow {
        from: name(cluster, source),
        source: at(source, tracked.original.ports().map(|(port, _)| port)),
        to: name(cluster, destination),
        destination: at(destination, tracked.reply.ports().map(|(port, _)| port)),
        protocol: match flow.protocol {
            Protocol::Port(transport, _) => transport.to_string().to_uppercase(),
            other => other.to_string(),
        },
        why,
    }
}

/// What whoever has an address is called.
fn name(cluster: &Cluster, address: IpAddr) -> Option<String> {
    let pods: BTreeSet<String> = cluster.with_address(address).map(|pod| pod.key.to_string()).collect();
    if !pods.is_empty() {
        return Some(pods.into_iter().collect::<Vec<_>>().join(" or "));
    }
    let node = cluster.nodes().iter().find(|(_, node)| node.addresses.contains(&address));
    node.map(|(name, _)| name.to_string())
}
