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
use selvedge_model::{AttachmentKey, Gather, IfName, Owner};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_nft::{Conntrack, NftSocket};

use crate::hostend::{self, HostEnd};
use crate::log::{Entry, Nets};
use crate::{failure, ipam, journal, node, ports, reap, shaper};

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

/// What is known of an attachment beside the links of its names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known<'a> {
    /// Nothing: what is needed is looked for.
    Nothing,
    /// Its lease and the host ends of this node, read while it is held.
    All { lease: Option<&'a Lease>, ends: &'a [(IfName, Owner)] },
}

/// What is left to be done for an attachment whose links, ports and traces were taken out.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// The addresses that it had.
    pub(crate) addresses: Vec<IpNet>,
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
    ///
    /// `unheld` is why the attachment can't be held. Then somebody may be at work on it, and the lease stays too.
    pub(crate) fn carry_out(&self, unheld: Option<CniError>, entry: &mut Entry) -> Result<(), CniError> {
        let Rest { addresses, cut_off, mut waits, failures } = self.cut_off(Known::Nothing)?;
        entry.field("addresses", Nets(&addresses));
        let free = cut_off && unheld.is_none();
        let mut failures: Vec<_> = unheld.into_iter().chain(failures).collect();
        if free {
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

    /// The same but for the lease.
    pub(crate) fn cut_off(&self, known: Known<'_>) -> Result<Rest, CniError> {
        let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
        let mut rest = Rest { cut_off: true, ..Rest::default() };
        let (end, lease) = self.locate(&mut route, known, &mut rest)?;
        // Of a host end that is gone, a call that was killed may have left the remains to be reaped.
        rest.waits = end.is_none();
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
        rest.addresses = addresses.cloned().unwrap_or_default();
        let mut traced: BTreeSet<IpAddr> = rest.addresses.iter().map(IpNet::addr).gather();
        match ports::withdraw(self.store, || self.hosts(lease.as_ref())) {
            Ok(led) => traced.extend(led),
            // A port must not lead to an address that somebody else may get.
            Err(error) => rest.fail_to_cut_off(error),
        }
        rest.waits |= end.as_ref().is_some_and(|end| end.owner.is_bridged());
        rest.failures.extend(forget_connections(&traced).err());
        let delegate = self.network.delegate;
        rest.failures.extend(delegate.and_then(|delegate| ipam::take_back(delegate, self.key).err()));
        Ok(rest)
    }

    /// Finds the host end by its names, and if that isn't all, the lease. The host end of a lease, or of a journal that
    /// is lost, is looked for among all links then: an address is free once no link bears the record of its owner.
    fn locate(
        &self,
        route: &mut RouteSocket,
        known: Known<'_>,
        rest: &mut Rest,
    ) -> Result<(Option<HostEnd>, Option<Lease>), CniError> {
        let (network, key) = (self.store.network(), self.key);
        let mut end = hostend::find(route, network, key, None)?;
        if end.as_ref().is_some_and(|end| !end.owner.addresses.is_empty()) {
            return Ok((end, None));
        }
        let lease = match known {
            Known::All { lease, .. } => lease.cloned(),
            Known::Nothing => {
                self.store.lease(key).map_err(|e| journal::failure(&e)).unwrap_or_else(|error| {
                    rest.fail_to_cut_off(error);
                    None
                })
            }
        };
        if let (None, Some(lease)) = (&end, &lease) {
            end = hostend::find(route, network, key, Some(&lease.veth))?;
        }
        if end.is_none() {
            end = match known {
                Known::All { ends, .. } => hostend::among(ends, network, key),
                Known::Nothing if lease.is_none() && self.store.has_journal() => None,
                Known::Nothing => hostend::among(&hostend::all()?, network, key),
            };
        }
        if let (Some(end), Some(lease)) = (&mut end, &lease)
            && end.owner.addresses.is_empty()
        {
            end.owner.addresses.clone_from(&lease.addresses);
        }
        Ok((end, lease))
    }

    /// The names that the host end can have had.
    fn hosts(&self, lease: Option<&Lease>) -> Vec<IfName> {
        hostend::names(self.store.network(), self.key, lease.map(|lease| &lease.veth)).collect()
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
        let hosts = match (end, lease) {
            (Some(end), None) => vec![end.name.clone()],
            _ => self.hosts(lease),
        };
        shaper::set_aside(route, hosts, (self.store.network(), self.key))
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
