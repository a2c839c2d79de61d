//! The difference between what is wanted and what is there, as steps.
//!
//! Order: devices, sysctls, shaping, properties, addresses, up, routes; what is pruned goes last. So every prefix of a
//! plan leaves what already worked working, and planning again from there goes on with the rest.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use selvedge_model::mark::{self, ROUTE_PROTOCOL};
use selvedge_model::{Gather, IfName, MacAddr, Mtu, Sorted};

use crate::shaping::TokenBucket;
use crate::state::{
    Address, FdbEntry, LinkKind, Neighbour, ObservedLink, ObservedNetwork, Port, Route, RoutingTable, Scope,
    Sysctl, Vxlan,
};
use crate::step::{LinkChange, NetStep};

/// What is wanted of one link. `None` leaves a property as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredLink {
    /// How to make the link if it isn't there; without it a missing link is reported.
    pub create: Option<NewDevice>,
    /// The hardware address.
    pub mac: Option<MacAddr>,
    /// The MTU.
    pub mtu: Option<Mtu>,
    /// The ifalias.
    pub alias: Option<String>,
    /// The bridge it is a port of, with the port's settings.
    pub port: Option<(IfName, Port)>,
    /// The addresses it must have. The link is always wanted up.
    pub addresses: BTreeSet<Address>,
    /// No other address may be on it, but for link-local ones of IPv6 that the kernel makes.
    pub exclusive: bool,
    /// What holds up that which leaves it.
    pub bucket: Option<TokenBucket>,
    /// The ifb through which everything goes first that comes in by it.
    pub redirect: Option<IfName>,
    /// Whether it leaves the checksums of what it sends to others.
    pub tx_checksums: Option<bool>,
}

/// A link to make; its address, MTU and alias are the [`DesiredLink`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// What to make.
    pub kind: DeviceKind,
    /// The address it is born with.
    pub mac: MacAddr,
    /// The MTU it is born with.
    pub mtu: Mtu,
    /// The alias it is born with: our mark.
    pub alias: String,
}

/// What a plan can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A bridge.
    Bridge,
    /// An ifb.
    Ifb,
    /// A VXLAN device.
    Vxlan(Vxlan),
}

impl NewDevice {
    /// The step that makes it under a name.
    fn step(&self, name: &IfName) -> NetStep {
        let (name, mac, mtu, alias) = (name.clone(), self.mac, self.mtu, self.alias.clone());
        match self.kind {
            DeviceKind::Bridge => NetStep::CreateBridge { name, mac, mtu, alias },
            DeviceKind::Ifb => NetStep::CreateIfb { name, mac, mtu, alias },
            DeviceKind::Vxlan(vxlan) => NetStep::CreateVxlan { name, mac, mtu, alias, vxlan },
        }
    }

    /// The link as that step makes it.
    fn made(&self) -> ObservedLink {
        let (kind, vxlan) = match self.kind {
            DeviceKind::Bridge => (LinkKind::Bridge, None),
            DeviceKind::Ifb => (LinkKind::Ifb, None),
            DeviceKind::Vxlan(vxlan) => (LinkKind::Vxlan, Some(vxlan)),
        };
        let link = ObservedLink::new(kind, self.mac, self.mtu, &self.alias);
        ObservedLink { vxlan, tx_checksums: vxlan.map(|_| true), ..link }
    }

    /// The tunnel, of a VXLAN device.
    fn vxlan(&self) -> Option<Vxlan> {
        match self.kind {
            DeviceKind::Vxlan(vxlan) => Some(vxlan),
            DeviceKind::Bridge | DeviceKind::Ifb => None,
        }
    }

    /// True if the device that is there has to go before it can be as it is wanted.
    fn replaces(&self, now: &ObservedLink) -> bool {
        let becomes = |wanted| now.vxlan.is_some_and(|now| now.becomes(wanted));
        mark::is_ours(&now.alias) && self.vxlan().is_some_and(|wanted| !becomes(wanted))
    }
}

/// What is wanted of a namespace's links, routes and sysctls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredNetwork {
    /// The links.
    pub links: BTreeMap<IfName, DesiredLink>,
    /// The routes.
    pub routes: Sorted<Route>,
    /// Tables beside the main one, by number.
    pub tables: BTreeMap<u32, RoutingTable>,
    /// The sysctls, with the value that is written.
    pub sysctls: BTreeMap<Sysctl, &'static str>,
    /// The forwarding entries of overlay devices.
    pub fdb: Sorted<FdbEntry>,
    /// The permanent neighbours on overlay devices.
    pub neighbours: Sorted<Neighbour>,
    /// Links of ours that somebody else looks after: nothing on them is pruned.
    pub keep: BTreeSet<IfName>,
}

impl DesiredNetwork {
    /// Adds everything that `other` wants.
    pub fn merge(&mut self, other: Self) {
        self.links.extend(other.links);
        add(&mut self.routes, other.routes);
        self.tables.extend(other.tables);
        self.sysctls.extend(other.sysctls);
        add(&mut self.fdb, other.fdb);
        add(&mut self.neighbours, other.neighbours);
        self.keep.extend(other.keep);
    }
}

/// Adds the fewer to the more, which go on sharing what they share.
fn add<T: Ord + Clone>(to: &mut Sorted<T>, other: Sorted<T>) {
    let (more, fewer) = if other.len() > to.len() { (other, &*to) } else { (to.clone(), &other) };
    let mut all = more;
    all.extend(fewer.iter().cloned());
    *to = all;
}

/// Whether objects that bear our mark and aren't wanted go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// They do: the desired state is all that is ours in this namespace.
    Marked,
    /// They stay: the desired state is only a part of what is ours.
    Nothing,
}

/// The steps towards what is wanted, and what no step can bring about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What to do, in this order.
    pub steps: Vec<NetStep>,
    /// Links that should be there and that only their owner can make.
    pub missing: Vec<IfName>,
}

impl Plan {
    /// True if everything is as it is wanted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.missing.is_empty()
    }
}

/// What a plan is made from: the namespace as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Links, addresses and routes.
    pub network: &'a ObservedNetwork,
    /// The sysctls that the desired state names, as far as they could be read, without the line's end.
    pub sysctls: &'a BTreeMap<Sysctl, String>,
}

/// The steps from `seen` to `desired`.
pub fn plan(desired: &DesiredNetwork, seen: Seen<'_>, prune: Prune) -> Plan {
    let mut plan = Plan::default();
    let without = plan_replacement(desired, seen.network, &mut plan.steps);
    let seen = Seen { network: without.as_ref().unwrap_or(seen.network), ..seen };
    plan_devices(desired, seen.network, &mut plan);
    for (key, value) in &desired.sysctls {
        if seen.sysctls.get(key).is_none_or(|now| now != value) {
            plan.steps.push(NetStep::SetSysctl { key: key.clone(), value });
        }
    }
    for (name, link) in &desired.links {
        if let Some(now) = present(seen.network, name, link) {
            plan_shaping(desired, seen.network, (name, link, &now), &mut plan.steps);
            plan_link(name, link, &now, &mut plan.steps);
        }
    }
    overlay::plan(desired, seen.network, &mut plan.steps);
    plan_routes(desired, seen.network, &mut plan.steps);
    if prune == Prune::Marked {
        plan_pruning(desired, seen.network, &mut plan.steps);
        overlay::plan_pruning(desired, seen.network, &mut plan.steps);
    }
    plan
}

/// Deletes what can't be changed into what is wanted, and shows the namespace without it.
fn plan_replacement(
    desired: &DesiredNetwork,
    observed: &ObservedNetwork,
    steps: &mut Vec<NetStep>,
) -> Option<ObservedNetwork> {
    let of = |name: &IfName| desired.links.get(name)?.create.as_ref();
    let goes = |(name, now): &(&IfName, &ObservedLink)| of(name).is_some_and(|device| device.replaces(now));
    let gone: Vec<NetStep> = observed.links.iter().filter(goes).map(|(name, _)| delete(name)).collect();
    let mut without = (!gone.is_empty()).then(|| observed.clone())?;
    for step in gone {
        without.apply(&step, &mut BTreeMap::new());
        steps.push(step);
    }
    Some(without)
}

fn delete(name: &IfName) -> NetStep {
    NetStep::DeleteLink { name: name.clone() }
}

fn plan_devices(desired: &DesiredNetwork, observed: &ObservedNetwork, plan: &mut Plan) {
    for (name, link) in &desired.links {
        match (&link.create, observed.links.contains_key(name)) {
            (_, true) => {}
            (None, false) => plan.missing.push(name.clone()),
            (Some(device), false) => plan.steps.push(device.step(name)),
        }
    }
}

/// The link as it is, or as it will be once the plan's first steps have made it.
fn present(observed: &ObservedNetwork, name: &IfName, link: &DesiredLink) -> Option<ObservedLink> {
    observed.links.get(name).cloned().or_else(|| link.create.as_ref().map(NewDevice::made))
}

fn plan_link(name: &IfName, link: &DesiredLink, now: &ObservedLink, steps: &mut Vec<NetStep>) {
    let mut set = |change| steps.push(NetStep::SetLink { name: name.clone(), change });
    let vxlan = link.create.as_ref().and_then(NewDevice::vxlan);
    if let Some(vxlan) = vxlan.filter(|vxlan| now.vxlan != Some(*vxlan)) {
        set(LinkChange::Vxlan(vxlan));
    }
    if let Some(alias) = link.alias.as_ref().filter(|alias| **alias != now.alias) {
        set(LinkChange::Alias(alias.clone()));
    }
    if let Some(mac) = link.mac.filter(|mac| now.mac != Some(*mac)) {
        set(LinkChange::Mac(mac));
    }
    if let Some(mtu) = link.mtu.filter(|mtu| now.mtu != mtu.bytes()) {
        set(LinkChange::Mtu(mtu));
    }
    if let Some((bridge, port)) = &link.port {
        let joined = now.master.as_ref() == Some(bridge);
        if !joined {
            set(LinkChange::Master(Some(bridge.clone())));
        }
        if !joined || now.port != Some(*port) {
            set(LinkChange::Port(*port));
        }
    }
    if let Some(on) = link.tx_checksums.filter(|on| now.tx_checksums != Some(*on)) {
        steps.push(NetStep::SetTxChecksums { device: name.clone(), on });
    }
    for address in &link.addresses {
        if !now.addresses.iter().any(|have| have.net == address.net && have.scope == address.scope) {
            steps.push(NetStep::AddAddress { device: name.clone(), address: *address });
        }
    }
    if !now.up {
        steps.push(NetStep::SetLink { name: name.clone(), change: LinkChange::Up });
    }
    if link.exclusive {
        let wanted: BTreeSet<IpNet> = link.addresses.iter().map(|a| a.net).gather();
        let extra = now.addresses.iter().filter(|a| !wanted.contains(&a.net) && !is_kernels_own(a));
        steps.extend(extra.map(|a| NetStep::DeleteAddress { device: name.clone(), address: *a }));
    }
}

/// What holds up traffic is there before the link is up, so that nothing passes by it.
fn plan_shaping(
    desired: &DesiredNetwork,
    observed: &ObservedNetwork,
    (name, link, now): (&IfName, &DesiredLink, &ObservedLink),
    steps: &mut Vec<NetStep>,
) {
    let device = name.clone();
    if let Some(bucket) = link.bucket.filter(|bucket| now.shaping.bucket != Some(bucket.shown())) {
        steps.push(NetStep::SetBucket { device: device.clone(), bucket });
    }
    if let Some(to) = link.redirect.as_ref().filter(|to| now.shaping.redirect.as_ref() != Some(to)) {
        let made = || desired.links.get(to).is_some_and(|link| link.create.is_some());
        if observed.links.contains_key(to) || made() {
            steps.push(NetStep::Redirect { device, to: to.clone() });
        }
    }
}

/// IPv6 link-local addresses come from the kernel by themselves.
fn is_kernels_own(address: &Address) -> bool {
    address.scope == Scope::Link && matches!(address.net, IpNet::V6(_))
}

fn plan_routes(desired: &DesiredNetwork, observed: &ObservedNetwork, steps: &mut Vec<NetStep>) {
    let exists = |route: &&Route| {
        let device = desired.links.get(&route.device);
        observed.links.contains_key(&route.device) || device.is_some_and(|d| d.create.is_some())
    };
    let missing = desired.routes.difference(&observed.routes).filter(exists);
    steps.extend(in_order(missing).flat_map(|route| towards_route(route, &observed.routes)));
    for (&table, wanted) in &desired.tables {
        let nothing = RoutingTable::default();
        let there = observed.tables.get(&table).unwrap_or(&nothing);
        let missing = wanted.routes.difference(&there.routes).filter(exists);
        steps.extend(in_order(missing).cloned().map(|route| NetStep::AddRouteIn { table, route }));
        let missing = wanted.rules.difference(&there.rules);
        steps.extend(missing.map(|rule| NetStep::AddRule { table, rule: *rule }));
    }
}

/// How a route comes about where others lead to its destination. Ours is replaced, without a gap; beside somebody
/// else's, which a replacement might hit, ours goes first, and what the kernel then finds in the way stays.
fn towards_route(wanted: &Route, there: &Sorted<Route>) -> Vec<NetStep> {
    let same: Vec<&Route> = Route::of_key(wanted.key(), there).collect();
    let ours = |route: &&&Route| route.protocol.0 == ROUTE_PROTOCOL;
    if !same.is_empty() && same.iter().all(|route| ours(&route)) {
        return vec![NetStep::ReplaceRoute(wanted.clone())];
    }
    let stale = same.iter().filter(ours).map(|route| NetStep::DeleteRoute((*route).clone()));
    stale.chain([NetStep::AddRoute(wanted.clone())]).collect()
}

/// A route to a next hop needs the route to that hop first.
fn in_order<'a>(routes: impl Iterator<Item = &'a Route>) -> impl Iterator<Item = &'a Route> {
    let (direct, via): (Vec<_>, Vec<_>) = routes.partition(|route| route.via.is_none());
    direct.into_iter().chain(via)
}

fn plan_pruning(desired: &DesiredNetwork, observed: &ObservedNetwork, steps: &mut Vec<NetStep>) {
    // Replacing a route takes the old one's place if both have the same key.
    let kept = |route: &Route| Route::of_key(route.key(), &desired.routes).next().is_some();
    // What is set aside goes soon, and its routes with it.
    let aside = |name: &IfName| observed.links.get(name).is_some_and(|link| link.group == mark::REAP_GROUP);
    let left_alone = |name: &IfName| desired.keep.contains(name) || aside(name);
    let stale =
        |route: &&Route| route.protocol.0 == ROUTE_PROTOCOL && !kept(route) && !left_alone(&route.device);
    steps
        .extend(observed.routes.difference(&desired.routes).filter(stale).cloned().map(NetStep::DeleteRoute));
    let devices = observed.links.iter().filter(|(name, link)| {
        let device = mark::is_ours(&link.alias) && link.kind.is_a_nodes();
        device && !desired.links.contains_key(*name) && !left_alone(name)
    });
    steps.extend(devices.map(|(name, _)| delete(name)));
}

mod overlay;

#[cfg(test)]
mod tests;
