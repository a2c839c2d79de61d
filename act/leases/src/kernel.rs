//! What the kernel says of leases: who lives, and who is provably gone.

use std::collections::BTreeSet;

use selvedge_datapath::state::{LinkKind, ObservedLink};
use selvedge_ipam::Lease;
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::{AttachmentKey, Gather, IfName, NetworkName, Owner};
use selvedge_netlink::RouteSocket;

use crate::error::LeaseError;
use crate::store::{Oracle, OracleError, Store};

/// The host ends in the calling thread's network namespace, with their owner records.
#[derive(Debug, Clone, Copy)]
pub struct HostEnds;

impl Oracle for HostEnds {
    fn owners(&mut self) -> Result<Vec<(IfName, Owner)>, OracleError> {
        let links = RouteSocket::open()?.observe_links()?.into_iter();
        Ok(links.filter_map(|(name, link)| Some((name, owner(&link)?))).collect())
    }
}

/// The owner record of a link that is a host end.
fn owner(link: &ObservedLink) -> Option<Owner> {
    let lives = link.kind == LinkKind::Veth && link.group != REAP_GROUP;
    lives.then(|| link.alias.parse().ok()).flatten()
}

/// What proves that an attachment lives: a link that can be its host end. Somebody may have renamed it, or overwritten
/// its owner record; while either is left it is the attachment's.
struct Living {
    names: BTreeSet<IfName>,
    owners: BTreeSet<AttachmentKey>,
}

impl Living {
    fn of(network: &NetworkName) -> Result<Self, LeaseError> {
        let links = RouteSocket::open().and_then(|mut route| route.observe_links());
        let links = links.map_err(|error| LeaseError::Oracle(Box::new(error)))?;
        let owners = links.iter().filter_map(|(_, link)| owner(link));
        let owners = owners.filter(|owner| owner.network == *network).map(|owner| owner.key).gather();
        let names = links.into_iter().filter(|(_, link)| link.group != REAP_GROUP);
        Ok(Self { names: names.map(|(name, _)| name).gather(), owners })
    }

    fn has(&self, key: &AttachmentKey, lease: &Lease) -> bool {
        self.names.contains(&lease.veth) || self.owners.contains(key)
    }
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
        let table = self.read()?;
        let living = Living::of(self.network())?;
        let mut freed = Vec::new();
        for (key, _) in table.leases().iter().filter(|(key, lease)| !living.has(key, lease)) {
            // An ADD that has its addresses and not yet its veth holds the guard; one that ended since our look has
            // another lease now, and its veth.
            let Some(_guard) = self.try_lock_attachment(key)? else { continue };
            let mut locked = self.lock(&mut HostEnds)?;
            let Some(lease) = locked.lease(key)? else { continue };
            if Living::of(self.network())?.has(key, &lease) {
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
