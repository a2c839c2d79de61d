use selvedge_model::Listing;
use selvedge_model::cluster::Kind;
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::transport::Transport;

use super::*;
use crate::plan::{Prune, Seen, plan};
use crate::state::{Address, Route, RouteProtocol, Scope};

fn node(letter: char, number: u8) -> Node {
    Node::new(
        format!("node-{letter}").parse().unwrap(),
        vec![
            format!("10.244.{number}.0/24").parse().unwrap(),
            format!("fd00:10:244:{number}::/64").parse().unwrap(),
        ],
        vec![format!("172.30.0.1{number}").parse().unwrap(), format!("fd00:30::1{number}").parse().unwrap()],
    )
}

fn cluster(nodes: Vec<Node>) -> Cluster {
    let mut listing = Listing::default();
    nodes.into_iter().for_each(|n| listing.node(n));
    Listing::KINDS.into_iter().for_each(|k: Kind| listing.complete(k));
    listing.finish().unwrap()
}

fn local(attach: Attach) -> LocalNode {
    LocalNode {
        name: "node-a".parse().unwrap(),
        network: "selvedge".parse().unwrap(),
        attach,
        bridge: "cni0".parse().unwrap(),
        mtu: None,
        transport: Choice::Auto,
        vxlan: VxlanSettings { vni: 83, port: 4789, there: false, offloads: true },
        udp: UdpSettings { port: 8383, there: true },
        wireguard: WireguardSettings { port: 51820, there: true, key: OwnKey::Missing, strict: false },
    }
}

fn link(kind: LinkKind, alias: &str, addresses: &[&str]) -> ObservedLink {
    let address = |text: &&str| Address { scope: Scope::Global, ..Address::global(text.parse().unwrap()) };
    ObservedLink {
        addresses: addresses.iter().map(address).collect(),
        up: true,
        ..ObservedLink::new(kind, "0a:00:00:00:00:01".parse().unwrap(), Mtu::new(1400).unwrap(), alias)
    }
}

fn observed(extra: &[(&str, ObservedLink)]) -> ObservedNetwork {
    let mut network = ObservedNetwork::default();
    let eth0 = link(LinkKind::Other, "", &["172.30.0.10/24", "fd00:30::10/64"]);
    network.links.insert("eth0".parse().unwrap(), eth0);
    network.links.extend(extra.iter().map(|(name, link)| (name.parse().unwrap(), link.clone())));
    network
}

fn decide(nodes: Vec<Node>, attach: Attach, network: &ObservedNetwork) -> DesiredNode {
    desired(
        &cluster(nodes),
        &local(attach),
        Facts { network, takes_ra: &[], bridge_netfilter: false, findings: &Findings::default() },
    )
    .unwrap()
}

fn steps(wanted: &DesiredNode, network: &ObservedNetwork) -> Vec<String> {
    let sysctls = [(crate::state::Sysctl::Ipv4Forward, "1"), (crate::state::Sysctl::Ipv6Forward, "1")];
    let sysctls = sysctls.into_iter().map(|(k, v)| (k, v.to_owned())).collect();
    let plan = plan(&wanted.network, Seen { network, sysctls: &sysctls }, Prune::Marked);
    plan.steps.iter().map(ToString::to_string).collect()
}

#[test]
fn every_peer_gets_a_direct_route_per_pod_cidr() {
    let network = observed(&[]);
    let wanted = decide(vec![node('a', 0), node('b', 1)], Attach::Routed, &network);
    assert_eq!(
        steps(&wanted, &network),
        [
            "ip route add 10.244.1.0/24 via 172.30.0.11 dev eth0 proto 83 src 172.30.0.10",
            "ip route add fd00:10:244:1::/64 via fd00:30::11 dev eth0 proto 83 src fd00:30::10",
        ]
    );
    assert_eq!(wanted.mtu.bytes(), 1400);
    assert_eq!(wanted.problems, []);
}

#[test]
fn a_node_that_left_while_the_agent_was_down_loses_its_route_and_foreign_routes_stay() {
    let mut network = observed(&[]);
    let route = |text: &str, protocol| Route {
        destination: text.parse().unwrap(),
        via: "172.30.0.19".parse().ok(),
        device: "eth0".parse().unwrap(),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(protocol),
    };
    network.routes.extend([route("10.244.9.0/24", ROUTE_PROTOCOL), route("10.99.0.0/24", 4)]);
    let wanted = decide(vec![node('a', 0)], Attach::Routed, &network);
    assert_eq!(steps(&wanted, &network), ["ip route del 10.244.9.0/24 via 172.30.0.19 dev eth0 proto 83"]);
}

#[test]
fn a_running_pod_whose_route_is_gone_gets_it_back_from_its_owner_record() {
    let owner = "selvedge selvedge c1/eth0 10.244.0.7/32";
    let network = observed(&[("slvpod", link(LinkKind::Veth, owner, &[]))]);
    let wanted = decide(vec![node('a', 0)], Attach::Routed, &network);
    assert_eq!(
        steps(&wanted, &network),
        [
            "ip addr add 169.254.1.1/32 scope link dev slvpod",
            "ip route add 10.244.0.7/32 dev slvpod proto 83 src 172.30.0.10",
        ]
    );
}

#[test]
fn the_route_of_a_pod_that_is_being_set_aside_is_left_to_go_with_its_link() {
    let owner = "selvedge selvedge c1/eth0 10.244.0.7/32";
    let mut network = observed(&[("slvpod", link(LinkKind::Veth, owner, &["169.254.1.1/32"]))]);
    let wanted = decide(vec![node('a', 0)], Attach::Routed, &network);
    network.routes = wanted.network.routes;
    network.links.get_mut(&"slvpod".parse().unwrap()).unwrap().group = REAP_GROUP;
    let wanted = decide(vec![node('a', 0)], Attach::Routed, &network);
    assert!(wanted.network.routes.is_empty());
    assert_eq!(steps(&wanted, &network), Vec::<String>::new());
}

#[test]
fn a_changed_pod_cidr_moves_the_bridges_address() {
    let bridge = link(LinkKind::Bridge, "selvedge selvedge", &["10.244.7.1/24"]);
    let network = observed(&[("cni0", bridge)]);
    let wanted = decide(vec![node('a', 0)], Attach::Bridge, &network);
    let steps = steps(&wanted, &network);
    let add = steps.iter().position(|s| s == "ip addr add 10.244.0.1/24 dev cni0").unwrap();
    let del = steps.iter().position(|s| s == "ip addr del 10.244.7.1/24 dev cni0").unwrap();
    assert!(add < del);
}

#[test]
fn the_bridge_stays_while_a_pod_hangs_on_it_and_goes_afterwards() {
    let bridge = ("cni0", link(LinkKind::Bridge, "selvedge selvedge", &["10.244.0.1/24"]));
    let pod = ("slvpod", link(LinkKind::Veth, "selvedge selvedge c1/eth0 10.244.0.7/24", &[]));
    let with_pod = observed(&[bridge.clone(), pod]);
    let wanted = decide(vec![node('a', 0)], Attach::Routed, &with_pod);
    assert!(wanted.network.links.contains_key(&"cni0".parse().unwrap()));
    let without = observed(&[bridge]);
    let wanted = decide(vec![node('a', 0)], Attach::Routed, &without);
    assert_eq!(steps(&wanted, &without), ["ip link del cni0"]);
}

#[test]
fn what_belongs_to_another_network_of_ours_is_left_alone() {
    let pod = link(LinkKind::Veth, "selvedge mynet c1/eth0 10.9.0.7/32", &[]);
    let mut network = observed(&[
        ("slvother", pod),
        ("br-other", link(LinkKind::Bridge, "selvedge mynet", &["10.8.0.1/24"])),
    ]);
    network.routes.insert(Route {
        destination: "10.9.0.7/32".parse().unwrap(),
        via: None,
        device: "slvother".parse().unwrap(),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(ROUTE_PROTOCOL),
    });
    let wanted = decide(vec![node('a', 0)], Attach::Routed, &network);
    assert_eq!(steps(&wanted, &network), Vec::<String>::new());
}

#[test]
fn a_peer_beyond_a_router_is_no_direct_one_and_the_others_are_routed() {
    let mut far = node('c', 2);
    far.addresses = vec!["192.0.2.9".parse().unwrap()];
    far.transport = Some(Choice::Of(Transport::Direct));
    let network = observed(&[]);
    let wanted = decide(vec![node('a', 0), node('b', 1), far], Attach::Routed, &network);
    let texts: Vec<String> = wanted.problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains("no InternalIP of the family"), "{texts:?}");
    assert!(texts[1].contains("node-c at 192.0.2.9 is on no segment"), "{texts:?}");
    assert_eq!(steps(&wanted, &network).len(), 2);
}

#[test]
fn a_pod_cidr_that_covers_a_node_is_not_routed() {
    let mut bad = node('b', 1);
    bad.pod_cidrs = vec!["172.16.0.0/12".parse().unwrap()];
    let network = observed(&[]);
    let wanted = decide(vec![node('a', 0), bad], Attach::Routed, &network);
    assert!(matches!(wanted.problems[..], [Problem::CoversNode { .. }]), "{:?}", wanted.problems);
}

#[test]
fn without_a_node_or_a_pod_cidr_nothing_is_decided() {
    let network = observed(&[]);
    let facts =
        Facts { network: &network, takes_ra: &[], bridge_netfilter: false, findings: &Findings::default() };
    let none = desired(&cluster(vec![node('b', 1)]), &local(Attach::Routed), facts);
    assert_eq!(none.unwrap_err().to_string(), "there is no Node node-a; known are node-b");
    let mut bare = node('a', 0);
    bare.pod_cidrs.clear();
    let none = desired(&cluster(vec![bare]), &local(Attach::Routed), facts);
    assert!(matches!(none, Err(NotYet::NoPodCidr { .. })));
}

#[test]
fn the_gateway_is_the_first_usable_address() {
    let gateway = |net: &str| first_address(net.parse().unwrap()).gateway.to_string();
    assert_eq!(gateway("10.244.1.0/24"), "10.244.1.1/24");
    assert_eq!(gateway("10.244.1.128/25"), "10.244.1.129/25");
    assert_eq!(gateway("fd00:10:244::/64"), "fd00:10:244::1/64");
}

#[test]
fn a_bridge_that_somebody_else_made_is_left_alone_and_serves_no_pods() {
    let theirs = link(LinkKind::Bridge, "docker of mine", &["192.168.77.1/24"]);
    let network = observed(&[("cni0", theirs)]);
    let wanted = decide(vec![node('a', 0)], Attach::Bridge, &network);
    assert_eq!(steps(&wanted, &network), Vec::<String>::new());
    assert!(matches!(wanted.problems[..], [Problem::ForeignBridge { .. }]), "{:?}", wanted.problems);
    assert!(wanted.problems[0].blocks());
}
