//! The machines of the lab and the wires between them: nodes on one segment or two, a router, a host beyond it.
//!
//! ```text
//!  node-a  node-b    router ---- outside      192.0.2.0/24, 2001:db8::/64
//!     |       |      |    |
//!  ===+=======+======+==  |   segment: a bridge in a namespace of its own; 172.30.0.0/24, fd00:30::/64
//!                         |
//!  ===+===================+   segment-2, if there are two: likewise; 172.30.1.0/24, fd00:30:1::/64
//!     |
//!  node-c
//! ```
//!
//! The nodes come as a machine comes from its installer: addresses, a default route by the router, no forwarding. The
//! outside host knows the way to the nodes' segments but not to any pod: what leaves a node with a pod's address gets
//! there, and never back. With the transport `native` the router knows the way to every node's pods, as a cloud's
//! route tables do. What is to be blocked or lost is dropped in the router if there are two segments, in the bridge
//! of the segment if there is one.

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

use crate::obstacle::{self, ObstacleError, Spot};
use crate::patience::patience;
use crate::plan::{Place, Plan, PlannedNode, Segment, outside, router_towards_outside, valid};
use crate::shape::{Family, Network, Transport};

/// The namespaces of everything but the pods.
#[derive(Debug)]
pub struct Topology {
    /// Where the segments' bridges are.
    pub segments: BTreeMap<Segment, Namespace>,
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
    /// What it is not to let through.
    #[error("set up what {name} drops")]
    Obstacles {
        /// The machine.
        name: String,
        /// Why.
        source: ObstacleError,
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
        let (families, mtu) = (plan.shape.family.families(), plan.shape.network.mtu.get());
        let mut router = Machine::new("router")?;
        let mut outside_host = Machine::new("outside")?;
        let mut segments = BTreeMap::new();
        for &segment in Segment::of(&plan.shape) {
            let mut bridge = Machine::new(&segment.to_string())?;
            bridge.apply(&bridge_steps(segment, mtu))?;
            bridge.plug_in((&mut router, segment.router_link()), mtu)?;
            segments.insert(segment, bridge);
        }
        router.wire("eth1", &mut outside_host)?;
        router.apply(&router_steps(plan))?;
        outside_host.apply(&outside_steps(plan))?;
        let links: Vec<&str> = segments.keys().map(|segment| segment.router_link()).chain(["eth1"]).collect();
        router.settle(&links)?;
        let mut places = BTreeMap::from([(Place::Outside, outside_host.namespace)]);
        for node in &plan.nodes {
            let mut machine = Machine::new(node.name.as_str())?;
            if let Some(bridge) = segments.get_mut(&node.segment) {
                bridge.plug_in((&mut machine, UPLINK), mtu)?;
            }
            machine.apply(&node_steps(node, families))?;
            places.insert(Place::Node(node.name.clone()), machine.namespace);
        }
        for (segment, bridge) in &mut segments {
            let nodes = plan.nodes.iter().filter(|node| node.segment == *segment);
            let ports: Vec<&str> = nodes.map(|node| node.name.as_str()).chain(["router"]).collect();
            bridge.settle(&ports)?;
        }
        hinder(&plan.shape.network, &router, &segments)?;
        let segments = segments.into_iter().map(|(segment, bridge)| (segment, bridge.namespace)).collect();
        Ok(Self { segments, router: router.namespace, places })
    }
}

/// Sets up what gets lost: between segments if there are two, else between the nodes.
fn hinder(
    network: &Network,
    router: &Machine,
    segments: &BTreeMap<Segment, Machine>,
) -> Result<(), TopologyError> {
    let (machines, at): (Vec<&Machine>, Spot) = match segments.len() {
        1 => (segments.values().collect(), Spot::Bridge),
        _ => (vec![router], Spot::Router),
    };
    for machine in machines {
        let failed = |source| TopologyError::Obstacles { name: machine.name.clone(), source };
        obstacle::put(network, at, &machine.namespace).map_err(failed)?;
    }
    Ok(())
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
        self.veth(here, (other, UPLINK), (None, Mtu::ETHERNET))
    }

    /// A veth from the bridge here, whose port is named after the machine, to a link of the machine.
    fn plug_in(&mut self, (machine, link): (&mut Self, &str), mtu: Mtu) -> Result<(), TopologyError> {
        self.veth(&machine.name.clone(), (machine, link), (Some(name(BRIDGE)), mtu))
    }

    fn veth(
        &mut self,
        here: &str,
        (other, there): (&mut Self, &str),
        (master, mtu): (Option<IfName>, Mtu),
    ) -> Result<(), TopologyError> {
        let pair = VethPair {
            host: name(here),
            host_mac: MacAddr::of_device(&format!("{}/{here}", self.name)),
            alias: String::new(),
            master,
            pod: name(there),
            pod_mac: MacAddr::of_device(&format!("{}/{there}", other.name)),
            mtu,
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

fn bridge_steps(segment: Segment, mtu: Mtu) -> [NetStep; 2] {
    let mac = MacAddr::of_device(&segment.to_string());
    let create = NetStep::CreateBridge { name: name(BRIDGE), mac, mtu, alias: String::new() };
    [create, up(BRIDGE)]
}

fn router_steps(plan: &Plan) -> Vec<NetStep> {
    let (families, segments) = (plan.shape.family.families(), Segment::of(&plan.shape));
    let links = || segments.iter().map(|segment| segment.router_link()).chain(["eth1"]);
    // Packets with a pod's address come from where no route leads back to: they are to get through, so that the
    // outside host shows what address they had. And nobody is told of a shorter way: a cloud's router tells nobody.
    let off = |setting| {
        move |device: Option<&str>| NetStep::SetSysctl {
            key: Sysctl::Ipv4Conf(device.map(name), setting),
            value: "0",
        }
    };
    let devices = || [None].into_iter().chain(links().map(Some));
    let mut steps: Vec<NetStep> = devices().map(off("rp_filter")).collect();
    steps.extend(devices().map(off("send_redirects")));
    steps.extend(links().flat_map(|device| bring_up(device, families)));
    for &family in families {
        steps.push(forwarding(family, "1"));
        steps.extend(segments.iter().map(|s| address(s.router_link(), s.router(family))));
        steps.push(address("eth1", router_towards_outside(family)));
    }
    steps.extend(cloud_routes(plan).map(NetStep::ReplaceRoute));
    steps
}

/// The way to every node's pods, where it is for the network to know it.
fn cloud_routes(plan: &Plan) -> impl Iterator<Item = Route> {
    let nodes = plan.nodes.iter().filter(|_| plan.shape.transport == Transport::Native);
    nodes.flat_map(|node| {
        let link = node.segment.router_link();
        let gateway = |cidr: &IpNet| node.address(Family::of(cidr.addr()));
        node.pod_cidrs.iter().filter_map(move |cidr| Some(via(cidr.trunc(), gateway(cidr)?, link)))
    })
}

fn outside_steps(plan: &Plan) -> Vec<NetStep> {
    let families = plan.shape.family.families();
    let routes = |family| {
        let nets = Segment::of(&plan.shape).iter().map(move |segment| segment.router(family).trunc());
        nets.map(move |net| NetStep::ReplaceRoute(via(net, router_towards_outside(family).addr(), UPLINK)))
    };
    let configure = families.iter().flat_map(|&f| [address(UPLINK, outside(f))].into_iter().chain(routes(f)));
    bring_up(UPLINK, families).into_iter().chain(configure).collect()
}

fn node_steps(node: &PlannedNode, families: &[Family]) -> Vec<NetStep> {
    let mut steps = bring_up(UPLINK, families);
    for &net in &node.addresses {
        let family = Family::of(net.addr());
        // New namespaces may have it on from the host; a fresh machine has not.
        steps.push(forwarding(family, "0"));
        steps.push(address(UPLINK, net));
        let router = node.segment.router(family).addr();
        steps.push(NetStep::ReplaceRoute(via(everywhere(family), router, UPLINK)));
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

fn via(destination: IpNet, gateway: IpAddr, device: &str) -> Route {
    let via = Some(gateway);
    let source = None;
    Route { destination, via, device: name(device), source, mtu: None, onlink: false, protocol: STATIC }
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
