//! What the agent wants of its node: forwarding, the bridge, the ways to its peers, and the host ends of the pods.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::mark::{REAP_GROUP, is_ours};
use selvedge_model::transport::{Choice, Transport};
use selvedge_model::{Cluster, Forwarding, IfName, Mtu, NetworkName, Node, NodeName, Owner, Sorted};

use crate::attachment::{self, BridgeSubnet, NodeSide};
use crate::converge::OwnKey;
use crate::peers::{self, Encrypting, Here, Peer};
use crate::plan::DesiredNetwork;
use crate::reach::{Findings, Seat, Target};
use crate::state::{LinkKind, ObservedLink, ObservedNetwork};

/// How new pods are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// By host routes.
    Routed,
    /// To the bridge.
    Bridge,
}

/// The node we run on and how its owner wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalNode {
    /// The name of its Node object.
    pub name: NodeName,
    /// The name of the pod network.
    pub network: NetworkName,
    /// How new pods are attached.
    pub attach: Attach,
    /// The bridge's name, for `attach: bridge` and for pods attached that way before.
    pub bridge: IfName,
    /// The pods' MTU, if it isn't what the way to their peers allows.
    pub mtu: Option<Mtu>,
    /// How peers are to be reached, where no annotation says otherwise.
    pub transport: Choice,
    /// The parameters of VXLAN.
    pub vxlan: VxlanSettings,
    /// The parameters of the udp transport.
    pub udp: UdpSettings,
    /// The parameters of WireGuard.
    pub wireguard: WireguardSettings,
}

/// What this node brings to WireGuard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardSettings {
    /// The UDP port, which all nodes have alike.
    pub port: u16,
    /// Whether the kernel has WireGuard, or there is a forwarder for it, or one can be started.
    pub there: bool,
    /// Our own key.
    pub key: OwnKey,
    /// Whether nothing goes to other nodes' pods but encrypted, wherever it would go else.
    pub strict: bool,
}

/// What all nodes that reach each other in plain UDP have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpSettings {
    /// The UDP port.
    pub port: u16,
    /// Whether there is a forwarder, or one can be started.
    pub there: bool,
}

/// What all nodes of a VXLAN have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanSettings {
    /// The network identifier.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// Whether the kernel has VXLAN: its device is there then though we reach nobody by it, for whoever reaches us so.
    pub there: bool,
    /// Whether the kernel gets the checksums of inner packets right where it leaves them to network cards: not before
    /// Linux 5.8.
    pub offloads: bool,
}

/// What the kernel shows that a decision needs.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Links, addresses and routes of the node's namespace.
    pub network: &'a ObservedNetwork,
    /// The interfaces that are to go on taking router advertisements while the node forwards: `accept_ra` 2.
    pub takes_ra: &'a [IfName],
    /// Whether br_netfilter is in force ([`attachment::bridge_netfilter`]).
    pub bridge_netfilter: bool,
    /// What was measured of the ways to other nodes.
    pub findings: &'a Findings,
}

/// Why nothing can be decided yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// No Node object bears our name.
    #[error("there is no Node {name}; known are {known}")]
    NoNode {
        /// Our name.
        name: NodeName,
        /// The names that there are.
        known: String,
    },
    /// Our Node has no pod CIDR.
    #[error("Node {name} has no spec.podCIDRs yet")]
    NoPodCidr {
        /// Our name.
        name: NodeName,
    },
}

/// Something that keeps part of the cluster from being reached, while the rest works.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// A peer has no address of its pod CIDR's family.
    #[error("Node {node} has no InternalIP of the family of its pod CIDR {pod_cidr}: no route to its pods")]
    NoAddress {
        /// The peer.
        node: NodeName,
        /// Its pod CIDR.
        pod_cidr: IpNet,
    },
    /// A peer's address is on none of our links.
    #[error("Node {node} at {address} is on no segment of this node: no direct route to {pod_cidr}")]
    NotOnLink {
        /// The peer.
        node: NodeName,
        /// Its address.
        address: IpAddr,
        /// Its pod CIDR.
        pod_cidr: IpNet,
    },
    /// A pod CIDR would swallow a node's own address.
    #[error("Node {node}: pod CIDR {pod_cidr} covers the node address {address}: not routed")]
    CoversNode {
        /// The node whose pod CIDR it is.
        node: NodeName,
        /// The pod CIDR.
        pod_cidr: IpNet,
        /// The address within it.
        address: IpAddr,
    },
    /// The bridge's name belongs to a link that isn't ours.
    #[error("{name} was made by somebody else and is left alone: name another bridge, or remove it")]
    ForeignBridge {
        /// The name.
        name: IfName,
    },
    /// A peer has no address that our end of an overlay can send to.
    #[error(
        "Node {node} has no InternalIP of the family of {local}, from which this node sends: no way to its pods"
    )]
    NoUnderlay {
        /// The peer.
        node: NodeName,
        /// Our address.
        local: IpAddr,
    },
    /// The name of a device of ours belongs to a link that isn't.
    #[error("{name} was made by somebody else and is left alone: remove or rename it")]
    ForeignOverlay {
        /// The name.
        name: IfName,
    },
    /// The kernel has no WireGuard, nobody encrypts in user space, and nothing can be started that would.
    #[error(
        "nothing encrypts on this node: its kernel has no WireGuard, and there is no selvedge-tunnel beside the agent, \
         nor one at work"
    )]
    NoWireguard,
    /// Our own key can't be used.
    #[error("this node encrypts by the key that it had, if any, and for no other nodes than then: {why}")]
    BrokenKey {
        /// What is wrong with it.
        why: String,
    },
    /// Less gets through to a peer than every packet may measure.
    #[error(
        "only {mtu} bytes get through to Node {node} by {transport}, and pods send {least}: the network between the \
         nodes needs a larger MTU", least = Mtu::LEAST
    )]
    Narrow {
        /// The peer.
        node: NodeName,
        /// By what it is reached.
        transport: Transport,
        /// What was measured.
        mtu: u32,
    },
    /// A peer has no key to encrypt for.
    #[error("Node {node} has not published a WireGuard key: nothing is sent to its pods")]
    NoKey {
        /// The peer.
        node: NodeName,
    },
    /// Two nodes say the same key: what is encrypted for the one could be anybody's of the two.
    #[error(
        "Node {node} has published the WireGuard key of Node {other}: nothing is encrypted for it before it has one of \
         its own (remove wireguard.key in its run directory)"
    )]
    SameKey {
        /// The peer.
        node: NodeName,
        /// Whose key it is taken to be.
        other: NodeName,
    },
    /// Nobody forwards over UDP, and nothing can be started that would.
    #[error(
        "nothing forwards over UDP on this node: there is no selvedge-tunnel beside the agent, nor one at work"
    )]
    NoForwarder,
    /// None of our Node's addresses is on a link of ours.
    #[error("none of Node {node}'s addresses is on an interface of this node")]
    NoLocalAddress {
        /// Our name.
        node: NodeName,
    },
}

impl Problem {
    /// True if no pod can be served while it lasts.
    pub fn blocks(&self) -> bool {
        matches!(self, Self::ForeignBridge { .. })
    }
}

/// The node as it should be, but for its nftables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredNode {
    /// Links, addresses, routes, sysctls.
    pub network: DesiredNetwork,
    /// The node's own pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// The whole pod network: every node's pod CIDRs, aggregated.
    pub cluster: Vec<IpNet>,
    /// The addresses of the nodes that pods reach with their own addresses.
    pub nodes: BTreeSet<IpAddr>,
    /// The addresses of all nodes.
    pub everyone: Sorted<IpAddr>,
    /// How the other nodes are reached.
    pub peers: Sorted<Peer>,
    /// The ways to them that are worth measuring.
    pub targets: Sorted<Target>,
    /// From where.
    pub seats: BTreeSet<Seat>,
    /// What a forwarder is to do, where one is needed.
    pub forwarding: Option<Forwarding>,
    /// What is wanted of WireGuard, where anybody wishes for it.
    pub encryption: Option<Encrypting>,
    /// What nothing goes to but encrypted.
    pub encrypted: BTreeSet<IpNet>,
    /// This node's own addresses, as far as they are on its links.
    pub addresses: Vec<IpAddr>,
    /// The pods' MTU.
    pub mtu: Mtu,
    /// The pods of our network attached here.
    pub attachments: Vec<(IfName, Owner)>,
    /// The bridge ports of every network of ours, with their pods' addresses.
    pub ports: Vec<(IfName, Vec<IpNet>)>,
    /// Whether there is a bridge.
    pub bridged: bool,
    /// What is amiss.
    pub problems: Vec<Problem>,
}

/// Decides what the node should look like.
pub fn desired(cluster: &Cluster, local: &LocalNode, facts: Facts<'_>) -> Result<DesiredNode, NotYet> {
    desired_after(&mut peers::Known::default(), cluster, (local, facts))
}

/// The same, by what was decided last of the ways to peers on account of the same findings as they were then.
pub fn desired_after(
    known: &mut peers::Known,
    cluster: &Cluster,
    (local, facts): (&LocalNode, Facts<'_>),
) -> Result<DesiredNode, NotYet> {
    let node = own_node(cluster, local)?;
    let addresses: Vec<IpAddr> =
        node.addresses.iter().copied().filter(|a| holder(facts.network, *a).is_some()).collect();
    let mut problems = Vec::new();
    if addresses.is_empty() {
        problems.push(Problem::NoLocalAddress { node: local.name.clone() });
    }
    known.follow(cluster);
    let underlay = of_underlay(known, &addresses);
    let uplink = uplink_mtu(facts.network, &underlay);
    let here =
        Here { node, local, network: facts.network, addresses: &underlay, uplink, findings: facts.findings };
    let peers = peers::decide_after(known, cluster, here);
    let mtu = local.mtu.or(peers.mtu).unwrap_or(uplink);
    let mut network = attachment::forwarding(&node.pod_cidrs, facts.takes_ra);
    let attachments = merge_attachments(&mut network, local, facts, &addresses);
    let bridged = local.attach == Attach::Bridge || attachments.iter().any(|(_, owner)| owner.is_bridged());
    let foreign = bridged && is_foreign(facts.network, &local.bridge);
    if foreign {
        problems.push(Problem::ForeignBridge { name: local.bridge.clone() });
    } else if bridged {
        let subnets: Vec<BridgeSubnet> = node.pod_cidrs.iter().map(|net| first_address(*net)).collect();
        network.merge(attachment::bridge(&local.bridge, &local.network, &subnets, mtu));
    }
    network.merge(peers.network);
    problems.extend(peers.problems);
    let nets: Vec<IpNet> = known.pod_cidrs().collect();
    Ok(DesiredNode {
        network,
        pod_cidrs: node.pod_cidrs.clone(),
        cluster: IpNet::aggregate(&nets),
        nodes: peers.direct,
        everyone: known.addresses().clone(),
        peers: peers.peers,
        targets: peers.targets,
        seats: peers.seats,
        forwarding: peers.forwarding,
        encryption: peers.encryption,
        encrypted: peers.encrypted,
        addresses,
        mtu,
        attachments,
        ports: ports(facts.network),
        bridged,
        problems,
    })
}

fn own_node<'a>(cluster: &'a Cluster, local: &LocalNode) -> Result<&'a Node, NotYet> {
    let node = cluster.nodes().get(&local.name).ok_or_else(|| {
        let known: Vec<&str> = cluster.nodes().keys().map(NodeName::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        NotYet::NoNode { name: local.name.clone(), known }
    })?;
    if node.pod_cidrs.is_empty() {
        return Err(NotYet::NoPodCidr { name: local.name.clone() });
    }
    Ok(node)
}

/// The first address of a subnet, with its prefix length: a bridge's gateway.
pub fn first_address(subnet: IpNet) -> BridgeSubnet {
    let first = subnet.hosts().next().unwrap_or_else(|| subnet.addr());
    let first = match first {
        // The very first address of an IPv6 subnet is the routers' anycast address (RFC 4291 section 2.6.1).
        IpAddr::V6(v6) if first == subnet.network() => IpAddr::V6((u128::from(v6) + 1).into()),
        other => other,
    };
    let gateway = IpNet::new(first, subnet.prefix_len()).unwrap_or(subnet);
    BridgeSubnet { gateway }
}

/// The link that holds an address.
fn holder(observed: &ObservedNetwork, address: IpAddr) -> Option<&IfName> {
    let holds = |link: &ObservedLink| link.addresses.iter().any(|a| a.net.addr() == address);
    observed.links.iter().find(|(_, link)| holds(link)).map(|(name, _)| name)
}

/// The node's addresses, those of the underlay's family first: IPv4 where every node has it, whatever their order, else
/// IPv6, so that all nodes come to the same.
fn of_underlay(known: &peers::Known, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let v4 = known.have_v4();
    let mut ordered = addresses.to_vec();
    ordered.sort_by_key(|address| address.is_ipv4() != v4);
    ordered
}

/// The MTU of the link with the node's first address, else of the one the default route leaves by, else Ethernet's.
fn uplink_mtu(observed: &ObservedNetwork, addresses: &[IpAddr]) -> Mtu {
    let by_address = addresses.first().and_then(|a| holder(observed, *a));
    let default = observed.routes.iter().find(|r| r.destination.prefix_len() == 0).map(|r| &r.device);
    let link = by_address.or(default).and_then(|name| observed.links.get(name));
    link.and_then(|link| Mtu::new(link.mtu.min(65535)).ok()).unwrap_or(Mtu::ETHERNET)
}

/// True if a link of that name is there and bears no mark of ours.
fn is_foreign(observed: &ObservedNetwork, name: &IfName) -> bool {
    observed.links.get(name).is_some_and(|link| link.kind != LinkKind::Bridge || !is_ours(&link.alias))
}

/// The bridge ports among our host ends, whatever their network.
fn ports(observed: &ObservedNetwork) -> Vec<(IfName, Vec<IpNet>)> {
    let owner = |link: &ObservedLink| link.alias.parse::<Owner>().ok().filter(Owner::is_bridged);
    let veths = observed.links.iter().filter(|(_, l)| l.kind == LinkKind::Veth && l.group != REAP_GROUP);
    veths.filter_map(|(name, link)| Some((name.clone(), owner(link)?.addresses))).collect()
}

/// Adds the host ends of our network's pods; what belongs to other networks of ours is kept as it is.
fn merge_attachments(
    network: &mut DesiredNetwork,
    local: &LocalNode,
    facts: Facts<'_>,
    addresses: &[IpAddr],
) -> Vec<(IfName, Owner)> {
    let on = NodeSide { addresses, bridge_netfilter: facts.bridge_netfilter };
    let mut attachments = Vec::new();
    for (name, link) in &facts.network.links {
        if link.group == REAP_GROUP {
            continue;
        }
        match (link.kind, link.alias.parse::<Owner>()) {
            (LinkKind::Veth, Ok(owner)) if owner.network == local.network => {
                let mode = attachment::mode_of(&owner, &local.bridge);
                network.merge(attachment::host_end(name, &owner, &mode, on));
                attachments.push((name.clone(), owner));
            }
            (kind, _)
                if (kind == LinkKind::Veth || kind.is_a_nodes())
                    && of_another_network(&link.alias, &local.network) =>
            {
                network.keep.insert(name.clone());
            }
            _ => {}
        }
    }
    attachments
}

fn of_another_network(alias: &str, network: &NetworkName) -> bool {
    let mut words = alias.split(' ');
    words.next() == Some(selvedge_model::mark::ALIAS_WORD) && words.next() != Some(network.as_str())
}

#[cfg(test)]
mod tests;
