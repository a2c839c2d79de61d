//! What the kernel says of leases: who lives, and who is provably gone.

use std::collections::BTreeSet;

use selvedge_datapath::state::LinkKind;
use selvedge_ipam::Lease;
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::{AttachmentKey, Gather, IfName, Owner};
use selvedge_netlink::{NetlinkError, RouteSocket};

use crate::error::LeaseError;
use crate::store::{Oracle, OracleError, Store};

/// The host ends in the calling thread's network namespace, with their owner records.
#[derive(Debug, Clone, Copy)]
pub struct HostEnds;

impl Oracle for HostEnds {
    fn owners(&mut self) -> Result<Vec<(IfName, Owner)>, OracleError> {
        let links = RouteSocket::open()?.observe()?.links.into_iter();
        let living = links.filter(|(_, link)| link.kind == LinkKind::Veth && link.group != REAP_GROUP);
        Ok(living.filter_map(|(name, link)| Some((name, link.alias.parse().ok()?))).collect())
    }
}

/// The links that can be somebody's host end.
fn living() -> Result<BTreeSet<IfName>, NetlinkError> {
    let links = RouteSocket::open()?.observe()?.links.into_iter();
    Ok(links.filter(|(_, link)| link.group != REAP_GROUP).map(|(name, _)| name).gather())
}

impl Store {
    /// Frees the leases whose host end is gone while nobody is at work on the attachment; returns whose they were.
    /// `before` is called for each before its addresses are freed, to remove their last traces; if it says that some
    /// are left, the lease stays.
    ///
    /// # Errors
    /// [`LeaseError`]; leases freed until then stay freed.
    pub fn free_dead(
        &self,
        mut before: impl FnMut(&Lease) -> bool,
    ) -> Result<Vec<AttachmentKey>, LeaseError> {
        let asked = |error: NetlinkError| LeaseError::Oracle(Box::new(error));
        let table = self.read()?;
        let alive = living().map_err(asked)?;
        let mut freed = Vec::new();
        for (key, _) in table.leases().iter().filter(|(_, lease)| !alive.contains(&lease.veth)) {
            // An ADD that has its addresses and not yet its veth holds the guard; one that ended since our look has
            // another lease now, and its veth.
            let Some(_guard) = self.try_lock_attachment(key)? else { continue };
            let mut locked = self.lock(&mut HostEnds)?;
            let Some(lease) = locked.lease(key)? else { continue };
            if living().map_err(asked)?.contains(&lease.veth) {
                continue;
            }
            if !before(&lease) {
                continue;
            }
            if locked.release(key)?.is_some() {
                freed.push(key.clone());
            }
        }
        Ok(freed)
    }
}
