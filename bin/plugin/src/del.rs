//! DEL: plan towards nothing, then free the lease. Never needs the namespace, the agent or an earlier answer.

use selvedge_cni::{CniError, Del};
use selvedge_leases::LeaseError;

use crate::journal;
use crate::log::Entry;
use crate::removal::{Network, Removal};

/// Detaches a container; succeeds if it is detached already.
pub(crate) fn del(request: &Del, entry: &mut Entry) -> Result<(), CniError> {
    let conf = &request.conf;
    for doubt in &conf.doubts {
        entry.field("doubt", format_args!("{:?}", doubt.message()));
    }
    let store = journal::store(&conf.run_dir, &conf.name);
    // An ADD whose runtime gave up on it may still be at work; it ends before we begin.
    let guard = store.lock_attachment(&request.attachment);
    if let Err(busy @ LeaseError::Busy { .. }) = &guard {
        return Err(journal::failure(busy));
    }
    let removal = Removal {
        network: Network::from(conf),
        store: &store,
        key: &request.attachment,
        netns: request.netns.as_deref().filter(|path| !path.is_empty()),
        used: true,
    };
    // A disk that takes no lock keeps no pod in the network.
    removal.carry_out(guard.as_ref().err().map(journal::failure), entry)
}
