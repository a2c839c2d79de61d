//! Deleting the links that DEL set aside, and forgetting the bridge ports that were among them: by the agent where
//! there is one, otherwise by whichever plugin process gets the lock.

use std::path::Path;
use std::time::Duration;

use selvedge_cni::CniError;
use selvedge_leases::{LeaseError, PATIENCE, Wait, lock_file};
use selvedge_netlink::RouteSocket;
use selvedge_nft::NftSocket;

use crate::{agent, failure, guard, journal, node};

/// Has the reap group deleted. Whoever fails says so: the links own nothing any more, and go with the next call that
/// reaps.
pub(crate) fn reap(run_dir: &Path, agent: Option<&Path>) -> Result<(), CniError> {
    if agent.is_some_and(agent::ask_to_reap) {
        return Ok(());
    }
    let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
    let lock = match lock_file(&run_dir.join("reap.lock"), &Wait::most(Duration::ZERO)) {
        Err(LeaseError::Busy { .. }) => return Ok(()),
        // A disk that takes no lock keeps nothing in the kernel: at worst two delete at once.
        Err(error) => {
            while delete_group(&mut route)? {}
            return Err(journal::failure(&error));
        }
        Ok(lock) => lock,
    };
    while delete_group(&mut route)? {}
    sweep(run_dir, &mut route)?;
    drop(lock);
    // Whoever found the lock taken had put its link into the group before we let go of it.
    if delete_group(&mut route)? { sweep(run_dir, &mut route) } else { Ok(()) }
}

/// Deletes the links of the reap group; false if there were none.
fn delete_group(route: &mut RouteSocket) -> Result<bool, CniError> {
    route.reap_group().map_err(|e| failure::of_netlink(&e))
}

/// Has the guard of bridge ports forget those that are no more.
fn sweep(run_dir: &Path, route: &mut RouteSocket) -> Result<(), CniError> {
    let mut nft = NftSocket::open().map_err(|e| failure::of_nft(&e))?;
    let _lock = node::lock(run_dir, &Wait::most(PATIENCE))?;
    guard::sweep(route, &mut nft)
}
