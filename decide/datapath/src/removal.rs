//! Everything on a node that bears a mark of ours, and the steps that take it away: that, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use selvedge_model::mark::{REAP_GROUP, ROUTE_PROTOCOL, is_ours};
use selvedge_model::{Gather, IfName, NetworkName, Owner};
use selvedge_ruleset::{Listed, TableId};

use crate::foreign::{ForwardChain, Place};
use crate::state::{LinkKind, ObservedLink, ObservedNetwork, Route};

/// What is on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marked {
    /// Links, addresses, routes.
    pub network: ObservedNetwork,
    /// The tables that are ours as a whole.
    pub tables: Listed,
    /// Other people's forward chains, with the rules of each network of ours.
    pub forward: BTreeMap<NetworkName, Vec<ForwardChain>>,
    /// Configurations of ours, and what a killed write of one left, as paths.
    pub conflists: BTreeSet<String>,
    /// Other people's configurations that have the plugin called, as paths.
    pub callers: BTreeSet<String>,
    /// Leases, locks and the like, as paths; a directory goes with all that is in it.
    pub state: BTreeSet<String>,
    /// The plugin, as a path.
    pub plugin: Option<String>,
    /// What killed installs of the plugin left, as paths.
    pub drafts: BTreeSet<String>,
}

/// A step of the removal. `Display` is what an operator would type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Deletes a file, or a directory with all that is in it.
    Path(String),
    /// Deletes a link.
    Link(IfName),
    /// Has the kernel forget the connections of an address.
    Connections(IpAddr),
    /// Deletes a route.
    Route(Route),
    /// Deletes a table.
    Table(TableId),
    /// Takes a network's rules out of somebody else's forward chain.
    Accept(NetworkName, Place),
}

impl Marked {
    /// The attachments that lose their network with the removal.
    pub fn attachments(&self) -> Vec<(&IfName, Owner)> {
        let pods = self.network.links.iter().filter(|(_, link)| is_host_end(link));
        pods.filter_map(|(name, link)| Some((name, link.alias.parse().ok()?))).collect()
    }

    /// The networks that links of ours belong to.
    pub fn networks(&self) -> BTreeSet<NetworkName> {
        let ours = self.network.links.values().filter(|link| is_ours(&link.alias));
        ours.filter_map(|link| link.alias.split(' ').nth(1)?.parse().ok()).gather()
    }

    /// The steps, in their order: nobody is invited any more; pods lose their network; what served them goes; the
    /// leases are forgotten when nobody has an address; who calls the plugin finds it to the end.
    pub fn removal(&self) -> Vec<Removal> {
        let mut steps: Vec<Removal> = self.conflists.iter().cloned().map(Removal::Path).collect();
        let links = |wanted: fn(&ObservedLink) -> bool| {
            let links = self.network.links.iter().filter(move |(_, link)| wanted(link));
            links.map(|(name, _)| Removal::Link(name.clone()))
        };
        steps.extend(links(|link| is_ours_to_delete(link) && link.kind != LinkKind::Bridge));
        let addresses: BTreeSet<IpAddr> =
            self.attachments().iter().flat_map(|(_, owner)| &owner.addresses).map(|net| net.addr()).gather();
        steps.extend(addresses.into_iter().map(Removal::Connections));
        let routes = self.network.routes.iter().filter(|route| self.is_ours(route));
        steps.extend(routes.cloned().map(Removal::Route));
        steps.extend(links(|link| is_ours_to_delete(link) && link.kind == LinkKind::Bridge));
        for (network, chains) in &self.forward {
            let ours = chains.iter().filter(|chain| !chain.ours.is_empty());
            steps.extend(ours.map(|chain| Removal::Accept(network.clone(), chain.place.clone())));
        }
        steps.extend(self.tables.keys().cloned().map(Removal::Table));
        steps.extend(self.state.iter().cloned().map(Removal::Path));
        steps.extend(self.drafts.iter().cloned().map(Removal::Path));
        let uncalled = self.plugin.iter().filter(|_| self.callers.is_empty());
        steps.extend(uncalled.cloned().map(Removal::Path));
        steps
    }

    /// Why the plugin stays, if it does.
    pub fn plugin_stays(&self) -> Option<String> {
        let plugin = self.plugin.as_ref().filter(|_| !self.callers.is_empty())?;
        let callers: Vec<&str> = self.callers.iter().map(String::as_str).collect();
        Some(format!("{plugin} stays: {}, not the agent's, has it called", callers.join(", ")))
    }

    /// True for a route that doesn't go with its link.
    fn is_ours(&self, route: &Route) -> bool {
        let stays = self.network.links.get(&route.device).is_none_or(|link| !is_ours_to_delete(link));
        route.protocol.0 == ROUTE_PROTOCOL && stays
    }
}

fn is_ours_to_delete(link: &ObservedLink) -> bool {
    is_ours(&link.alias) || link.group == REAP_GROUP
}

fn is_host_end(link: &ObservedLink) -> bool {
    link.kind == LinkKind::Veth && link.group != REAP_GROUP
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "rm -r {path}"),
            Self::Link(name) => write!(f, "ip link del {name}"),
            Self::Connections(address) => write!(f, "conntrack -D -s {address}; conntrack -D -d {address}"),
            Self::Route(route) => write!(f, "ip route del {route}"),
            Self::Table(table) => write!(f, "nft delete table {table}"),
            Self::Accept(network, place) => {
                write!(f, "{place}: no rule with the comment \"selvedge {network}\"")
            }
        }
    }
}

#[cfg(test)]
mod tests;
