//! Against the real kernel, in namespaces that each test makes.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use selvedge_datapath::state::{Address, ObservedLink, Route, RouteProtocol, Scope};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::{IfName, MacAddr, Mtu};
use selvedge_netns::Namespace;

use super::{NetlinkError, RouteSocket};

mod changes;
mod contract;
mod overlay;
mod reading;
mod reaping;
mod routes;
mod shaping;
mod tables;
mod watching;

/// A node's namespace and a pod's, with a socket in each. They go when it does, also when the test is killed.
struct Wire {
    host: RouteSocket,
    pod: RouteSocket,
    host_namespace: Namespace,
    pod_namespace: Namespace,
}

impl Wire {
    /// `None`, with the reason printed, where the system allows no namespaces; under CI that is a failure.
    fn new() -> Option<Self> {
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        let allowed = ALLOWED.get_or_init(|| match Namespace::create() {
            Ok(_) => true,
            Err(error) => {
                println!("skipped: {error}");
                assert!(std::env::var_os("CI").is_none(), "skipped under CI: {error:?}");
                false
            }
        });
        allowed.then(|| {
            let (host_namespace, pod_namespace) =
                (Namespace::create().unwrap(), Namespace::create().unwrap());
            let host = RouteSocket::open_in(&host_namespace).unwrap();
            let pod = RouteSocket::open_in(&pod_namespace).unwrap();
            Self { host, pod, host_namespace, pod_namespace }
        })
    }

    /// Applies steps on the node; all must succeed.
    fn on_host(&mut self, steps: &[NetStep]) {
        for outcome in self.host.apply(steps, Some(self.pod_namespace.as_fd())) {
            outcome.unwrap();
        }
    }

    /// Applies steps in the pod; all must succeed.
    fn in_pod(&mut self, steps: &[NetStep]) {
        for outcome in self.pod.apply(steps, None) {
            outcome.unwrap();
        }
    }

    fn host_link(&mut self, device: &str) -> ObservedLink {
        self.host.observe_link(&name(device)).unwrap().unwrap()
    }
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr([0x0a, 0x58, 10, 244, 1, last])
}

fn pair(host: &str, pod: &str) -> VethPair {
    VethPair {
        host: name(host),
        host_mac: mac(1),
        alias: format!("selvedge net c-1/{pod} 10.244.1.7/32"),
        master: None,
        pod: name(pod),
        pod_mac: mac(2),
        mtu: Mtu::new(1450).unwrap(),
    }
}

fn set(device: &str, change: LinkChange) -> NetStep {
    NetStep::SetLink { name: name(device), change }
}

fn address(net: &str) -> Address {
    Address::global(net.parse().unwrap())
}

fn link_address(net: &str) -> Address {
    Address { scope: Scope::Link, ..address(net) }
}

fn add(device: &str, address: Address) -> NetStep {
    NetStep::AddAddress { device: name(device), address }
}

fn route(destination: &str, via: Option<&str>, device: &str) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        via: via.map(|via| via.parse::<IpAddr>().unwrap()),
        device: name(device),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(ROUTE_PROTOCOL),
    }
}
