//! CHECK: the plan from what is there to what ADD made is empty.

use std::collections::BTreeMap;
use std::path::Path;

use ipnet::IpNet;
use selvedge_cni::{Check, CniError, Ipam, code};
use selvedge_datapath::attachment::{Attachment, Further};
use selvedge_datapath::state::ObservedNetwork;
use selvedge_datapath::{DesiredNetwork, Mode, PodAddress, PodRoute, Prune, Seen, plan};
use selvedge_ipam::Lease;
use selvedge_model::link::VethEnd;
use selvedge_model::{Bandwidth, MacAddr, Mtu, Owner, PodTag};
use selvedge_netlink::{NetlinkError, RouteSocket};
use selvedge_netns::Namespace;
use selvedge_nft::NftSocket;

use crate::add::{answer, mode};
use crate::node::{self, Standalone};
use crate::{failure, guard, ipam, journal, ports};

/// Fails with code 104 and names the first thing that isn't as ADD made it. Changes nothing.
pub(crate) fn check(request: &Check) -> Result<(), CniError> {
    let conf = &request.conf;
    let store = journal::store(&conf.run_dir, &conf.name);
    let lease = store.lease(&request.attachment).map_err(|e| journal::failure(&e))?;
    let lease = lease.ok_or_else(|| drifted(&format!("{} has no lease", request.attachment)))?;
    let mut attachment = attachment(request, &lease);
    refuse_another_answer(request, &attachment)?;
    attachment.bridge_netfilter = node::bridge_netfilter(conf)?;
    let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
    attachment.pod = tag(&mut route, &attachment)?;
    let wanted = attachment.host();
    let host = look(&mut route, &attachment, &wanted).map_err(|e| failure::of_netlink(&e))?;
    compare("host", &wanted, &host)?;
    let namespace = Namespace::open(Path::new(&request.netns.path)).map_err(|e| failure::of_netns(&e))?;
    let mut pod = RouteSocket::open_in(&namespace).map_err(|e| failure::of_netlink(&e))?;
    let mut inside = pod.observe().map_err(|e| failure::of_netlink(&e))?;
    // What ADD found there doesn't last; what it made of it does.
    let number = Further::table(&request.attachment.ifname);
    let table = pod.observe_table(number).map_err(|e| failure::of_netlink(&e))?;
    if !table.rules.is_empty() {
        attachment.further = Some(Further::found(conf.network.clone(), &table.rules));
        inside.tables.insert(number, table);
    }
    compare("container", &as_reported(request, attachment.pod()), &inside)?;
    check_node(request, &attachment, &mut route)?;
    check_ports(request, &attachment)?;
    match &conf.ipam {
        Ipam::BuiltIn(_) => Ok(()),
        Ipam::Delegated(delegate) => ipam::tell(delegate, "CHECK"),
    }
}

/// Which Pod it is by the record that ADD made: not every runtime says so to CHECK.
fn tag(route: &mut RouteSocket, attachment: &Attachment) -> Result<Option<PodTag>, CniError> {
    let link = route.observe_link(&attachment.host).map_err(|e| failure::of_netlink(&e))?;
    Ok(link.and_then(|link| link.alias.parse::<Owner>().ok()?.pod))
}

/// What is on the host of one attachment.
fn look(
    route: &mut RouteSocket,
    attachment: &Attachment,
    wanted: &DesiredNetwork,
) -> Result<ObservedNetwork, NetlinkError> {
    let mut host =
        ObservedNetwork { routes: route.observe_routes_of(&attachment.host)?, ..ObservedNetwork::default() };
    for name in wanted.links.keys() {
        let Some(mut link) = route.observe_link(name)? else { continue };
        if attachment.bandwidth != Bandwidth::default() {
            link.shaping = route.observe_shaping(name)?;
        }
        host.links.insert(name.clone(), link);
    }
    Ok(host)
}

/// What the result says of the attachment must be what ADD answered.
fn refuse_another_answer(request: &Check, attachment: &Attachment) -> Result<(), CniError> {
    let result = &request.prev_result;
    let mut netns = request.netns.clone();
    let named = result.sandbox_of(request.attachment.ifname.as_str());
    if let Some(named) = named.filter(|named| is_same_namespace(named, &netns.path)) {
        named.clone_into(&mut netns.path);
    }
    match result.contradiction(&answer(&request.conf, attachment, &netns)) {
        None => Ok(()),
        Some(what) => Err(drifted(&format!("prevResult of {}: {what}", request.attachment))),
    }
}

/// True if two paths lead to the same namespace: runtimes spell `/run` as `/var/run`, too.
fn is_same_namespace(one: &str, other: &str) -> bool {
    let identity = |path: &str| Namespace::open(Path::new(path)).ok().map(|namespace| namespace.identity());
    one != other && identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// The attachment as ADD made it, from its lease and the configuration.
fn attachment(request: &Check, lease: &Lease) -> Attachment {
    let conf = &request.conf;
    let reported = &request.prev_result.result().ips;
    let gateway =
        |net: &IpNet| reported.iter().find(|ip| ip.address.addr() == net.addr()).and_then(|ip| ip.gateway);
    let addresses: Vec<PodAddress> =
        lease.addresses.iter().map(|net| PodAddress { net: *net, gateway: gateway(net) }).collect();
    let first = addresses.first().map(|a| MacAddr::of_pod(a.net.addr(), VethEnd::Pod));
    let routes = match &conf.ipam {
        Ipam::BuiltIn(pools) => pools.routes.as_slice(),
        Ipam::Delegated(_) => &request.prev_result.result().routes,
    };
    Attachment {
        network: conf.name.clone(),
        key: request.attachment.clone(),
        pod: None,
        host: lease.veth.clone(),
        mode: mode(conf),
        addresses,
        mac: first.unwrap_or_else(|| MacAddr::of_device(conf.name.as_str())),
        mtu: conf.mtu.unwrap_or(Mtu::ETHERNET),
        routes: routes.iter().map(|r| PodRoute { destination: r.dst, via: r.gw }).collect(),
        node_addresses: conf.node_addresses.clone(),
        bridge_netfilter: false,
        bandwidth: conf.bandwidth,
        further: None,
    }
}

/// Plugins after ours may have changed the MAC address, as the result says, or the MTU.
fn as_reported(request: &Check, mut pod: DesiredNetwork) -> DesiredNetwork {
    let name = &request.attachment.ifname;
    let interfaces = &request.prev_result.result().interfaces;
    let ours = interfaces.iter().find(|i| i.sandbox.is_some() && i.name == name.as_str());
    if let Some(link) = pod.links.get_mut(name) {
        link.mac = ours.and_then(|i| i.mac);
        link.mtu = None;
    }
    pod
}

fn check_node(request: &Check, attachment: &Attachment, route: &mut RouteSocket) -> Result<(), CniError> {
    let bridged = matches!(attachment.mode, Mode::Bridge(_));
    if !bridged && request.conf.agent.is_some() {
        return Ok(());
    }
    let mut nft = NftSocket::open().map_err(|e| failure::of_nft(&e))?;
    if bridged && !guard::knows(&mut nft, &attachment.host, &attachment.pod_nets())? {
        return Err(drifted(&format!("the guard of bridge port {} is not whole", attachment.host)));
    }
    if request.conf.agent.is_some() {
        return Ok(());
    }
    let network = Standalone::new(&request.conf, &attachment.addresses, attachment.mtu);
    match network.drift(route, &mut nft)? {
        None => Ok(()),
        Some(what) => Err(drifted(&format!("on the host, this would have to be done: {what}"))),
    }
}

fn check_ports(request: &Check, attachment: &Attachment) -> Result<(), CniError> {
    let Some(published) = ports::publication(&request.conf, attachment) else { return Ok(()) };
    match ports::drift(&published)? {
        None => Ok(()),
        Some(what) => Err(drifted(&format!("for a published port, this would have to be done: {what}"))),
    }
}

fn compare(place: &str, desired: &DesiredNetwork, observed: &ObservedNetwork) -> Result<(), CniError> {
    let plan = plan(desired, Seen { network: observed, sysctls: &BTreeMap::new() }, Prune::Nothing);
    if let Some(missing) = plan.missing.first() {
        return Err(drifted(&format!("in the {place}, there is no link {missing}")));
    }
    match plan.steps.first() {
        None => Ok(()),
        Some(step) => Err(drifted(&format!("in the {place}, this would have to be done: {step}"))),
    }
}

fn drifted(what: &str) -> CniError {
    CniError::new(code::DRIFTED, what)
}
