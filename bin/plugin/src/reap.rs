//! Deleting the links that DEL set aside, and forgetting the bridge ports that were among them: by the agent where
//! there is one, otherwise by whichever plugin process gets the lock.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use selvedge_cni::CniError;
use selvedge_netlink::RouteSocket;
use selvedge_nft::NftSocket;

use crate::{agent, failure, guard, node};

/// Has the reap group deleted. Failing is no error of the call: the links own nothing, a port that is no more sends
/// nothing, and the next call tries again.
pub(crate) fn reap(run_dir: &Path, agent: Option<&Path>) {
    if agent.is_some_and(agent::ask_to_reap) {
        return;
    }
    let Ok(mut route) = RouteSocket::open() else { return };
    let lock = File::options().create(true).append(true).open(run_dir.join("reap.lock"));
    let Ok(lock) = lock else { return };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    while matches!(route.reap_group(), Ok(true)) {}
    sweep(run_dir, &mut route).ok();
    drop(lock);
    // Whoever found the lock taken had put its link into the group before we let go of it.
    if matches!(route.reap_group(), Ok(true)) {
        sweep(run_dir, &mut route).ok();
    }
}

/// Has the guard of bridge ports forget those that are no more.
fn sweep(run_dir: &Path, route: &mut RouteSocket) -> Result<(), CniError> {
    let mut nft = NftSocket::open().map_err(|e| failure::of_nft(&e))?;
    let _lock = node::lock(run_dir)?;
    guard::sweep(route, &mut nft)
}
