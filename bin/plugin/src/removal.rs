//! Taking one attachment out of the kernel: what DEL, GC and a failed ADD have in common.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use selvedge_cni::{CniError, Delegate, Ipam, NetConf, RemovalConf};
use selvedge_datapath::attachment::Further;
use selvedge_datapath::state::LinkKind;
use selvedge_datapath::step::NetStep;
use selvedge_ipam::Lease;
use selvedge_leases::Store;
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::names::HOST_VETH_PREFIX;
use selvedge_model::{AttachmentKey, Bandwidth, Gather, IfName, NetworkName, Owner, host_veth_name};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_nft::{Conntrack, NftSocket};

use crate::log::{Entry, Nets};
use crate::{failure, ipam, journal, node, ports, reap, shaper};

/// How often another name is tried for a host end whose name a foreign link has.
const SALTS: u8 = 16;

/// A host end that bears an attachment's owner record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostEnd {
    /// The link.
    pub(crate) name: IfName,
    /// Its record.
    pub(crate) owner: Owner,
}

/// Finds an attachment's host end by the names that it can have; `recorded` is the one that the journal has.
pub(crate) fn find(
    route: &mut RouteSocket,
    network: &NetworkName,
    key: &AttachmentKey,
    recorded: Option<&IfName>,
) -> Result<Option<HostEnd>, CniError> {
    for name in names(network, key, recorded) {
        match holder(route, &name, (network, key))? {
            Holder::This(owner) => return Ok(Some(HostEnd { name, owner })),
            Holder::Nobody if Some(&name) != recorded => break,
            Holder::Nobody | Holder::Another => {}
        }
    }
    Ok(None)
}

/// The names that an attachment's host end can have; `recorded` is the one that the journal has.
fn names(
    network: &NetworkName,
    key: &AttachmentKey,
    recorded: Option<&IfName>,
) -> impl Iterator<Item = IfName> {
    let possible = (0..=SALTS).map(move |salt| host_veth_name(network, key, salt));
    recorded.into_iter().cloned().chain(possible)
}

/// The first name for a new host end that nobody else's link has, nor the shaper's that goes with it. A link of the same attachment's without a lease is
/// a leftover, and goes; with one, the attachment lives and the call fails.
pub(crate) fn free_name(
    route: &mut RouteSocket,
    store: &Store,
    (key, bandwidth): (&AttachmentKey, &Bandwidth),
    entry: &mut Entry,
) -> Result<IfName, CniError> {
    let network = store.network();
    for salt in 0..SALTS {
        let name = host_veth_name(network, key, salt);
        match holder(route, &name, (network, key))? {
            Holder::Nobody => {}
            Holder::This(_) => {
                journal::refuse_leased(store, key, entry)?;
                let stale = NetStep::DeleteLink { name: name.clone() };
                route.apply_until_failure(&[stale], None).map_err(|e| failure::of_netlink(&e))?;
            }
            Holder::Another => continue,
        }
        if bandwidth.egress.is_none() || shaper::make_room(route, &name, (network, key))? {
            return Ok(name);
        }
    }
    Ok(host_veth_name(network, key, SALTS))
}

/// Whose link has a name.
enum Holder {
    Nobody,
    This(Owner),
    Another,
}

fn holder(
    route: &mut RouteSocket,
    name: &IfName,
    (network, key): (&NetworkName, &AttachmentKey),
) -> Result<Holder, CniError> {
    let link = route.observe_link(name).map_err(|e| failure::of_netlink(&e))?;
    let Some(link) = link else { return Ok(Holder::Nobody) };
    if link.kind != LinkKind::Veth || link.group == REAP_GROUP {
        return Ok(Holder::Another);
    }
    // The kernel takes the record only once the pair is made: an ADD killed in between leaves a veth without one, but
    // with the name that only this attachment's has.
    if link.alias.is_empty() && name.as_str().starts_with(HOST_VETH_PREFIX) {
        return Ok(Holder::This(Owner::new(network.clone(), key, Vec::new())));
    }
    Ok(match link.alias.parse::<Owner>() {
        Ok(owner) if owner.network == *network && owner.key == key.recorded() => Holder::This(owner),
        Ok(_) | Err(_) => Holder::Another,
    })
}

/// The network that an attachment is taken out of, as far as that matters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network<'a> {
    /// Where the state lives.
    pub(crate) run_dir: &'a Path,
    /// The agent's socket; none means that the network's rules go with its last pod.
    pub(crate) agent: Option<&'a Path>,
    /// The plugin that the addresses came from.
    pub(crate) delegate: Option<&'a Delegate>,
}

impl<'a> From<&'a NetConf> for Network<'a> {
    fn from(conf: &'a NetConf) -> Self {
        let delegate = match &conf.ipam {
            Ipam::BuiltIn(_) => None,
            Ipam::Delegated(delegate) => Some(delegate),
        };
        Self { run_dir: &conf.run_dir, agent: conf.agent.as_deref(), delegate }
    }
}

impl<'a> From<&'a RemovalConf> for Network<'a> {
    fn from(conf: &'a RemovalConf) -> Self {
        Self { run_dir: &conf.run_dir, agent: conf.agent.as_deref(), delegate: conf.delegate.as_ref() }
    }
}

/// One attachment to be taken out. The caller holds its guard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Removal<'a> {
    /// Its network.
    pub(crate) network: Network<'a>,
    /// The network's leases.
    pub(crate) store: &'a Store,
    /// The attachment.
    pub(crate) key: &'a AttachmentKey,
    /// The pod's namespace, if the runtime names one.
    pub(crate) netns: Option<&'a str>,
    /// Whether its addresses can have been seen by anybody, so that they must rest.
    pub(crate) used: bool,
}

/// What is left to be done for an attachment whose links, ports and traces were taken out.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// It is cut off, and its lease can be freed.
    pub(crate) cut_off: bool,
    /// Something waits for the reaper.
    pub(crate) waits: bool,
    /// What could not be done.
    pub(crate) failures: Vec<CniError>,
}

impl Removal<'_> {
    /// Takes the attachment out: links, rules, tracked connections, the delegate's addresses, and last the lease. A
    /// part that fails keeps no other from being removed, but for the lease, which stays while the host end does.
    pub(crate) fn carry_out(&self, entry: &mut Entry) -> Result<(), CniError> {
        let lease = || self.store.lease(self.key).map_err(|e| journal::failure(&e));
        let Rest { cut_off, mut waits, mut failures } = self.cut_off(lease, entry)?;
        if cut_off {
            match release(self.network, self.store, (&[self.key], self.used), entry) {
                Ok(dismantled) => waits |= dismantled,
                Err(error) => failures.push(error),
            }
        }
        if waits {
            failures.extend(reap::reap(self.network.run_dir, self.network.agent).err());
        }
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// The same but for the lease, which is asked for only if the kernel has no host end.
    pub(crate) fn cut_off(
        &self,
        lease: impl FnOnce() -> Result<Option<Lease>, CniError>,
        entry: &mut Entry,
    ) -> Result<Rest, CniError> {
        let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
        let mut end = find(&mut route, self.store.network(), self.key, None)?;
        let lease = if end.is_some() { None } else { lease()? };
        if let Some(lease) = &lease {
            end = find(&mut route, self.store.network(), self.key, Some(&lease.veth))?;
        }
        // Of a host end that is gone, a call that was killed may have left the remains to be reaped.
        let mut rest = Rest { cut_off: true, waits: end.is_none(), failures: Vec::new() };
        if let Some(end) = &end {
            match self.detach(&mut route, end) {
                Ok(aside) => rest.waits = aside,
                Err(error) => rest.fail_to_cut_off(error),
            }
        }
        match self.set_shaper_aside(&mut route, end.as_ref(), lease.as_ref()) {
            Ok(aside) => rest.waits |= aside,
            Err(error) => rest.failures.push(error),
        }
        let addresses = end.as_ref().map(|end| &end.owner.addresses);
        let addresses = addresses.or_else(|| lease.as_ref().map(|lease| &lease.addresses));
        let addresses = addresses.cloned().unwrap_or_default();
        let mut traced: BTreeSet<IpAddr> = addresses.iter().map(IpNet::addr).gather();
        match ports::withdraw(self.store, || self.hosts(lease.as_ref())) {
            Ok(led) => traced.extend(led),
            // A port must not lead to an address that somebody else may get.
            Err(error) => rest.fail_to_cut_off(error),
        }
        entry.field("addresses", Nets(&addresses));
        rest.waits |= end.as_ref().is_some_and(|end| end.owner.is_bridged());
        rest.failures.extend(forget_connections(&traced).err());
        let delegate = self.network.delegate;
        rest.failures.extend(delegate.and_then(|delegate| ipam::take_back(delegate, self.key).err()));
        Ok(rest)
    }

    /// The names that the host end can have had.
    fn hosts(&self, lease: Option<&Lease>) -> Vec<IfName> {
        names(self.store.network(), self.key, lease.map(|lease| &lease.veth)).collect()
    }

    /// Cuts the pod off. Once its end is set aside, the host end is too, for the reaper: while the host end is in its
    /// place, another DEL finds the pair. A pod's end that cannot be set aside must not stay until somebody reaps: the
    /// pair is deleted on the spot. True if something waits for the reaper.
    fn detach(&self, route: &mut RouteSocket, end: &HostEnd) -> Result<bool, CniError> {
        let namespace = self.netns.and_then(|path| Namespace::open(Path::new(path)).ok());
        if namespace.is_some_and(|namespace| strip_pod(&namespace, end).unwrap_or(false)) {
            return route.detach(&end.name).map(|_| true).map_err(|e| failure::of_netlink(&e));
        }
        let delete = NetStep::DeleteLink { name: end.name.clone() };
        route.apply_until_failure(&[delete], None).map(|()| false).map_err(|e| failure::of_netlink(&e))
    }

    /// Sets aside what held the pod up, after the host end that leads there. With a namespace that ended the host end
    /// went, and its name is not known for sure.
    fn set_shaper_aside(
        &self,
        route: &mut RouteSocket,
        end: Option<&HostEnd>,
        lease: Option<&Lease>,
    ) -> Result<bool, CniError> {
        let network = self.store.network();
        let hosts: Vec<IfName> = match end {
            Some(end) => vec![end.name.clone()],
            None => {
                let salted = (0..SALTS).map(|salt| host_veth_name(network, self.key, salt));
                lease.map(|lease| lease.veth.clone()).into_iter().chain(salted).collect()
            }
        };
        shaper::set_aside(route, hosts, (network, self.key))
    }
}

impl Rest {
    fn fail_to_cut_off(&mut self, error: CniError) {
        self.cut_off = false;
        self.failures.push(error);
    }
}

/// Frees leases, of which the addresses rest if anybody can have seen them. Once a network has none, its rules and its
/// bridge go too, also those that a call that was killed has left. True if they did.
pub(crate) fn release(
    network: Network<'_>,
    store: &Store,
    (keys, used): (&[&AttachmentKey], bool),
    entry: &mut Entry,
) -> Result<bool, CniError> {
    if !store.exists().map_err(|e| journal::failure(&e))? {
        return Ok(false);
    }
    let mut locked = journal::lock(store, entry)?;
    for key in keys {
        let freed = if used { locked.release(key) } else { locked.undo(key) };
        freed.map_err(|e| journal::failure(&e))?;
    }
    if network.agent.is_some() || !locked.is_empty() {
        return Ok(false);
    }
    let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
    let mut nft = NftSocket::open().map_err(|e| failure::of_nft(&e))?;
    node::dismantle(network.run_dir, store.network(), (&mut route, &mut nft)).map(|()| true)
}

/// Removes the connections that the kernel tracks for the pod.
fn forget_connections(addresses: &BTreeSet<IpAddr>) -> Result<(), CniError> {
    if addresses.is_empty() {
        return Ok(());
    }
    let mut conntrack = Conntrack::open().map_err(|e| failure::of_nft(&e))?;
    addresses.iter().try_for_each(|ip| conntrack.flush_address(*ip).map_err(|e| failure::of_nft(&e)))
}

/// Sets the pod's end aside, if the interface of that name is ours: a veth with one of the owner's addresses. The
/// namespace that DEL names may by now be another container's. False if it is not.
fn strip_pod(namespace: &Namespace, end: &HostEnd) -> Result<bool, CniError> {
    let mut pod = RouteSocket::open_in(namespace).map_err(|e| failure::of_netlink(&e))?;
    let name = &end.owner.key.ifname;
    let link = pod.observe_link(name).map_err(|e| failure::of_netlink(&e))?;
    let has = |net: &IpNet| link.iter().flat_map(|link| &link.addresses).any(|a| a.net.addr() == net.addr());
    let ours = link.as_ref().is_some_and(|link| link.kind == LinkKind::Veth);
    if !ours || !end.owner.addresses.iter().any(has) {
        return Ok(false);
    }
    // Routes go with the link, rules don't; and while the link is there, they are found.
    let table = Further::table(name);
    let rules = pod.observe_rules(table).map_err(|e| failure::of_netlink(&e))?;
    let delete: Vec<_> = rules.into_iter().map(|rule| NetStep::DeleteRule { table, rule }).collect();
    pod.apply_until_failure(&delete, None).map_err(|e| failure::of_netlink(&e))?;
    pod.detach(name).map(|aside| aside.is_some()).map_err(|e| failure::of_netlink(&e))
}
