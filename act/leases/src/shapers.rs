//! The devices through which goes what pods send that are limited in it.

use std::collections::BTreeSet;

use selvedge_datapath::state::{LinkKind, ObservedNetwork};
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::{AttachmentKey, Gather, IfName, Owner, shaper_name};
use selvedge_netlink::{NetlinkError, RouteSocket};

use crate::error::LeaseError;
use crate::store::Store;

fn asked(error: NetlinkError) -> LeaseError {
    LeaseError::Oracle(Box::new(error))
}

impl Store {
    /// The attachments of this network that have such a device in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`LeaseError::Oracle`].
    pub fn shaped(&self) -> Result<BTreeSet<AttachmentKey>, LeaseError> {
        let network = RouteSocket::open().and_then(|mut route| route.observe()).map_err(asked)?;
        Ok(self.owners(&network, LinkKind::Ifb).map(|(_, owner)| owner.key).gather())
    }

    /// Sets aside for the reaper the devices of pods whose host end is gone while nobody is at work on the attachment:
    /// a namespace that ends takes its pod's veth away, and no more. Returns their names.
    ///
    /// # Errors
    /// [`LeaseError`]; what was set aside until then stays so.
    pub fn set_stray_shapers_aside(&self) -> Result<Vec<IfName>, LeaseError> {
        let mut route = RouteSocket::open().map_err(asked)?;
        let mut aside = Vec::new();
        for (name, key) in self.strays(&route.observe().map_err(asked)?) {
            let Some(_guard) = self.try_lock_attachment(&key)? else { continue };
            // An attachment that somebody has made since our look has its host end by now.
            if self.strays(&route.observe().map_err(asked)?).contains(&(name.clone(), key)) {
                aside.extend(route.detach(&name).map_err(asked)?.map(|_| name));
            }
        }
        Ok(aside)
    }

    fn strays(&self, network: &ObservedNetwork) -> Vec<(IfName, AttachmentKey)> {
        let alive: BTreeSet<_> = self.owners(network, LinkKind::Veth).map(|(_, owner)| owner.key).gather();
        let shapers = self.owners(network, LinkKind::Ifb).map(|(name, owner)| (name.clone(), owner.key));
        let strays = shapers.filter(|(_, key)| !alive.contains(key));
        // Of a host end that has its name still, somebody may have overwritten the record.
        let hosts = network.links.iter().filter(|(_, link)| link.kind == LinkKind::Veth);
        let named: BTreeSet<_> = hosts.map(|(name, _)| shaper_name(name)).gather();
        strays.filter(|(name, _)| !named.contains(name)).collect()
    }

    /// The links of a kind that bear an owner record of this network.
    fn owners<'a>(
        &self,
        network: &'a ObservedNetwork,
        kind: LinkKind,
    ) -> impl Iterator<Item = (&'a IfName, Owner)> {
        let of_kind = network.links.iter().filter(move |(_, l)| l.kind == kind && l.group != REAP_GROUP);
        let owned = of_kind.filter_map(|(name, link)| Some((name, link.alias.parse::<Owner>().ok()?)));
        owned.filter(|(_, owner)| owner.network == *self.network())
    }
}
