//! Who is where in an overlay: forwarding entries and permanent neighbours.

use selvedge_model::IfName;

use crate::plan::{DesiredLink, DesiredNetwork};
use crate::state::{Neighbour, ObservedNetwork};
use crate::step::NetStep;

/// A peer is known before any route leads to it.
pub(super) fn plan(desired: &DesiredNetwork, observed: &ObservedNetwork, steps: &mut Vec<NetStep>) {
    steps.extend(desired.fdb.difference(&observed.fdb).cloned().map(NetStep::SetFdb));
    // With another hardware address of its own a device forgets its neighbours.
    let forgets = |(device, link): &(&IfName, &DesiredLink)| {
        link.mac.is_some_and(|mac| observed.links.get(*device).is_some_and(|now| now.mac != Some(mac)))
    };
    let forgetful: Vec<&IfName> = desired.links.iter().filter(forgets).map(|(device, _)| device).collect();
    let missing: Vec<&Neighbour> = if forgetful.is_empty() {
        desired.neighbours.difference(&observed.neighbours).collect()
    } else {
        let is_missing = |neighbour: &&Neighbour| {
            forgetful.contains(&&neighbour.device) || !observed.neighbours.contains(neighbour)
        };
        desired.neighbours.iter().filter(is_missing).collect()
    };
    steps.extend(missing.into_iter().cloned().map(NetStep::SetNeighbour));
}

/// What is observed is on devices of ours, so nobody else put it there. What only takes another's place isn't deleted.
pub(super) fn plan_pruning(desired: &DesiredNetwork, observed: &ObservedNetwork, steps: &mut Vec<NetStep>) {
    let stale = observed.fdb.difference(&desired.fdb).filter(|entry| {
        desired.links.contains_key(&entry.device)
            && desired.fdb.like(|wanted| wanted.beside(entry)).next().is_none()
    });
    steps.extend(stale.cloned().map(NetStep::DeleteFdb));
    let stale = observed.neighbours.difference(&desired.neighbours).filter(|have| {
        desired.links.contains_key(&have.device)
            && desired.neighbours.like(|wanted| wanted.beside(have)).next().is_none()
    });
    steps.extend(stale.cloned().map(NetStep::DeleteNeighbour));
}
