//! Deleting the links that DEL set aside: by the agent where there is one, otherwise by whichever plugin process
//! gets the lock.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use selvedge_netlink::RouteSocket;

use crate::agent;

/// Has the reap group deleted. Failing is no error of the call: the links own nothing, and the next call tries again.
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
    drop(lock);
    // Whoever found the lock taken had put its link into the group before we let go of it.
    route.reap_group().ok();
}
