//! An attachment's host end: by which names it goes, and which link it is.

use selvedge_cni::{CniError, code};
use selvedge_datapath::state::LinkKind;
use selvedge_datapath::step::NetStep;
use selvedge_leases::{HostEnds, Oracle, Store};
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::names::HOST_VETH_PREFIX;
use selvedge_model::{AttachmentKey, Bandwidth, IfName, NetworkName, Owner, host_veth_name};
use selvedge_netlink::RouteSocket;

use crate::log::Entry;
use crate::{failure, journal, shaper};

/// How often another name is tried for a host end whose name a foreign link has.
const SALTS: u8 = 16;

/// An attachment's host end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostEnd {
    /// The link.
    pub(crate) name: IfName,
    /// Its record, without addresses if it doesn't bear it.
    pub(crate) owner: Owner,
}

/// Finds an attachment's host end by the names that it can have; `recorded` is the one that the journal has. A veth of
/// that name that bears no record, nobody's, is the attachment's too: somebody has overwritten what it bore.
pub(crate) fn find(
    route: &mut RouteSocket,
    network: &NetworkName,
    key: &AttachmentKey,
    recorded: Option<&IfName>,
) -> Result<Option<HostEnd>, CniError> {
    for name in names(network, key, recorded) {
        match holder(route, &name, (network, key))? {
            Holder::This(owner) => return Ok(Some(HostEnd { name, owner })),
            Holder::Nobody if Some(&name) != recorded => break,
            Holder::Unmarked if Some(&name) == recorded => {
                return Ok(Some(HostEnd { name, owner: Owner::new(network.clone(), key, Vec::new()) }));
            }
            Holder::Nobody | Holder::Unmarked | Holder::Another => {}
        }
    }
    Ok(None)
}

/// The host ends of this node, by whatever names.
pub(crate) fn all() -> Result<Vec<(IfName, Owner)>, CniError> {
    HostEnds.owners().map_err(|e| failure::of(code::KERNEL, e.as_ref()))
}

/// Finds an attachment's host end among all of them, by its record: somebody may have renamed it.
pub(crate) fn among(ends: &[(IfName, Owner)], network: &NetworkName, key: &AttachmentKey) -> Option<HostEnd> {
    let key = key.recorded();
    let ours = ends.iter().find(|(_, owner)| owner.network == *network && owner.key == key);
    ours.map(|(name, owner)| HostEnd { name: name.clone(), owner: owner.clone() })
}

/// The names that an attachment's host end can have; `recorded` is the one that the journal has.
pub(crate) fn names(
    network: &NetworkName,
    key: &AttachmentKey,
    recorded: Option<&IfName>,
) -> impl Iterator<Item = IfName> {
    let possible = (0..=SALTS).map(move |salt| host_veth_name(network, key, salt));
    recorded.into_iter().cloned().chain(possible)
}

/// The first name for a new host end that nobody else's link has, nor the shaper's that goes with it. A link of the same
/// attachment's without a lease is a leftover, and goes; with one, the attachment lives and the call fails.
pub(crate) fn free_name(
    route: &mut RouteSocket,
    store: &Store,
    (key, bandwidth): (&AttachmentKey, &Bandwidth),
    entry: &mut Entry,
) -> Result<IfName, CniError> {
    let network = store.network();
    for salt in 0..SALTS {
        let name = host_veth_name(network, key, salt);
        match holder(route, &name, (network, key))? {
            Holder::Nobody => {}
            Holder::This(_) => {
                journal::refuse_leased(store, key, entry)?;
                let stale = NetStep::DeleteLink { name: name.clone() };
                route.apply_until_failure(&[stale], None).map_err(|e| failure::of_netlink(&e))?;
            }
            Holder::Unmarked | Holder::Another => continue,
        }
        if bandwidth.egress.is_none() || shaper::make_room(route, &name, (network, key))? {
            return Ok(name);
        }
    }
    Ok(host_veth_name(network, key, SALTS))
}

/// Whose link has a name.
enum Holder {
    Nobody,
    This(Owner),
    /// A veth without anybody's record.
    Unmarked,
    Another,
}

fn holder(
    route: &mut RouteSocket,
    name: &IfName,
    (network, key): (&NetworkName, &AttachmentKey),
) -> Result<Holder, CniError> {
    let link = route.observe_link(name).map_err(|e| failure::of_netlink(&e))?;
    let Some(link) = link else { return Ok(Holder::Nobody) };
    if link.kind != LinkKind::Veth || link.group == REAP_GROUP {
        return Ok(Holder::Another);
    }
    // The kernel takes the record only once the pair is made: an ADD killed in between leaves a veth without one, but
    // with the name that only this attachment's has.
    if link.alias.is_empty() && name.as_str().starts_with(HOST_VETH_PREFIX) {
        return Ok(Holder::This(Owner::new(network.clone(), key, Vec::new())));
    }
    Ok(match link.alias.parse::<Owner>() {
        Ok(owner) if owner.network == *network && owner.key == key.recorded() => Holder::This(owner),
        Ok(_) => Holder::Another,
        Err(_) => Holder::Unmarked,
    })
}
