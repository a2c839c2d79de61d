//! Pods as their nodes have them.

use std::fs;
use std::net::IpAddr;

use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;

use crate::cluster::Cluster;
use crate::node::Node;
use crate::table::Place;

/// The network namespaces of a node's pods, and an address of each.
pub(crate) fn on(node: &Node) -> Vec<(Namespace, IpAddr)> {
    let kept = fs::read_dir(node.machine.path("/run/netns")).into_iter().flatten().flatten();
    let open = kept.filter_map(|entry| Namespace::open(&entry.path()).ok());
    open.filter_map(|namespace| {
        let observed = RouteSocket::open_in(&namespace).and_then(|mut socket| socket.observe()).ok()?;
        let mut addresses =
            observed.links.get(&"eth0".parse().ok()?)?.addresses.iter().map(|address| address.net.addr());
        let address = addresses.find(IpAddr::is_ipv4)?;
        Some((namespace, address))
    })
    .collect()
}

/// A pod's namespace.
pub(crate) fn network_of(cluster: &Cluster, pod: &Place) -> Namespace {
    let node = cluster.node(&pod.node);
    let mut found = on(node).into_iter().filter(|(_, address)| address.to_string() == pod.address);
    found.next().unwrap_or_else(|| panic!("{} has no namespace on {}", pod.name, pod.node)).0
}
