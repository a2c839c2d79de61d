//! The device through which goes what a pod sends, found by its host end's name.

use selvedge_cni::CniError;
use selvedge_datapath::state::LinkKind;
use selvedge_datapath::step::NetStep;
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::{AttachmentKey, IfName, NetworkName, Owner, shaper_name};
use selvedge_netlink::RouteSocket;

use crate::failure;

/// Whose link has a shaper's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    This,
    Another,
}

fn holder(
    route: &mut RouteSocket,
    shaper: &IfName,
    (network, key): (&NetworkName, &AttachmentKey),
) -> Result<Holder, CniError> {
    // Most pods have no limits: to find that out costs no more than this.
    if !route.has_link(shaper).map_err(|e| failure::of_netlink(&e))? {
        return Ok(Holder::Nobody);
    }
    let link = route.observe_link(shaper).map_err(|e| failure::of_netlink(&e))?;
    let Some(link) = link else { return Ok(Holder::Nobody) };
    let owner = link.alias.parse::<Owner>();
    let ours = owner.is_ok_and(|owner| owner.network == *network && owner.key == key.recorded());
    let shapes = link.kind == LinkKind::Ifb && link.group != REAP_GROUP;
    Ok(if ours && shapes { Holder::This } else { Holder::Another })
}

/// Removes what an attachment has left of a shaper. False if the name is another's.
pub(crate) fn make_room(
    route: &mut RouteSocket,
    host: &IfName,
    whose: (&NetworkName, &AttachmentKey),
) -> Result<bool, CniError> {
    let name = shaper_name(host);
    let holder = holder(route, &name, whose)?;
    if holder == Holder::This {
        let stale = NetStep::DeleteLink { name };
        route.apply_until_failure(&[stale], None).map_err(|e| failure::of_netlink(&e))?;
    }
    Ok(holder != Holder::Another)
}

/// Sets an attachment's shaper aside for the reaper, whichever of these host ends it was made for. True if there was
/// one.
pub(crate) fn set_aside(
    route: &mut RouteSocket,
    hosts: impl IntoIterator<Item = IfName>,
    whose: (&NetworkName, &AttachmentKey),
) -> Result<bool, CniError> {
    let mut any = false;
    for host in hosts {
        let shaper = shaper_name(&host);
        if holder(route, &shaper, whose)? == Holder::This {
            any |= route.detach(&shaper).map_err(|e| failure::of_netlink(&e))?.is_some();
        }
    }
    Ok(any)
}
