//! GC: DEL for every attachment of the network that the runtime doesn't call valid.

use std::collections::BTreeSet;

use selvedge_cni::{CniError, Gc, ValidAttachments};
use selvedge_leases::{HostEnds, Oracle, Store};
use selvedge_model::{AttachmentKey, Gather};
use selvedge_netlink::RouteSocket;

use crate::log::Entry;
use crate::removal::{self, Network, Removal};
use crate::{failure, ipam, journal, ports, reap};

/// Removes what belongs to no valid attachment; goes on after failures and reports the first.
pub(crate) fn gc(request: &Gc, entry: &mut Entry) -> Result<(), CniError> {
    let conf = &request.conf;
    let store = journal::store(&conf.run_dir, &conf.name);
    let (mut removed, mut failures) = (0, Vec::new());
    for key in known(&store)? {
        match collect(request, &store, &key, entry) {
            Ok(true) => removed += 1,
            Ok(false) => {}
            Err(error) => failures.push(error.context(&format!("remove {key}"))),
        }
    }
    entry.field("removed", removed);
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
fn known(store: &Store) -> Result<BTreeSet<AttachmentKey>, CniError> {
    let leases = store.read().map_err(|e| journal::failure(&e))?;
    let ends = HostEnds.owners().map_err(|e| failure::of(selvedge_cni::code::KERNEL, e.as_ref()))?;
    let ours = ends.into_iter().filter(|(_, owner)| owner.network == *store.network());
    let shaped = store.shaped().map_err(|e| journal::failure(&e))?;
    Ok(leases.leases().keys().cloned().chain(ours.map(|(_, owner)| owner.key)).chain(shaped).gather())
}

fn collect(request: &Gc, store: &Store, key: &AttachmentKey, entry: &mut Entry) -> Result<bool, CniError> {
    let listed = match &request.valid {
        ValidAttachments::Listed(valid) if valid.contains(key) => return Ok(false),
        ValidAttachments::Listed(_) => true,
        ValidAttachments::Unstated => false,
    };
    // Somebody at work on it proves that the runtime knows it, whatever it listed before.
    let Some(_guard) = store.try_lock_attachment(key).map_err(|e| journal::failure(&e))? else {
        return Ok(false);
    };
    if !listed && lives(store, key)? {
        return Ok(false);
    }
    // A delegate that knows no GC would keep the addresses for ever.
    let network = Network::from(&request.conf);
    Removal { network, store, key, netns: None, used: true }.carry_out(entry)?;
    Ok(true)
}

/// Without a list from the runtime only what has lost its host end goes.
fn lives(store: &Store, key: &AttachmentKey) -> Result<bool, CniError> {
    let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
    let lease = store.lease(key).map_err(|e| journal::failure(&e))?;
    let end = removal::find(&mut route, store.network(), key, lease.as_ref().map(|lease| &lease.veth))?;
    Ok(end.is_some())
}
