//! A node with two pods and somebody outside, as namespaces.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use selvedge_datapath::state::{Address, Route, RouteProtocol, Scope, Sysctl};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::{MacAddr, Mtu};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_nft::NftSocket;
use selvedge_ruleset::matching::{IfPrefix, ct_status_dnat, fib_daddr_type, oifname_prefix, tcp_dport};
use selvedge_ruleset::rule::{dnat_map, masquerade};
use selvedge_ruleset::value::AddressType;
use selvedge_ruleset::{
    Base, Chain, ChainName, Family, Field, Hook, IpVersion, L4Proto, Listed, Scope as Whole, Set, SetName,
    Table, TableId, diff, priority, rule,
};

use super::*;
use crate::host::{Host, Paths};

/// The node's address outside.
pub(super) const NODE: &str = "192.0.2.1";
/// A port of the node's that leads to db:8080, the source rewritten.
pub(super) const NODE_PORT: u16 = 30_080;
/// A port of the node's that leads to db:8081.
pub(super) const HOST_PORT: u16 = 8081;

/// Two pods behind a node that forwards, and a client outside.
pub(super) struct Net {
    pub(super) node: Namespace,
    pub(super) web: Namespace,
    pub(super) db: Namespace,
    pub(super) client: Namespace,
    folder: PathBuf,
}

impl Net {
    /// `None`, with the reason printed, where the system allows no namespaces; under CI that is a failure.
    pub(super) fn new() -> Option<Self> {
        static NETS: AtomicU32 = AtomicU32::new(0);
        let node = match Namespace::create() {
            Ok(node) => node,
            Err(error) => {
                println!("skipped: {error}");
                assert!(env::var_os("CI").is_none(), "skipped under CI: {error:?}");
                return None;
            }
        };
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("selvedge-revoking-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [web, db, client] = [(); 3].map(|()| Namespace::create().unwrap());
        let net = Self { node, web, db, client, folder };
        net.wire();
        Some(net)
    }

    fn wire(&self) {
        let mut node = RouteSocket::open_in(&self.node).unwrap();
        let forwards = |key| NetStep::SetSysctl { key, value: "1" };
        let steps = [forwards(Sysctl::Ipv4Forward), forwards(Sysctl::Ipv6Forward), up("lo")];
        node.apply_until_failure(&steps, None).unwrap();
        for ((_, host, addresses), pod) in PODS.iter().zip([&self.web, &self.db]) {
            let routes = addresses.map(|address| NetStep::ReplaceRoute(route(&whole(address), None, host)));
            let gateway = ["169.254.1.1/32", "fe80::1/64"].map(|net| add(host, net, Scope::Link));
            let steps = [vec![pair(host)], gateway.to_vec(), vec![up(host)], routes.to_vec()].concat();
            node.apply_until_failure(&steps, Some(pod.as_fd())).unwrap();
            let own = addresses.map(|address| add("eth0", &whole(address), Scope::Global));
            let ways = [
                route("169.254.1.1/32", None, "eth0"),
                route("0.0.0.0/0", Some("169.254.1.1"), "eth0"),
                route("::/0", Some("fe80::1"), "eth0"),
            ];
            let steps = [own.to_vec(), vec![up("lo"), up("eth0")], ways.map(NetStep::ReplaceRoute).to_vec()];
            RouteSocket::open_in(pod).unwrap().apply_until_failure(&steps.concat(), None).unwrap();
        }
        let steps = [pair("uplink"), add("uplink", "192.0.2.1/24", Scope::Global), up("uplink")];
        node.apply_until_failure(&steps, Some(self.client.as_fd())).unwrap();
        let home = NetStep::ReplaceRoute(route("10.244.0.0/16", Some(NODE), "eth0"));
        let steps = [add("eth0", "192.0.2.9/24", Scope::Global), up("lo"), up("eth0"), home];
        RouteSocket::open_in(&self.client).unwrap().apply_until_failure(&steps, None).unwrap();
    }

    /// Somebody's rules that lead two of the node's ports to db; connections are tracked from then on.
    pub(super) fn publish(&self) {
        const ID: TableId = TableId::literal(Family::Inet, "published");
        const PORTS: SetName = SetName::literal("ports");
        let db: std::net::Ipv4Addr = DB.parse().unwrap();
        let ports = [(NODE_PORT, 8080_u16), (HOST_PORT, HOST_PORT)];
        let ports = Set::map(ports.map(|(port, to)| ((L4Proto::TCP, port), (db, to))));
        let dnat = dnat_map(IpVersion::V4, [Field::L4Proto, Field::ThDport], &PORTS);
        let prerouting = rule![fib_daddr_type(AddressType::Local), dnat];
        let to_pods = oifname_prefix(&IfPrefix::literal("slv"));
        let postrouting = rule![to_pods, ct_status_dnat(), tcp_dport(8080), masquerade()];
        let base = |hook, priority| Base::nat(hook, priority);
        let table = Table::new()
            .set(PORTS, ports)
            .chain(
                ChainName::literal("prerouting"),
                Chain::base(base(Hook::Prerouting, priority::DSTNAT), [prerouting]),
            )
            .chain(
                ChainName::literal("postrouting"),
                Chain::base(base(Hook::Postrouting, priority::SRCNAT), [postrouting]),
            );
        let transaction = diff(&BTreeMap::from([(ID, table)]), &Listed::new(), Whole::Whole);
        self.node.run(|| NftSocket::open().unwrap().apply(&transaction).unwrap()).unwrap();
    }

    /// The loop of an agent of this node, which the calling thread must be in.
    pub(super) fn agent(&self) -> Reconciler<Host, Decide> {
        let paths = Paths {
            network: "mynet".parse().unwrap(),
            bridge: "cni0".parse().unwrap(),
            conflist: self.folder.join("10-mynet.conflist"),
            plugin: None,
            sysctls: PathBuf::from("/proc/sys"),
            ready: self.folder.join("ready"),
            forward_accept: false,
            tunnel: None,
        };
        reconciler(Host::open(paths).unwrap())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's folder for such things.
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn whole(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
}

fn pair(host: &str) -> NetStep {
    let mac = |end: u8| MacAddr([0x0a, 0x58, host.as_bytes()[3], host.as_bytes()[4], 0, end]);
    NetStep::CreateVeth(VethPair {
        host: host.parse().unwrap(),
        host_mac: mac(1),
        alias: String::new(),
        master: None,
        pod: "eth0".parse().unwrap(),
        pod_mac: mac(2),
        mtu: Mtu::ETHERNET,
    })
}

fn up(device: &str) -> NetStep {
    NetStep::SetLink { name: device.parse().unwrap(), change: LinkChange::Up }
}

fn add(device: &str, net: &str, scope: Scope) -> NetStep {
    let address = Address { scope, ..Address::global(net.parse().unwrap()) };
    NetStep::AddAddress { device: device.parse().unwrap(), address }
}

fn route(destination: &str, via: Option<&str>, device: &str) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        via: via.map(|via| via.parse::<IpAddr>().unwrap()),
        device: device.parse().unwrap(),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(ROUTE_PROTOCOL),
    }
}
