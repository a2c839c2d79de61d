//! Which paths a lab must have: a pure function of its [`Plan`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::{NodeName, PodKey};
use serde::{Deserialize, Serialize};

use crate::plan::{Place, Plan, PlannedNode, outside};
use crate::shape::{Attach, Family, Shape};

/// What a path is an instance of, from the view of the pod whose row of the matrix it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// From the pod to the node that it is on.
    OwnNode,
    /// From the pod to another node.
    OtherNode,
    /// From a node, the pod's own or another, to the pod.
    FromNode,
    /// From the pod to another pod on its node.
    SameNodePod,
    /// From the pod to a pod on another node.
    OtherNodePod,
    /// From the pod to its own address.
    Itself,
    /// From the pod to the host beyond the router.
    Outside,
}

impl PathKind {
    /// Every kind, in the order of the matrix' columns.
    pub const ALL: [Self; 7] = [
        Self::OwnNode,
        Self::OtherNode,
        Self::FromNode,
        Self::SameNodePod,
        Self::OtherNodePod,
        Self::Itself,
        Self::Outside,
    ];
}

impl fmt::Display for PathKind {
    /// The heading of the column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnNode => "own node",
            Self::OtherNode => "other node",
            Self::FromNode => "from node",
            Self::SameNodePod => "pod, same node",
            Self::OtherNodePod => "pod, other node",
            Self::Itself => "itself",
            Self::Outside => "outside",
        })
    }
}

/// What is sent along a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// An echo request, which the other end's kernel answers.
    Icmp,
    /// A connection, over which each end sends the other something.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "ICMP",
            Self::Tcp => "TCP",
        })
    }
}

/// A path in one family and protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The pod whose path it is: the sender, or, from nodes, the receiver.
    pub pod: PodKey,
    /// The node that the pod is on.
    pub node: NodeName,
    /// The sender.
    pub from: Place,
    /// The receiver.
    pub to: Place,
    /// What kind of path it is.
    pub kind: PathKind,
    /// The family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// Whose address the receiver must see: the sender's, but
    /// - towards the outside the address of the pod's node, and to other nodes too that it has an overlay to
    /// - from a node to a pod on its bridge the one that the node has there
    /// - from a node to a pod over an overlay the one that the node has on that
    pub seen_as: Place,
}

impl Path {
    /// Whether it is one between a pod and a node to which packets travel inside others.
    pub fn is_over_overlay(&self) -> bool {
        let by_node = matches!(self.seen_as, Place::Node(_)) && self.kind == PathKind::OtherNode;
        by_node || matches!(self.seen_as, Place::Overlay(_))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}, {} {}", self.from, self.to, self.family, self.protocol)
    }
}

/// How many paths [`paths`] has for a lab of a shape.
pub fn count(shape: &Shape) -> usize {
    let (nodes, pods) = (usize::from(shape.nodes.get()), usize::from(shape.pods.get()));
    // Of each pod: to every node and from every node, to every pod, itself among them, and to the outside.
    let of_each = 2 * nodes + nodes * pods + 1;
    nodes * pods * of_each * shape.family.families().len() * 2
}

/// The addresses of every place; a pod's are known once it is wired.
pub type Addresses = BTreeMap<Place, Vec<IpAddr>>;

/// The address of a place in one family.
pub(crate) fn address_of(addresses: &Addresses, place: &Place, family: Family) -> Option<IpAddr> {
    addresses.get(place)?.iter().copied().find(|a| Family::of(*a) == family)
}

/// The addresses of the nodes and of the outside host.
pub(crate) fn fixed_addresses(plan: &Plan) -> Addresses {
    let families = plan.shape.family.families();
    let nodes = plan.nodes.iter().flat_map(|node| {
        let own = families.iter().filter_map(|f| node.address(*f)).collect();
        let on_bridge = node.pod_cidrs.iter().filter_map(first_host).collect();
        let on_overlay = node.pod_cidrs.iter().map(IpNet::network).collect();
        let name = || node.name.clone();
        [(Place::Node(name()), own), (Place::Bridge(name()), on_bridge), (Place::Overlay(name()), on_overlay)]
    });
    let outside = (Place::Outside, families.iter().map(|f| outside(*f).addr()).collect());
    nodes.chain([outside]).collect()
}

/// The address that a bridge has of the subnet that it serves.
fn first_host(cidr: &IpNet) -> Option<IpAddr> {
    IpNet::new(cidr.network(), cidr.prefix_len()).ok()?.hosts().find(|host| *host != cidr.network())
}

/// Every path of the lab, pod by pod in the order of the plan, and for each pod in the order of [`PathKind::ALL`].
pub fn paths(plan: &Plan) -> Vec<Path> {
    let mut all = Vec::new();
    for (node, pod) in plan.pods() {
        let me = Place::Pod(pod.clone());
        let home = Place::Node(node.name.clone());
        for kind in PathKind::ALL {
            for (from, to) in ends(plan, &me, &home, kind) {
                let seen_as = seen_as(plan, node, (&from, &to));
                for &family in plan.shape.family.families() {
                    let path = |protocol| Path {
                        pod: pod.clone(),
                        node: node.name.clone(),
                        from: from.clone(),
                        to: to.clone(),
                        kind,
                        family,
                        protocol,
                        seen_as: seen_as.clone(),
                    };
                    all.extend([Protocol::Icmp, Protocol::Tcp].map(path));
                }
            }
        }
    }
    all
}

/// Whose address the receiver sees; one of the two ends is a pod on that node.
fn seen_as(plan: &Plan, home: &PlannedNode, (from, to): (&Place, &Place)) -> Place {
    let over_overlay = |peer: &NodeName| {
        let peer = plan.nodes.iter().find(|node| node.name == *peer && node.name != home.name);
        peer.is_some_and(|peer| plan.is_overlay(home, peer))
    };
    match (from, to) {
        (_, Place::Outside) => Place::Node(home.name.clone()),
        (Place::Pod(_), Place::Node(node)) if over_overlay(node) => Place::Node(home.name.clone()),
        (Place::Node(node), _) if over_overlay(node) => Place::Overlay(node.clone()),
        (Place::Node(node), _) if *node == home.name && plan.shape.attach == Attach::Bridge => {
            Place::Bridge(node.clone())
        }
        _ => from.clone(),
    }
}

/// The senders and receivers of one kind of path in one pod's row.
fn ends(plan: &Plan, me: &Place, home: &Place, kind: PathKind) -> Vec<(Place, Place)> {
    let nodes = plan.nodes.iter().map(|n| Place::Node(n.name.clone()));
    let pods_where = |same: bool| {
        let others = plan.pods().filter(move |(node, _)| (Place::Node(node.name.clone()) == *home) == same);
        others.map(|(_, pod)| Place::Pod(pod.clone())).filter(|pod| pod != me)
    };
    let to = |place: Place| (me.clone(), place);
    match kind {
        PathKind::OwnNode => vec![to(home.clone())],
        PathKind::OtherNode => nodes.filter(|node| node != home).map(to).collect(),
        PathKind::FromNode => nodes.map(|node| (node, me.clone())).collect(),
        PathKind::SameNodePod => pods_where(true).map(to).collect(),
        PathKind::OtherNodePod => pods_where(false).map(to).collect(),
        PathKind::Itself => vec![to(me.clone())],
        PathKind::Outside => vec![to(Place::Outside)],
    }
}

#[cfg(test)]
mod tests {
    use crate::shape::{Count, FamilyChoice, Transport};

    use super::*;

    fn shape(nodes: u8, pods: u8, family: FamilyChoice) -> Shape {
        let (nodes, pods) = (Count::new(nodes).unwrap(), Count::new(pods).unwrap());
        Shape::new(nodes, pods, Attach::Routed, family)
    }

    fn of(nodes: u8, pods: u8, family: FamilyChoice) -> Vec<Path> {
        paths(&Plan::new(shape(nodes, pods, family)))
    }

    #[test]
    fn three_nodes_of_two_pods_have_thirteen_paths_a_pod_in_each_family_and_protocol() {
        let all = of(3, 2, FamilyChoice::Dual);
        // own node 1, other nodes 2, from nodes 3, same node 1, other pods 4, itself 1, outside 1
        assert_eq!(all.len(), 6 * 13 * 4);
        assert_eq!(of(3, 2, FamilyChoice::Ipv4).len(), 6 * 13 * 2);
    }

    #[test]
    fn paths_are_counted_without_being_made() {
        let shapes = [(1, 1, FamilyChoice::Ipv4), (1, 3, FamilyChoice::Dual), (4, 0, FamilyChoice::Dual)];
        for (nodes, pods, family) in shapes.into_iter().chain([(5, 4, FamilyChoice::Dual)]) {
            assert_eq!(
                count(&shape(nodes, pods, family)),
                of(nodes, pods, family).len(),
                "{nodes} nodes, {pods} pods"
            );
        }
    }

    #[test]
    fn a_single_pod_on_a_single_node_still_has_the_paths_that_need_no_other() {
        let kinds: Vec<_> = of(1, 1, FamilyChoice::Ipv4).iter().map(|p| p.kind).collect();
        let alone = [PathKind::OwnNode, PathKind::FromNode, PathKind::Itself, PathKind::Outside];
        assert_eq!(kinds, alone.map(|kind| [kind, kind]).concat());
        assert!(of(5, 0, FamilyChoice::Dual).is_empty());
    }

    #[test]
    fn pods_see_their_own_node_by_its_address_on_their_bridge() {
        let shape = Shape { attach: Attach::Bridge, ..shape(2, 1, FamilyChoice::Dual) };
        let plan = Plan::new(shape);
        let own = paths(&plan)
            .into_iter()
            .find(|p| p.kind == PathKind::FromNode && p.from == Place::Node(p.node.clone()));
        let seen_as = own.unwrap().seen_as;
        let addresses: Vec<String> =
            fixed_addresses(&plan)[&seen_as].iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.244.0.1", "fd00:10:244::1"]);
    }

    #[test]
    fn senders_are_seen_as_themselves_but_towards_the_outside_as_their_node() {
        for path in of(3, 2, FamilyChoice::Dual) {
            if path.kind == PathKind::Outside {
                assert!(matches!(path.seen_as, Place::Node(_)), "{path:?}");
            } else {
                assert_eq!(path.seen_as, path.from);
            }
        }
    }

    #[test]
    fn over_an_overlay_pods_are_seen_by_nodes_as_theirs_and_nodes_by_pods_by_their_overlay_address() {
        let mut shape = shape(3, 1, FamilyChoice::Dual);
        shape.network.segments = Count::new(2).unwrap();
        shape.transport = Transport::Auto;
        let seen = |shape: &Shape, from: &str, to: &str| {
            let all = paths(&Plan::new(shape.clone()));
            all.into_iter().find(|p| p.from.to_string() == from && p.to.to_string() == to).unwrap().seen_as
        };
        let node = |text: &str| Place::Node(text.parse().unwrap());
        let (web, web_c): (PodKey, PodKey) = ("web-0".parse().unwrap(), "web-2".parse().unwrap());
        // node-a and node-b share a segment, node-c is on the other.
        let cases = [
            ("default/web-0", "node-b", Place::Pod(web.clone())),
            ("default/web-0", "node-c", node("node-a")),
            ("default/web-2", "node-b", node("node-c")),
            ("node-b", "default/web-0", node("node-b")),
            ("node-c", "default/web-0", Place::Overlay("node-c".parse().unwrap())),
            ("node-c", "default/web-2", node("node-c")),
            ("default/web-0", "default/web-2", Place::Pod(web.clone())),
            ("default/web-2", "default/web-0", Place::Pod(web_c)),
        ];
        for (from, to, expected) in cases {
            assert_eq!(seen(&shape, from, to), expected, "{from} -> {to}");
        }
        shape.transport = Transport::Native;
        assert_eq!(seen(&shape, "default/web-0", "node-c"), Place::Pod(web));
        let plan = Plan::new(shape);
        let overlay = &fixed_addresses(&plan)[&Place::Overlay("node-c".parse().unwrap())];
        let overlay: Vec<String> = overlay.iter().map(ToString::to_string).collect();
        assert_eq!(overlay, ["10.244.2.0", "fd00:10:244:2::"]);
    }
}
