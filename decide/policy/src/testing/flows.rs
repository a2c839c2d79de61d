//! The flows that a cluster is judged by.

use std::net::IpAddr;

use selvedge_model::Transport;

use crate::cluster::Cluster;
use crate::judge::{Flow, Protocol, Source};

/// Somebody outside of the cluster, in both families.
const OUTSIDE: [&str; 2] = ["192.0.2.9", "2001:db8::9"];

/// Whoever may open a flow: everybody with an address of a pod's, even of one that has ended, every node, every node's
/// address as others may bear it, and somebody outside.
pub fn parties(cluster: &Cluster) -> Vec<Source> {
    let nodes =
        || cluster.nodes().iter().flat_map(|(name, node)| node.addresses.iter().map(move |a| (name, *a)));
    let hosts = nodes().map(|(name, address)| Source::Host(name.clone(), address));
    let outside = OUTSIDE.iter().filter_map(|text| text.parse().ok());
    let pods = cluster.pods().values().flat_map(|pod| pod.addresses.iter().copied());
    let addresses = pods.chain(nodes().map(|(_, address)| address)).chain(outside).map(Source::Address);
    let mut parties: Vec<Source> = hosts.chain(addresses).collect();
    parties.sort();
    parties.dedup();
    parties
}

/// Flows from everybody to everybody, where at least one end is a pod's, each in one protocol out of all.
pub fn flows(cluster: &Cluster) -> Vec<Flow> {
    let parties = parties(cluster);
    let pairs = parties.iter().flat_map(|source| parties.iter().map(move |other| (source, other.address())));
    let of_pods = |address: IpAddr| cluster.pods().values().any(|pod| pod.addresses.contains(&address));
    let mut flows = Vec::new();
    for (index, (source, destination)) in pairs.enumerate() {
        let is_one_family = source.address().is_ipv4() == destination.is_ipv4();
        if is_one_family && (of_pods(source.address()) || of_pods(destination)) {
            let protocol = protocol(index, destination);
            flows.push(Flow { source: source.clone(), destination, protocol });
        }
    }
    flows
}

fn protocol(choice: usize, destination: IpAddr) -> Protocol {
    let icmp = if destination.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
    let all = [
        Protocol::Port(Transport::Tcp, 80),
        Protocol::Port(Transport::Udp, 53),
        Protocol::Port(Transport::Sctp, 80),
        Protocol::Port(Transport::Tcp, 8080),
        icmp,
        Protocol::Port(Transport::Tcp, 53),
        Protocol::Port(Transport::Udp, 8081),
    ];
    all[choice % all.len()]
}

impl Source {
    /// The address that its packets come from.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Address(address) | Self::Host(_, address) => *address,
        }
    }
}
