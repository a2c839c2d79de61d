//! The lab's network and its probes on the real kernel, with pods that are wired by hand.
#![cfg(test)]

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use selvedge_datapath::state::{Address, Route, RouteProtocol, Scope, Sysctl};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_lab::matrix::{Matrix, Outcome, Reason};
use selvedge_lab::path::{Addresses, Path, PathKind, Protocol, paths};
use selvedge_lab::plan::{Place, Plan, PlannedNode, outside};
use selvedge_lab::probe::{Timing, probe};
use selvedge_lab::shape::{Attach, Count, Family, FamilyChoice, Shape};
use selvedge_lab::topology::Topology;
use selvedge_model::{IfName, MacAddr, Mtu, PodKey};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;

/// A neighbour that was asked for in vain is asked for again after a second.
const PATIENT: Timing = Timing { wait: Duration::from_millis(1500), tries: 2 };

/// Two nodes with two pods each, routed by hand. Nothing masquerades.
struct Rig {
    plan: Plan,
    topology: Topology,
    addresses: Addresses,
}

impl Rig {
    /// `None`, with the reason printed, where the system allows no namespaces.
    fn build() -> Option<Self> {
        if let Err(error) = Namespace::create() {
            println!("skipped: {error}");
            assert!(std::env::var_os("CI").is_none(), "skipped under CI");
            return None;
        }
        let (nodes, pods) = (Count::new(2).unwrap(), Count::new(2).unwrap());
        let plan = Plan::new(Shape::new(nodes, pods, Attach::Routed, FamilyChoice::Dual));
        let topology = Topology::build(&plan).unwrap();
        let mut rig = Self { topology, addresses: Addresses::new(), plan: plan.clone() };
        let outside_ips = [Family::V4, Family::V6].map(|family| outside(family).addr());
        rig.addresses.insert(Place::Outside, outside_ips.to_vec());
        for node in &plan.nodes {
            let ips = node.addresses.iter().map(IpNet::addr).collect();
            rig.addresses.insert(Place::Node(node.name.clone()), ips);
            rig.set_up_node(node);
            for (number, pod) in node.pods.iter().enumerate() {
                rig.wire(node, pod, number);
            }
        }
        Some(rig)
    }

    fn apply(&self, place: &Place, steps: &[NetStep]) {
        let mut socket = RouteSocket::open_in(&self.topology.places[place]).unwrap();
        socket.apply_until_failure(steps, None).unwrap();
    }

    /// Forwarding, and a route to every other node's pods.
    fn set_up_node(&self, node: &PlannedNode) {
        let mut steps = vec![
            NetStep::SetSysctl { key: Sysctl::Ipv4Forward, value: "1" },
            NetStep::SetSysctl { key: Sysctl::Ipv6Forward, value: "1" },
        ];
        for other in self.plan.nodes.iter().filter(|other| *other != node) {
            for (cidr, via) in other.pod_cidrs.iter().zip(&other.addresses) {
                steps.push(route(*cidr, Some(via.addr()), "eth0"));
            }
        }
        self.apply(&Place::Node(node.name.clone()), &steps);
    }

    fn wire(&mut self, node: &PlannedNode, pod: &PodKey, number: usize) {
        let (home, link) = (Place::Node(node.name.clone()), format!("pod{number}"));
        let ips: Vec<IpAddr> =
            node.pod_cidrs.iter().map(|cidr| cidr.hosts().nth(number + 4).unwrap()).collect();
        let namespace = Namespace::create().unwrap();
        let pair = VethPair {
            host: name(&link),
            host_mac: MacAddr::of_device(&format!("host {pod}")),
            alias: String::new(),
            master: None,
            pod: name("eth0"),
            pod_mac: MacAddr::of_device(&format!("pod {pod}")),
            mtu: Mtu::ETHERNET,
        };
        let mut socket = RouteSocket::open_in(&self.topology.places[&home]).unwrap();
        socket.apply_until_failure(&[NetStep::CreateVeth(pair), up(&link)], Some(namespace.as_fd())).unwrap();
        let gateways: [IpAddr; 2] = ["169.254.1.1", "fe80::1"].map(|ip| ip.parse().unwrap());
        for ((ip, gateway), own) in ips.iter().zip(gateways).zip(&node.addresses) {
            let gateway_there = address(&link, host_net(gateway), Scope::Link);
            let mut to_pod = plain_route(host_net(*ip), None, &link);
            to_pod.source = Some(own.addr());
            let to_pod = NetStep::ReplaceRoute(to_pod);
            socket.apply_until_failure(&[gateway_there, to_pod], None).unwrap();
        }
        let place = Place::Pod(pod.clone());
        self.topology.places.insert(place.clone(), namespace);
        self.apply(&place, &[up("lo"), up("eth0")]);
        for (ip, gateway) in ips.iter().zip(gateways) {
            let everywhere =
                IpNet::new(if ip.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap(), 0).unwrap();
            let to_gateway = route(host_net(gateway), None, "eth0");
            let default = route(everywhere, Some(gateway), "eth0");
            self.apply(&place, &[address("eth0", host_net(*ip), Scope::Global), to_gateway, default]);
        }
        self.addresses.insert(place, ips);
        // The host's end, which was up first, drops packets until the kernel has noticed that the pod's is up.
        while !socket.observe_link(&name(&link)).unwrap().unwrap().running {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn probe(&self, wanted: impl Fn(&Path) -> bool) -> Matrix {
        let paths = paths(&self.plan).into_iter().filter(|path| wanted(path)).collect();
        probe(&self.topology.places, &self.addresses, paths, PATIENT).unwrap()
    }
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn up(link: &str) -> NetStep {
    NetStep::SetLink { name: name(link), change: LinkChange::Up }
}

fn host_net(ip: IpAddr) -> IpNet {
    IpNet::from(ip)
}

fn address(device: &str, net: IpNet, scope: Scope) -> NetStep {
    NetStep::AddAddress { device: name(device), address: Address { scope, ..Address::global(net) } }
}

fn plain_route(destination: IpNet, via: Option<IpAddr>, device: &str) -> Route {
    let protocol = RouteProtocol(4);
    Route { destination, via, device: name(device), source: None, mtu: None, onlink: false, protocol }
}

fn route(destination: IpNet, via: Option<IpAddr>, device: &str) -> NetStep {
    NetStep::ReplaceRoute(plain_route(destination, via, device))
}

fn inside(path: &Path) -> bool {
    path.kind != PathKind::Outside
}

#[test]
fn every_path_between_nodes_and_pods_works_and_keeps_its_source() {
    let Some(rig) = Rig::build() else { return };
    let matrix = rig.probe(inside);
    assert_eq!(matrix.failed().count(), 0, "{matrix}");
    assert_eq!(matrix.cells.len(), 4 * 8 * 4);
}

#[test]
fn what_leaves_without_masquerade_is_seen_outside_with_the_pods_address_and_never_answered() {
    let Some(rig) = Rig::build() else { return };
    let matrix = rig.probe(|path| path.kind == PathKind::Outside);
    for cell in &matrix.cells {
        let own = rig.addresses[&cell.path.from].iter().copied();
        let seen_source = own.clone().find(|ip| Family::of(*ip) == cell.path.family).unwrap();
        let expected = match cell.path.protocol {
            Protocol::Icmp => Reason::NoAnswer { seen_source },
            Protocol::Tcp => Reason::TimedOut,
        };
        // The router may speak first: it knows no way back to the pods.
        let spoken = matches!(cell.outcome, Outcome::Failed(Reason::Unreachable { .. } | Reason::System(_)));
        assert!(spoken || cell.outcome == Outcome::Failed(expected), "{matrix}");
    }
}

#[test]
fn a_deleted_route_fails_the_paths_that_need_it_and_no_other() {
    let Some(rig) = Rig::build() else { return };
    let [a, b] = &rig.plan.nodes[..] else { panic!("two nodes") };
    let lost = plain_route(b.pod_cidrs[0], Some(b.addresses[0].addr()), "eth0");
    rig.apply(&Place::Node(a.name.clone()), &[NetStep::DeleteRoute(lost)]);
    let matrix = rig.probe(inside);
    let on = |place: &Place, node: &PlannedNode| match place {
        Place::Node(name) => *name == node.name,
        Place::Pod(pod) => node.pods.contains(pod),
        Place::Outside | Place::Bridge(_) | Place::Overlay(_) => false,
    };
    let pod_of_b = |place: &Place| matches!(place, Place::Pod(pod) if b.pods.contains(pod));
    for cell in &matrix.cells {
        let path = &cell.path;
        let crosses = (on(&path.from, a) && pod_of_b(&path.to)) || (pod_of_b(&path.from) && on(&path.to, a));
        assert_eq!(cell.fault().is_some(), crosses && path.family == Family::V4, "{path}\n{matrix}");
    }
}

#[test]
fn a_source_that_is_not_the_pods_own_is_a_failure_although_answers_come_back() {
    let Some(mut rig) = Rig::build() else { return };
    let (node, pod) = rig.plan.pods().next().map(|(node, pod)| (node.clone(), pod.clone())).unwrap();
    let place = Place::Pod(pod);
    let other: IpAddr = "10.244.0.77".parse().unwrap();
    rig.apply(&Place::Node(node.name.clone()), &[route(host_net(other), None, "pod0")]);
    let mut default = plain_route("0.0.0.0/0".parse().unwrap(), Some("169.254.1.1".parse().unwrap()), "eth0");
    default.source = Some(other);
    let disguise = [address("eth0", host_net(other), Scope::Global), NetStep::ReplaceRoute(default)];
    rig.apply(&place, &disguise);
    rig.addresses.entry(place.clone()).or_default().sort();
    let matrix = rig.probe(|path| inside(path) && path.from == place && path.to != place);
    for cell in &matrix.cells {
        let seen_source = other;
        let disguised = cell.outcome == Outcome::Reached { seen_source };
        assert_eq!(disguised, cell.path.family == Family::V4, "{matrix}");
        assert_eq!(cell.fault().is_some(), disguised, "{matrix}");
    }
}

#[test]
fn large_packets_that_are_lost_fail_the_connections_although_small_ones_get_through() {
    let Some(rig) = Rig::build() else { return };
    let (node, pod) = rig.plan.pods().next().map(|(node, pod)| (node.clone(), pod.clone())).unwrap();
    let rule = "add table inet loss; add chain inet loss in { type filter hook prerouting priority 0; }; \
                add rule inet loss in iifname pod0 meta length > 1000 drop";
    let namespace = &rig.topology.places[&Place::Node(node.name)];
    let nft = namespace.run(|| Command::new("nft").arg(rule).status()).unwrap();
    match nft {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "skipped under CI: {error}");
            return println!("skipped: no nft: {error}");
        }
    }
    let place = Place::Pod(pod);
    let matrix = rig.probe(inside);
    for cell in &matrix.cells {
        let Path { from, to, protocol, .. } = &cell.path;
        let expected = match protocol {
            Protocol::Tcp if *from == place && *to != place => Some(Reason::LargeLostThere),
            Protocol::Tcp if *to == place && *from != place => Some(Reason::LargeLostBack { after: 0 }),
            Protocol::Tcp | Protocol::Icmp => None,
        };
        let failed = match &cell.outcome {
            Outcome::Failed(reason) => Some(reason.clone()),
            Outcome::Reached { .. } => None,
        };
        assert_eq!(failed, expected, "{}\n{matrix}", cell.path);
    }
    assert!(matrix.to_string().contains("large packets are lost on the way back: nothing after 0 bytes"));
}

#[test]
fn a_place_without_an_address_fails_its_paths_and_says_so() {
    let Some(mut rig) = Rig::build() else { return };
    let pod = Place::Pod("web-0".parse().unwrap());
    rig.addresses.remove(&pod);
    let matrix = rig.probe(|path| path.to == pod);
    assert!(matrix.cells.iter().all(|cell| cell.outcome == Outcome::Failed(Reason::NoAddress)), "{matrix}");
}
