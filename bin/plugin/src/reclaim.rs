//! Leases whose pods are provably gone: the host end is no more, and nobody is at work on the attachment.

use selvedge_cni::CniError;
use selvedge_ipam::ChooseError;
use selvedge_leases::{LeaseError, Locked, Store};
use selvedge_model::AttachmentKey;
use selvedge_netlink::RouteSocket;

use crate::{failure, journal, removal};

/// True if freeing dead leases could change the outcome.
pub(crate) fn may_help(error: &LeaseError) -> bool {
    matches!(error, LeaseError::Choose(ChooseError::Full { .. }))
}

/// Frees every dead lease; how many there were.
pub(crate) fn dead(store: &Store, locked: &mut Locked) -> Result<usize, CniError> {
    let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
    let keys: Vec<AttachmentKey> = locked.table().leases().keys().cloned().collect();
    let mut freed = 0;
    for key in keys {
        let veth = locked.table().lease(&key).map(|lease| lease.veth.clone());
        // Without the guard an ADD that has reserved and not wired yet would lose its addresses.
        let Some(_guard) = store.try_lock_attachment(&key).map_err(|e| journal::failure(&e))? else {
            continue;
        };
        if removal::find(&mut route, store.network(), &key, veth.as_ref())?.is_none() {
            locked.release(&key).map_err(|e| journal::failure(&e))?;
            freed += 1;
        }
    }
    Ok(freed)
}
