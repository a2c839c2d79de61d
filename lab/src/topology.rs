//! The machines of the lab and the wires between them: nodes on a segment, a router, a host beyond it.
//!
//! ```text
//!  node-a  node-b  node-c    router ---- outside     172.30.0.0/24, fd00:30::/64   |  192.0.2.0/24, 2001:db8::/64
//!     |       |       |        |
//!  ===+=======+=======+========+===  segment (a bridge in a namespace of its own)
//! ```
//!
//! The nodes come as a machine comes from its installer: addresses, a default route by the router, no forwarding. The
//! outside host knows the way to the nodes' segment but not to any pod: what leaves a node with a pod's address gets
//! there, and never back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use selvedge_datapath::state::{Address, Route, RouteProtocol, Sysctl};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::{IfName, MacAddr, Mtu};
use selvedge_netlink::{NetlinkError, RouteSocket};
use selvedge_netns::{Namespace, NetnsError};

use crate::patience::patience;
use crate::plan::{Place, Plan, outside, router_on_segment, router_towards_outside, valid};
use crate::shape::Family;

/// The namespaces of everything but the pods.
#[derive(Debug)]
pub struct Topology {
    /// Where the segment's bridge is.
    pub segment: Namespace,
    /// The router.
    pub router: Namespace,
    /// The nodes and the outside host.
    pub places: BTreeMap<Place, Namespace>,
}

/// A machine of the lab could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Its namespace.
    #[error("make the namespace of {name}")]
    Namespace {
        /// The machine.
        name: String,
        /// Why.
        source: NetnsError,
    },
    /// Its links, addresses and routes.
    #[error("wire {name}")]
    Wire {
        /// The machine.
        name: String,
        /// Why.
        source: NetlinkError,
    },
    /// One of its links carries nothing.
    #[error("link {link} of {name} is up but carries nothing after {} s", patience(SETTLING).as_secs())]
    Dead {
        /// The machine.
        name: String,
        /// The link.
        link: IfName,
    },
}

impl Topology {
    /// Makes the namespaces of a lab and wires them.
    ///
    /// # Errors
    /// [`TopologyError`]; what was made goes with its namespaces.
    pub fn build(plan: &Plan) -> Result<Self, TopologyError> {
        let families = plan.shape.family.families();
        let mut segment = Machine::new("segment")?;
        segment.apply(&bridge())?;
        let mut router = Machine::new("router")?;
        let mut outside_host = Machine::new("outside")?;
        segment.plug_in(&mut router)?;
        router.wire("eth1", &mut outside_host)?;
        router.apply(&router_steps(families))?;
        outside_host.apply(&outside_steps(families))?;
        router.settle(&["eth0", "eth1"])?;
        let mut places = BTreeMap::from([(Place::Outside, outside_host.namespace)]);
        for node in &plan.nodes {
            let mut machine = Machine::new(node.name.as_str())?;
            segment.plug_in(&mut machine)?;
            machine.apply(&node_steps(&node.addresses, families))?;
            places.insert(Place::Node(node.name.clone()), machine.namespace);
        }
        let ports: Vec<&str> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
        segment.settle(&ports)?;
        segment.settle(&["router"])?;
        Ok(Self { segment: segment.namespace, router: router.namespace, places })
    }
}

/// A namespace under construction.
struct Machine {
    name: String,
    namespace: Namespace,
    socket: RouteSocket,
}

impl Machine {
    fn new(name: &str) -> Result<Self, TopologyError> {
        let failed = |source| TopologyError::Namespace { name: name.to_owned(), source };
        let namespace = Namespace::create().map_err(failed)?;
        let opened = RouteSocket::open_in(&namespace);
        let socket = opened.map_err(|source| TopologyError::Wire { name: name.to_owned(), source })?;
        let mut machine = Self { name: name.to_owned(), namespace, socket };
        machine.apply(&[up("lo")])?;
        Ok(machine)
    }

    fn apply(&mut self, steps: &[NetStep]) -> Result<(), TopologyError> {
        self.apply_with(steps, None)
    }

    fn apply_with(&mut self, steps: &[NetStep], peer: Option<&Namespace>) -> Result<(), TopologyError> {
        let applied = self.socket.apply_until_failure(steps, peer.map(AsFd::as_fd));
        applied.map_err(|source| TopologyError::Wire { name: self.name.clone(), source })
    }

    /// Waits until links carry packets. The end of a veth that was up first drops them until the kernel has noticed, at
    /// its leisure, that the other is up too; on a machine that is taking namespaces down that may be a second.
    fn settle(&mut self, links: &[&str]) -> Result<(), TopologyError> {
        let deadline = Instant::now() + patience(SETTLING);
        for link in links.iter().map(|link| name(link)) {
            let failed = |source| TopologyError::Wire { name: self.name.clone(), source };
            while !self.socket.observe_link(&link).map_err(failed)?.is_some_and(|link| link.running) {
                if Instant::now() > deadline {
                    return Err(TopologyError::Dead { name: self.name.clone(), link });
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// A veth from here to the other machine's eth0, this end up.
    fn wire(&mut self, here: &str, other: &mut Self) -> Result<(), TopologyError> {
        self.veth(here, other, None)
    }

    /// A veth from the bridge here, whose port is named after the machine, to the machine's eth0.
    fn plug_in(&mut self, machine: &mut Self) -> Result<(), TopologyError> {
        self.veth(&machine.name.clone(), machine, Some(name(BRIDGE)))
    }

    fn veth(&mut self, here: &str, other: &mut Self, master: Option<IfName>) -> Result<(), TopologyError> {
        let pair = VethPair {
            host: name(here),
            host_mac: MacAddr::of_device(&format!("{}/{here}", self.name)),
            alias: String::new(),
            master,
            pod: name(UPLINK),
            pod_mac: MacAddr::of_device(&format!("{}/{UPLINK}", other.name)),
            mtu: Mtu::ETHERNET,
        };
        self.apply_with(&[NetStep::CreateVeth(pair), up(here)], Some(&other.namespace))
    }
}

/// How long links may take until they carry packets.
const SETTLING: Duration = Duration::from_secs(10);

const BRIDGE: &str = "segment";
const UPLINK: &str = "eth0";

/// RTPROT_STATIC: what an administrator has set.
const STATIC: RouteProtocol = RouteProtocol(4);

fn bridge() -> [NetStep; 2] {
    let mac = MacAddr::of_device(BRIDGE);
    let create = NetStep::CreateBridge { name: name(BRIDGE), mac, mtu: Mtu::ETHERNET, alias: String::new() };
    [create, up(BRIDGE)]
}

fn router_steps(families: &[Family]) -> Vec<NetStep> {
    // Packets with a pod's address come from where no route leads back to: they are to get through, so that the
    // outside host shows what address they had.
    let filters =
        [None, Some("eth0"), Some("eth1")].map(|device| Sysctl::Ipv4Conf(device.map(name), "rp_filter"));
    let mut steps: Vec<NetStep> =
        filters.into_iter().map(|key| NetStep::SetSysctl { key, value: "0" }).collect();
    steps.extend(["eth0", "eth1"].map(|device| bring_up(device, families)).concat());
    for &family in families {
        steps.push(forwarding(family, "1"));
        steps.push(address("eth0", router_on_segment(family)));
        steps.push(address("eth1", router_towards_outside(family)));
    }
    steps
}

fn outside_steps(families: &[Family]) -> Vec<NetStep> {
    let route = |family| {
        let segment = router_on_segment(family).trunc();
        NetStep::ReplaceRoute(via(segment, router_towards_outside(family).addr()))
    };
    let configure = families.iter().flat_map(|&family| [address(UPLINK, outside(family)), route(family)]);
    bring_up(UPLINK, families).into_iter().chain(configure).collect()
}

fn node_steps(addresses: &[IpNet], families: &[Family]) -> Vec<NetStep> {
    let mut steps = bring_up(UPLINK, families);
    for &net in addresses {
        let family = Family::of(net.addr());
        // New namespaces may have it on from the host; a fresh machine has not.
        steps.push(forwarding(family, "0"));
        steps.push(address(UPLINK, net));
        steps.push(NetStep::ReplaceRoute(via(everywhere(family), router_on_segment(family).addr())));
    }
    steps
}

fn forwarding(family: Family, value: &'static str) -> NetStep {
    let key = match family {
        Family::V4 => Sysctl::Ipv4Forward,
        Family::V6 => Sysctl::Ipv6Forward,
    };
    NetStep::SetSysctl { key, value }
}

fn address(device: &str, net: IpNet) -> NetStep {
    NetStep::AddAddress { device: name(device), address: Address::global(net) }
}

fn via(destination: IpNet, gateway: IpAddr) -> Route {
    let via = Some(gateway);
    Route { destination, via, device: name(UPLINK), source: None, mtu: None, onlink: false, protocol: STATIC }
}

fn everywhere(family: Family) -> IpNet {
    let any: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    valid(IpNet::new(any, 0))
}

/// The link up, with a link-local address that is good at once: before duplicate address detection is through, which
/// takes a second and more, an IPv6 forwarder can't ask for its neighbours.
fn bring_up(device: &str, families: &[Family]) -> Vec<NetStep> {
    let key = Sysctl::Ipv6Conf(Some(name(device)), "accept_dad");
    let no_dad = families.contains(&Family::V6).then_some(NetStep::SetSysctl { key, value: "0" });
    no_dad.into_iter().chain([up(device)]).collect()
}

fn up(link: &str) -> NetStep {
    NetStep::SetLink { name: name(link), change: LinkChange::Up }
}

fn name(text: &str) -> IfName {
    valid(text.parse())
}
