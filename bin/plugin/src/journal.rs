//! The lease store as the verbs use it: the kernel as its oracle, its errors in the protocol's codes.

use std::path::Path;

use selvedge_cni::{CniError, code};
use selvedge_datapath::state::LinkKind;
use selvedge_leases::{LeaseError, Locked, Oracle, OracleError, Store};
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::{IfName, NetworkName, Owner};
use selvedge_netlink::RouteSocket;

use crate::failure;
use crate::log::Entry;

/// The host ends of the node's namespace, with their owner records.
#[derive(Debug)]
pub(crate) struct HostEnds;

impl Oracle for HostEnds {
    fn owners(&mut self) -> Result<Vec<(IfName, Owner)>, OracleError> {
        let observed = RouteSocket::open()?.observe()?;
        let lives = |(name, link): (&IfName, &selvedge_datapath::state::ObservedLink)| {
            let owner: Owner = link.alias.parse().ok()?;
            (link.kind == LinkKind::Veth && link.group != REAP_GROUP).then(|| (name.clone(), owner))
        };
        Ok(observed.links.iter().filter_map(lives).collect())
    }
}

/// The store of a network.
pub(crate) fn store(run_dir: &Path, network: &NetworkName) -> Store {
    Store::new(run_dir, network)
}

/// Locks the leases; a journal that had to be made anew is told of in the log.
pub(crate) fn lock(store: &Store, entry: &mut Entry) -> Result<Locked, CniError> {
    let locked = store.lock(&mut HostEnds).map_err(|e| failure(&e))?;
    if let Some(recovery) = locked.recovery() {
        entry.field("journal", format_args!("{:?}", format!("{recovery:?}")));
    }
    Ok(locked)
}

/// A failure of the store, with its code.
pub(crate) fn failure(error: &LeaseError) -> CniError {
    use selvedge_ipam::{ChooseError, TableError};
    let kind = match error {
        LeaseError::File { .. } | LeaseError::Oracle(_) => code::IO,
        LeaseError::Busy { .. } => code::TRY_AGAIN,
        LeaseError::Choose(ChooseError::Table(TableError::AlreadyLeased { .. })) => code::ALREADY_ATTACHED,
        LeaseError::Choose(_) | LeaseError::Table(_) => code::NO_ADDRESS,
    };
    failure::of(kind, error)
}
