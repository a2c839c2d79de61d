//! The pure model of the kernel: what a namespace shows after a step.
//!
//! It is what the plugin plans a new pod from, without reading anything back, and what the laws of planning are
//! tested with; the contract tests of `act/netlink` hold it against the real kernel.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use selvedge_model::IfName;

use crate::plan::DesiredNetwork;
use crate::state::{LinkKind, ObservedLink, ObservedNetwork, Port, Route, RoutingTable, Sysctl};
use crate::step::{LinkChange, NetStep, VethPair};

impl ObservedNetwork {
    /// Changes the picture as the step changes the kernel. Steps on links that aren't there change nothing.
    ///
    /// Left out: what the kernel adds of its own accord (indexes, connected routes, link-local addresses).
    pub fn apply(&mut self, step: &NetStep, sysctls: &mut BTreeMap<Sysctl, String>) {
        match step {
            NetStep::CreateBridge { name, mac, mtu, alias } => {
                self.create(name, ObservedLink::new(LinkKind::Bridge, *mac, *mtu, alias));
            }
            NetStep::CreateIfb { name, mac, mtu, alias } => {
                self.create(name, ObservedLink::new(LinkKind::Ifb, *mac, *mtu, alias));
            }
            NetStep::CreateVxlan { name, mac, mtu, alias, vxlan } => {
                let link = ObservedLink::new(LinkKind::Vxlan, *mac, *mtu, alias);
                self.create(name, ObservedLink { vxlan: Some(*vxlan), tx_checksums: Some(true), ..link });
            }
            NetStep::CreateVeth(pair) => self.create_veth(pair),
            NetStep::SetLink { name, change } => self.set_link(name, change),
            NetStep::DeleteLink { name } => self.delete_link(name),
            NetStep::SetTxChecksums { device, on } => self.on(device, |link| link.tx_checksums = Some(*on)),
            NetStep::SetBucket { device, bucket } => {
                self.on(device, |link| link.shaping.bucket = Some(bucket.shown()));
            }
            NetStep::Redirect { device, to } if self.links.contains_key(to) => {
                self.on(device, |link| link.shaping.redirect = Some(to.clone()));
            }
            NetStep::Redirect { .. } => {}
            NetStep::AddAddress { device, address } | NetStep::DeleteAddress { device, address } => {
                if let Some(link) = self.links.get_mut(device) {
                    link.addresses.retain(|have| have.net != address.net);
                    link.addresses.extend(matches!(step, NetStep::AddAddress { .. }).then_some(*address));
                }
            }
            NetStep::AddRoute(route) | NetStep::ReplaceRoute(route) | NetStep::DeleteRoute(route) => {
                self.change_route(route, step);
            }
            NetStep::AddRouteIn { table, .. }
            | NetStep::AddRule { table, .. }
            | NetStep::DeleteRule { table, .. } => self.tables.entry(*table).or_default().apply(step),
            NetStep::SetFdb(entry) | NetStep::DeleteFdb(entry) => {
                self.fdb.remove_like(|have| have.beside(entry));
                self.fdb.extend(matches!(step, NetStep::SetFdb(_)).then(|| entry.clone()));
            }
            NetStep::SetNeighbour(neighbour) | NetStep::DeleteNeighbour(neighbour) => {
                self.neighbours.remove_like(|have| have.beside(neighbour));
                self.neighbours.extend(matches!(step, NetStep::SetNeighbour(_)).then(|| neighbour.clone()));
            }
            NetStep::SetSysctl { key, value } => {
                sysctls.insert(key.clone(), (*value).to_owned());
            }
        }
    }

    /// Shares with what is wanted what is as wanted: the two are compared at a glance from then on.
    pub fn share(&mut self, wanted: &DesiredNetwork) {
        self.routes.share(&wanted.routes);
        self.fdb.share(&wanted.fdb);
        self.neighbours.share(&wanted.neighbours);
    }

    fn change_route(&mut self, route: &Route, step: &NetStep) {
        let there: Vec<Route> = Route::of_key(route.key(), &self.routes).cloned().collect();
        let goes = |have: &&Route| match step {
            NetStep::ReplaceRoute(_) => true,
            NetStep::DeleteRoute(_) => have.protocol == route.protocol,
            _ => false,
        };
        for gone in there.iter().filter(goes) {
            self.routes.remove(gone);
        }
        // What is there already stays.
        let comes = matches!(step, NetStep::ReplaceRoute(_))
            || (there.is_empty() && matches!(step, NetStep::AddRoute(_)));
        self.routes.extend(comes.then(|| route.clone()));
    }

    fn create(&mut self, name: &IfName, link: ObservedLink) {
        self.links.entry(name.clone()).or_insert(link);
    }

    fn on(&mut self, device: &IfName, change: impl FnOnce(&mut ObservedLink)) {
        self.links.get_mut(device).map(change).unwrap_or_default();
    }

    fn delete_link(&mut self, name: &IfName) {
        self.links.remove(name);
        for link in self.links.values_mut() {
            link.shaping.redirect.take_if(|to| to == name);
        }
        self.routes.retain(|route| route.device != *name);
        self.fdb.retain(|entry| entry.device != *name);
        self.neighbours.retain(|neighbour| neighbour.device != *name);
    }

    fn create_veth(&mut self, pair: &VethPair) {
        let mut link = ObservedLink::new(LinkKind::Veth, pair.host_mac, pair.mtu, &pair.alias);
        link.master.clone_from(&pair.master);
        link.port = pair.master.as_ref().map(|_| Port::default());
        self.links.insert(pair.host.clone(), link);
    }

    fn set_link(&mut self, name: &IfName, change: &LinkChange) {
        if let LinkChange::Rename(new) = change {
            if let Some(link) = self.links.remove(name) {
                self.links.insert(new.clone(), link);
                let follow = |to: &mut IfName| {
                    if to == name {
                        to.clone_from(new);
                    }
                };
                self.links.values_mut().filter_map(|link| link.shaping.redirect.as_mut()).for_each(follow);
            }
            return;
        }
        if matches!(change, LinkChange::Down) {
            self.routes.retain(|route| route.device != *name);
            self.neighbours.retain(|neighbour| neighbour.device != *name);
        }
        let Some(link) = self.links.get_mut(name) else { return };
        match change {
            LinkChange::Up => link.up = true,
            LinkChange::Down => {
                link.up = false;
                link.addresses.retain(|address| matches!(address.net, IpNet::V4(_)));
            }
            LinkChange::Mac(mac) if link.mac != Some(*mac) => {
                link.mac = Some(*mac);
                self.neighbours.retain(|neighbour| neighbour.device != *name);
            }
            LinkChange::Mac(_) => {}
            LinkChange::Mtu(mtu) => link.mtu = mtu.bytes(),
            LinkChange::Alias(alias) => link.alias.clone_from(alias),
            LinkChange::Master(master) => {
                link.master.clone_from(master);
                link.port = master.as_ref().map(|_| Port::default());
            }
            LinkChange::Port(port) => link.port = Some(*port),
            LinkChange::Group(group) => link.group = *group,
            LinkChange::Vxlan(vxlan) => link.vxlan = Some(*vxlan),
            LinkChange::Rename(_) => {}
        }
    }
}

impl RoutingTable {
    /// Changes the table as a step does that names it.
    fn apply(&mut self, step: &NetStep) {
        match step {
            NetStep::AddRouteIn { route, .. } => add_route(&mut self.routes, route),
            NetStep::AddRule { rule, .. } => drop(self.rules.insert(*rule)),
            NetStep::DeleteRule { rule, .. } => drop(self.rules.remove(rule)),
            _ => {}
        }
    }
}

/// What is there already stays.
fn add_route(routes: &mut BTreeSet<Route>, route: &Route) {
    if !routes.iter().any(|have| have.key() == route.key()) {
        routes.insert(route.clone());
    }
}
