//! Who is where in an overlay: forwarding entries and permanent neighbours.

use std::collections::BTreeSet;

use selvedge_model::IfName;

use crate::plan::DesiredNetwork;
use crate::state::ObservedNetwork;
use crate::step::NetStep;

/// A peer is known before any route leads to it.
pub(super) fn plan(desired: &DesiredNetwork, observed: &ObservedNetwork, steps: &mut Vec<NetStep>) {
    steps.extend(desired.fdb.difference(&observed.fdb).cloned().map(NetStep::SetFdb));
    // With another hardware address of its own a device forgets its neighbours.
    let forgets = |device: &IfName| {
        let wanted = desired.links.get(device).and_then(|link| link.mac);
        wanted.is_some_and(|mac| observed.links.get(device).is_some_and(|now| now.mac != Some(mac)))
    };
    let missing = desired
        .neighbours
        .iter()
        .filter(|neighbour| !observed.neighbours.contains(neighbour) || forgets(&neighbour.device));
    steps.extend(missing.cloned().map(NetStep::SetNeighbour));
}

/// What is observed is on devices of ours, so nobody else put it there. What only takes another's place isn't deleted.
pub(super) fn plan_pruning(desired: &DesiredNetwork, observed: &ObservedNetwork, steps: &mut Vec<NetStep>) {
    let wanted: BTreeSet<_> = desired.fdb.iter().map(|entry| (&entry.device, entry.mac)).collect();
    let stale = observed.fdb.iter().filter(|entry| {
        !wanted.contains(&(&entry.device, entry.mac)) && desired.links.contains_key(&entry.device)
    });
    steps.extend(stale.cloned().map(NetStep::DeleteFdb));
    let wanted: BTreeSet<_> = desired.neighbours.iter().map(|have| (&have.device, have.address)).collect();
    let stale = observed.neighbours.iter().filter(|have| {
        !wanted.contains(&(&have.device, have.address)) && desired.links.contains_key(&have.device)
    });
    steps.extend(stale.cloned().map(NetStep::DeleteNeighbour));
}
