//! GC: DEL for every attachment of the network that the runtime doesn't call valid.

use std::collections::BTreeSet;

use ipnet::IpNet;
use selvedge_cni::{CniError, Gc, ValidAttachments};
use selvedge_ipam::Lease;
use selvedge_leases::{AttachmentGuard, Store};
use selvedge_model::{AttachmentKey, Gather, IfName, Owner};
use selvedge_netlink::RouteSocket;

use crate::log::{Entry, Nets};
use crate::removal::{self, Known, Network, Removal};
use crate::{failure, hostend, ipam, journal, ports, reap};

/// How many attachments are held at once: each is an open file, and whoever wants one of them waits.
const AT_ONCE: usize = 64;

/// Removes what belongs to no valid attachment; goes on after failures and reports the first.
pub(crate) fn gc(request: &Gc, entry: &mut Entry) -> Result<(), CniError> {
    let conf = &request.conf;
    let store = journal::store(&conf.run_dir, &conf.name);
    let mut collector =
        Collector { request, store: &store, removed: 0, addresses: Vec::new(), failures: Vec::new() };
    for keys in known(&store)?.chunks(AT_ONCE) {
        let failed = collector.collect(keys, entry).err();
        collector.failures.extend(failed);
    }
    entry.field("removed", collector.removed);
    entry.field("addresses", Nets(&collector.addresses));
    let mut failures = collector.failures;
    failures.extend(ports::sweep(&conf.run_dir).err());
    failures.extend(store.forget_idle_attachments().map_err(|e| journal::failure(&e)).err());
    // What a call that was killed has set aside belongs to nobody who could be found.
    failures.extend(reap::reap(&conf.run_dir, conf.agent.as_deref()).err());
    failures.extend(conf.delegate.as_ref().and_then(|delegate| ipam::tell(delegate, "GC").err()));
    let count = failures.len();
    let Some(first) = failures.into_iter().next() else { return Ok(()) };
    Err(if count == 1 { first } else { first.context(&format!("{count} failures, the first")) })
}

/// Every attachment of the network that the journal or the kernel knows.
fn known(store: &Store) -> Result<Vec<AttachmentKey>, CniError> {
    let leases = store.read().map_err(|e| journal::failure(&e))?;
    let ours = hostend::all()?.into_iter().filter(|(_, owner)| owner.network == *store.network());
    let shaped = store.shaped().map_err(|e| journal::failure(&e))?;
    let leased = leases.leases().keys().cloned();
    let all: BTreeSet<AttachmentKey> = leased.chain(ours.map(|(_, owner)| owner.key)).chain(shaped).gather();
    Ok(all.into_iter().collect())
}

/// A GC under way.
struct Collector<'a> {
    request: &'a Gc,
    store: &'a Store,
    removed: usize,
    addresses: Vec<IpNet>,
    failures: Vec<CniError>,
}

impl Collector<'_> {
    /// Removes those of some attachments that aren't valid. The leases are read once for all of them, and freed at once:
    /// while they are held nobody else changes them.
    fn collect(&mut self, keys: &[AttachmentKey], entry: &mut Entry) -> Result<(), CniError> {
        let mut held = Vec::new();
        for key in keys {
            match self.hold(key) {
                Ok(guard) => held.extend(guard.map(|guard| (key, guard))),
                Err(error) => self.fail(key, error),
            }
        }
        if held.is_empty() {
            return Ok(());
        }
        let leases = self.store.read().map_err(|e| journal::failure(&e))?;
        let ends = hostend::all()?;
        let mut free = Vec::new();
        for (key, _) in &held {
            match self.cut_off(key, leases.lease(key), &ends) {
                Ok(true) => free.push(*key),
                Ok(false) => {}
                Err(error) => self.fail(key, error),
            }
        }
        if !free.is_empty() {
            removal::release(Network::from(&self.request.conf), self.store, (&free, true), entry)?;
        }
        self.removed += free.len();
        Ok(())
    }

    /// Holds an attachment that may have to go; `None` if it stays.
    fn hold(&self, key: &AttachmentKey) -> Result<Option<AttachmentGuard>, CniError> {
        match &self.request.valid {
            ValidAttachments::Listed(valid) if valid.contains(key) => Ok(None),
            // Somebody at work on it proves that the runtime knows it, whatever it listed before.
            _ => self.store.try_lock_attachment(key).map_err(|e| journal::failure(&e)),
        }
    }

    /// Cuts an attachment off; true if its lease can be freed. Without a list from the runtime only what has lost its
    /// host end goes.
    fn cut_off(
        &mut self,
        key: &AttachmentKey,
        lease: Option<&Lease>,
        ends: &[(IfName, Owner)],
    ) -> Result<bool, CniError> {
        if matches!(self.request.valid, ValidAttachments::Unstated) {
            let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
            let (network, veth) = (self.store.network(), lease.map(|lease| &lease.veth));
            let renamed = || hostend::among(ends, network, key);
            if hostend::find(&mut route, network, key, veth)?.or_else(renamed).is_some() {
                return Ok(false);
            }
        }
        // A delegate that knows no GC would keep the addresses for ever.
        let network = Network::from(&self.request.conf);
        let removal = Removal { network, store: self.store, key, netns: None, used: true };
        let rest = removal.cut_off(Known::All { lease, ends })?;
        self.addresses.extend(rest.addresses);
        rest.failures.into_iter().for_each(|error| self.fail(key, error));
        Ok(rest.cut_off)
    }

    fn fail(&mut self, key: &AttachmentKey, error: CniError) {
        self.failures.push(error.context(&format!("remove {key}")));
    }
}
