//! The lease store as the verbs use it: its errors in the protocol's codes, its recoveries in the log.

use std::path::Path;

use selvedge_cni::{CniError, code};
use selvedge_ipam::Lease;
use selvedge_leases::{HostEnds, LeaseError, Locked, Store};
use selvedge_model::{AttachmentKey, NetworkName};
use selvedge_nft::Conntrack;

use crate::log::Entry;
use crate::{failure, ports};

/// The store of a network.
pub(crate) fn store(run_dir: &Path, network: &NetworkName) -> Store {
    Store::new(run_dir, network)
}

/// Locks the leases; a journal that had to be made anew is told of in the log.
pub(crate) fn lock(store: &Store, entry: &mut Entry) -> Result<Locked, CniError> {
    let locked = store.lock(&mut HostEnds).map_err(|e| failure(&e))?;
    if let Some(recovery) = locked.recovery() {
        entry.field("journal", format_args!("{:?}", recovery.to_string()));
    }
    Ok(locked)
}

/// Fails if an attachment has a lease: it lives, or was left by a call that was killed, and DEL must come first.
pub(crate) fn refuse_leased(store: &Store, key: &AttachmentKey, entry: &mut Entry) -> Result<(), CniError> {
    if lock(store, entry)?.lease(key).map_err(|e| failure(&e))?.is_none() {
        return Ok(());
    }
    let message = format!("{key} is already attached to network {}", store.network());
    Err(CniError::new(code::ALREADY_ATTACHED, message))
}

/// A failure of the store, with its code.
pub(crate) fn failure(error: &LeaseError) -> CniError {
    use selvedge_ipam::{ChooseError, TableError};
    let kind = match error {
        LeaseError::File { .. } | LeaseError::Oracle(_) => code::IO,
        LeaseError::Busy { .. } => code::TRY_AGAIN,
        LeaseError::Choose(ChooseError::Table(TableError::AlreadyLeased { .. })) => code::ALREADY_ATTACHED,
        LeaseError::Choose(_) => code::NO_ADDRESS,
    };
    failure::of(kind, error)
}

/// Frees the leases whose pods are provably gone; true if there were any.
pub(crate) fn free_dead(store: &Store) -> Result<bool, CniError> {
    let mut conntrack = Conntrack::open().map_err(|e| failure::of_nft(&e))?;
    let forget = |lease: &Lease| {
        // A port must not lead to an address that somebody else may get.
        let withdrawn = ports::withdraw(store, || vec![lease.veth.clone()]).is_ok();
        // Traces that stay are those of connections nobody answers any more.
        lease.addresses.iter().for_each(|net| conntrack.flush_address(net.addr()).unwrap_or_default());
        withdrawn
    };
    Ok(!store.free_dead(forget).map_err(|e| failure(&e))?.is_empty())
}
