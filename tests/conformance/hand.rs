//! What a person, or another program, does to a node or a pod by hand.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Output};

use ipnet::IpNet;
use selvedge_datapath::state::{Address, ObservedNetwork, Route, RouteProtocol};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::{IfName, MacAddr, Mtu};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::skipped;

/// RTPROT_STATIC: what an administrator has set.
const STATIC: RouteProtocol = RouteProtocol(4);

/// The links, addresses and routes of a namespace.
pub(crate) fn look(namespace: &Namespace) -> ObservedNetwork {
    RouteSocket::open_in(namespace).unwrap().observe().unwrap()
}

/// Makes changes in a namespace.
pub(crate) fn change(namespace: &Namespace, steps: &[NetStep]) {
    let mut socket = RouteSocket::open_in(namespace).unwrap();
    socket.apply_until_failure(steps, Some(namespace.as_fd())).unwrap();
}

/// A step that makes a link, with a peer beside it that nobody uses.
pub(crate) fn new_link(link: &str) -> NetStep {
    NetStep::CreateVeth(VethPair {
        host: name(link),
        host_mac: MacAddr::of_device(link),
        alias: String::new(),
        master: None,
        pod: name("peer"),
        pod_mac: MacAddr::of_device("peer"),
        mtu: Mtu::ETHERNET,
    })
}

/// A step that changes a property of a link.
pub(crate) fn set(link: &str, change: LinkChange) -> NetStep {
    NetStep::SetLink { name: name(link), change }
}

/// A step that deletes a link.
pub(crate) fn delete_link(link: &str) -> NetStep {
    NetStep::DeleteLink { name: name(link) }
}

/// A step that adds an address.
pub(crate) fn add_address(link: &str, net: &str) -> NetStep {
    NetStep::AddAddress { device: name(link), address: Address::global(net.parse().unwrap()) }
}

/// A step that takes an address away.
pub(crate) fn delete_address(link: &str, net: &str) -> NetStep {
    NetStep::DeleteAddress { device: name(link), address: Address::global(net.parse().unwrap()) }
}

/// A route as an administrator sets it.
pub(crate) fn route(destination: &str, via: Option<&str>, device: &str) -> Route {
    let destination: IpNet = destination.parse().unwrap();
    let via: Option<IpAddr> = via.map(|via| via.parse().unwrap());
    Route { destination, via, device: name(device), source: None, mtu: None, onlink: false, protocol: STATIC }
}

/// Deletes the route to a destination, which must be there.
pub(crate) fn delete_route(namespace: &Namespace, destination: &str) {
    let destination: IpNet = destination.parse().unwrap();
    let routes = look(namespace).routes;
    let there = routes.into_iter().find(|route| route.destination == destination).unwrap();
    change(namespace, &[NetStep::DeleteRoute(there)]);
    assert!(look(namespace).routes.iter().all(|route| route.destination != destination), "it is still there");
}

/// Runs a program on a node; `None`, which has been said, where it is not installed.
pub(crate) fn run(node: &Namespace, program: &str, arguments: &[&str]) -> Option<Output> {
    match node.run(|| Command::new(program).args(arguments).output()).unwrap() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped(&format!("{program} is not installed"));
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Runs a program that must succeed; what it prints.
pub(crate) fn must_run(node: &Namespace, program: &str, arguments: &[&str]) -> Option<String> {
    let output = run(node, program, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An interface's name.
pub(crate) fn name(text: &str) -> IfName {
    text.parse().unwrap()
}
