//! The namespaces of two nodes, their pods and somebody outside, and the wires between them.
//!
//! ```text
//!  pods --- node-1   node-2 --- pods     outside      172.30.0.0/24, fd00:30::/64
//!              |        |           |
//!           ===+========+===========+===  segment (a bridge in a namespace of its own)
//! ```
//!
//! Made once for many clusters. Nobody here answers: a packet that nobody answers is the first of its conversation
//! however often it is sent, so that no cluster sees what connection tracking remembers of the one before.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use ipnet::IpNet;
use selvedge_datapath::state::{Address, Port, Route, RouteProtocol, Scope};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::{IfName, MacAddr, Mtu};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::Stage;

use crate::post::{Hears, Post};

/// How many pods a node has room for.
pub(crate) const SEATS: usize = 9;

/// Somebody outside, in both families: by this address nodes send what is nobody's.
const OUTSIDE: [&str; 2] = ["172.30.0.254", "fd00:30::fe"];

/// The address of a Service on each node that leads a pod to itself.
pub(crate) const MIRROR: [&str; 2] = ["10.96.0.1", "fd00:96::1"];

const UPLINK: &str = "eth0";
const GATEWAY: [&str; 2] = ["169.254.1.1", "fe80::1"];

/// How pods are attached to their node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attach {
    /// Each by its own host end.
    Routed,
    /// To a bridge, at which the node's hooks see all of them, by isolated ports.
    Bridged,
    /// The same where bridged packets pass the IP hooks: what those send on goes from port to port.
    BridgedAcrossHooks,
}

/// The bridge of a node where pods are at one.
pub(crate) const BRIDGE: &str = "cni0";

/// A namespace, its links, and who listens in it.
pub(crate) struct Place {
    pub(crate) namespace: Namespace,
    pub(crate) routes: RouteSocket,
    pub(crate) post: Post,
}

/// A node, and room for its pods.
pub(crate) struct NodePlace {
    /// Its addresses, IPv4 first.
    pub(crate) addresses: [IpAddr; 2],
    pub(crate) place: Place,
    pub(crate) seats: Vec<Seat>,
}

/// A namespace for a pod, wired to its node, without addresses yet.
pub(crate) struct Seat {
    /// The interface by which the node's hooks see it.
    pub(crate) interface: IfName,
    pub(crate) place: Place,
}

/// All of it.
pub(crate) struct Ground {
    _stage: Stage,
    _segment: Place,
    pub(crate) outside: Place,
    pub(crate) nodes: Vec<NodePlace>,
    pub(crate) attach: Attach,
}

impl Ground {
    /// Makes and wires the namespaces; `None` if this user may not, which has been said.
    pub(crate) fn new(attach: Attach) -> Option<Self> {
        let stage = Stage::new()?;
        let mut segment = Place::new(Hears::AtItsLinks);
        segment.apply(&bridge("segment"));
        let mut outside = Place::new(Hears::AtItsLinks);
        segment.wire("outside", Some("segment"), &mut outside);
        outside.apply(&[up(UPLINK)]);
        outside.apply(&OUTSIDE.map(|own| address(UPLINK, own, on_segment(own.parse().unwrap()))));
        outside.nft(MUTE);
        let nodes = [1, 2].map(|number| NodePlace::new(number, &mut segment, attach));
        Some(Self { _stage: stage, _segment: segment, outside, nodes: nodes.into(), attach })
    }
}

impl NodePlace {
    fn new(number: u16, segment: &mut Place, attach: Attach) -> Self {
        let mut place = Place::new(Hears::BehindItsHooks);
        segment.wire(&format!("node-{number}"), Some("segment"), &mut place);
        let own = [format!("172.30.0.{number}"), format!("fd00:30::{number}")];
        place.apply(&[up(UPLINK)]);
        place.apply(&own.each_ref().map(|own| address(UPLINK, own, on_segment(own.parse().unwrap()))));
        place.apply(&OUTSIDE.map(|gateway| {
            NetStep::ReplaceRoute(route(everywhere(gateway.parse().unwrap()), Some(gateway), UPLINK))
        }));
        // What bears a node's own address and comes from elsewhere is for the rules to judge.
        place.sysctls(&[
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/accept_local", "1"),
        ]);
        place.nft(MUTE_NODE);
        place.nft(&mirror());
        if attach != Attach::Routed {
            place.sysctls_of_bridges(if attach == Attach::Bridged { "0" } else { "1" });
            place.apply(&bridge(BRIDGE));
            place.apply(&gateways(BRIDGE));
        }
        let host_end = |seat| format!("slv-{number}-{seat}");
        let seats = (0..SEATS).map(|seat| Seat::new(&host_end(seat), &mut place, attach)).collect();
        Self { addresses: own.map(|own| own.parse().unwrap()), place, seats }
    }
}

impl Seat {
    /// As the plugin wires a pod.
    fn new(host_end: &str, node: &mut Place, attach: Attach) -> Self {
        let mut place = Place::new(Hears::AtItsLinks);
        let interface = match attach {
            Attach::Routed => {
                node.wire(host_end, None, &mut place);
                node.apply(&gateways(host_end));
                host_end
            }
            Attach::Bridged | Attach::BridgedAcrossHooks => {
                node.wire(host_end, Some(BRIDGE), &mut place);
                let isolated = attach == Attach::Bridged;
                let port = LinkChange::Port(Port { isolated, hairpin: !isolated });
                node.apply(&[NetStep::SetLink { name: name(host_end), change: port }]);
                BRIDGE
            }
        };
        place.apply(&[up(UPLINK)]);
        place.nft(MUTE);
        Self { interface: name(interface), place }
    }

    /// Gives the pod an address. Its routes come with it: the kernel takes those away with the last IPv4 address.
    pub(crate) fn give(&mut self, own: IpAddr) {
        let gateway = GATEWAY[usize::from(own.is_ipv6())];
        let to_gateway = route(IpNet::from(gateway.parse::<IpAddr>().unwrap()), None, UPLINK);
        let to_all = route(everywhere(own), Some(gateway), UPLINK);
        let address = Address::global(IpNet::from(own));
        self.place.apply(&[NetStep::AddAddress { device: name(UPLINK), address }]);
        self.place.apply(&[to_gateway, to_all].map(NetStep::ReplaceRoute));
    }

    /// Takes an address from the pod.
    pub(crate) fn take(&mut self, own: IpAddr) {
        let address = Address::global(IpNet::from(own));
        self.place.apply(&[NetStep::DeleteAddress { device: name(UPLINK), address }]);
    }
}

impl Place {
    fn new(hears: Hears) -> Self {
        let namespace = Namespace::create().unwrap();
        let routes = RouteSocket::open_in(&namespace).unwrap();
        let post = Post::open(&namespace, hears);
        let mut place = Self { namespace, routes, post };
        // Before there are links, which take after `default`. New namespaces may have any of these from the host.
        place.sysctls(&[
            ("ipv4/ip_forward", "0"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/disable_ipv6", "0"),
        ]);
        place.apply(&[up("lo")]);
        place
    }

    /// A veth from here to the other's eth0, this end up.
    fn wire(&mut self, here: &str, master: Option<&str>, other: &mut Self) {
        let pair = VethPair {
            host: name(here),
            host_mac: MacAddr::of_device(&format!("{here}/here")),
            alias: String::new(),
            master: master.map(name),
            pod: name(UPLINK),
            pod_mac: MacAddr::of_device(&format!("{here}/there")),
            mtu: Mtu::ETHERNET,
        };
        let steps = [NetStep::CreateVeth(pair), up(here)];
        self.routes.apply_until_failure(&steps, Some(other.namespace.as_fd())).unwrap();
    }

    pub(crate) fn apply(&mut self, steps: &[NetStep]) {
        self.routes.apply_until_failure(steps, None).unwrap();
    }

    /// Writes sysctls below `net`.
    fn sysctls(&self, values: &[(&str, &str)]) {
        let write = |(key, value): &(&str, &str)| fs::write(format!("/proc/sys/net/{key}"), value);
        self.namespace.run(|| values.iter().try_for_each(write)).unwrap().unwrap();
    }

    /// Has bridged packets pass the IP hooks, or not, where this kernel can have them do so at all.
    fn sysctls_of_bridges(&self, value: &str) {
        let is_there = self.namespace.run(|| fs::exists("/proc/sys/net/bridge/bridge-nf-call-iptables"));
        if is_there.unwrap().unwrap() {
            let families = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"];
            self.sysctls(&families.map(|key| (key, value)));
        }
    }

    /// Forgets who has which address at the bridge: pods there get others' addresses, and the link stays up.
    pub(crate) fn forget_neighbours(&self) {
        let flush = |family: &str| {
            let mut ip = Command::new("ip");
            // It may say that some are left: those that nobody has found yet, which will be looked for.
            ip.args([family, "neighbour", "flush", "dev", BRIDGE]).stderr(Stdio::null()).status().unwrap();
        };
        self.namespace.run(|| ["-4", "-6"].map(flush)).unwrap();
    }

    /// Has `nft` load rules of the ground's own.
    fn nft(&self, rules: &str) {
        let load = || {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            nft.wait().unwrap()
        };
        assert!(self.namespace.run(load).unwrap().success(), "{rules}");
    }
}

/// Nothing is answered by pods and by the outside; what arrives at their links is heard before that.
const MUTE: &str = "table inet mute {
    chain input {
        type filter hook input priority 0
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        drop
    }
}";

/// What a node would answer goes nowhere, not even through connection tracking.
const MUTE_NODE: &str = "table inet mute {
    chain output {
        type filter hook output priority raw
        tcp flags rst drop
        icmp type { echo-reply, destination-unreachable } drop
        icmpv6 type { echo-reply, destination-unreachable } drop
    }
}";

/// A Service whose only backend is whoever asks, as a proxy writes it. Of the pods, it knows every address.
fn mirror() -> String {
    let (mut v4, mut v6) = (String::new(), String::new());
    for (node, number) in [1, 2].into_iter().flat_map(|node| (0..256).map(move |number| (node, number))) {
        write!(v4, "10.244.{node}.{number} : 10.244.{node}.{number}, ").unwrap();
        write!(v6, "fd00:244:{node}::{number:x} : fd00:244:{node}::{number:x}, ").unwrap();
    }
    let [to4, to6] = MIRROR;
    format!(
        "table inet mirror {{
            chain prerouting {{
                type nat hook prerouting priority dstnat
                ip daddr {to4} dnat ip to ip saddr map {{ {v4} }}
                ip6 daddr {to6} dnat ip6 to ip6 saddr map {{ {v6} }}
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat
                ct status dnat masquerade
            }}
        }}"
    )
}

pub(crate) fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn bridge(text: &str) -> [NetStep; 2] {
    let (mac, alias) = (MacAddr::of_device(text), String::new());
    [NetStep::CreateBridge { name: name(text), mac, mtu: Mtu::ETHERNET, alias }, up(text)]
}

/// The addresses at which a node answers for every destination of its pods'.
fn gateways(device: &str) -> [NetStep; 2] {
    let address = |own: &str, length| {
        let net = IpNet::new(own.parse().unwrap(), length).unwrap();
        let address = Address { scope: Scope::Link, ..Address::global(net) };
        NetStep::AddAddress { device: name(device), address }
    };
    [address(GATEWAY[0], 32), address(GATEWAY[1], 64)]
}

fn up(link: &str) -> NetStep {
    NetStep::SetLink { name: name(link), change: LinkChange::Up }
}

fn address(device: &str, own: &str, length: u8) -> NetStep {
    let net = IpNet::new(own.parse().unwrap(), length).unwrap();
    NetStep::AddAddress { device: name(device), address: Address::global(net) }
}

/// A route as an administrator sets it.
pub(crate) fn route(destination: IpNet, via: Option<&str>, device: &str) -> Route {
    let via = via.map(|via| via.parse().unwrap());
    Route {
        destination,
        via,
        device: name(device),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(4),
    }
}

fn on_segment(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

fn everywhere(like: IpAddr) -> IpNet {
    if like.is_ipv4() { "0.0.0.0/0".parse().unwrap() } else { "::/0".parse().unwrap() }
}
