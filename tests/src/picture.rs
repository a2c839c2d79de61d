//! What of a node an agent looks after, as values that are equal while nobody has changed anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use selvedge_datapath::converge::Observed;
use selvedge_datapath::foreign::ForwardChain;
use selvedge_datapath::state::{FdbEntry, Neighbour, ObservedLink, Route, Sysctl};
use selvedge_model::IfName;
use selvedge_netns::Namespace;
use selvedge_reconcile::{Host, Kernel, Paths};
use selvedge_ruleset::{Table, TableId};

use crate::traces::by_the_kernel;

/// A node's links, routes, sysctls, tables, foreign chains and conflist, less what the kernel numbers anew, adds
/// or finds out by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The links, with the addresses that are not the kernel's own.
    pub links: BTreeMap<IfName, ObservedLink>,
    /// The routes but for the kernel's link-local ones.
    pub routes: BTreeSet<Route>,
    /// Where frames for peers go, on devices of ours.
    pub fdb: BTreeSet<FdbEntry>,
    /// The permanent neighbours on devices of ours.
    pub neighbours: BTreeSet<Neighbour>,
    /// The sysctls that an agent writes.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// The tables of ours; with whether somebody owns them.
    pub tables: BTreeMap<TableId, Table>,
    /// The foreign forward chains, with our rules.
    pub forward: Vec<ForwardChain>,
    /// The text of the conflist.
    pub conflist: Option<String>,
}

impl Picture {
    /// A node as it is now.
    ///
    /// # Panics
    /// If it can't be looked at.
    pub fn of(node: &Namespace, conflist: &Path) -> Self {
        let paths = Paths {
            network: valid("selvedge".parse()),
            bridge: valid("cni0".parse()),
            conflist: conflist.to_owned(),
            plugin: None,
            sysctls: PathBuf::from("/proc/sys"),
            ready: PathBuf::from("/nowhere"),
            forward_accept: true,
            tunnel: None,
        };
        let observed = node.run(|| Host::open(paths).and_then(|mut host| host.observe()));
        let observed = observed.unwrap_or_else(|error| panic!("{error:?}"));
        Self::from(observed.unwrap_or_else(|error| panic!("observe a node: {error:?}")))
    }

    /// The same, whoever owns the tables: while no agent runs, nobody does.
    pub fn disowned(mut self) -> Self {
        self.tables.values_mut().for_each(|table| table.owned = false);
        self
    }

    /// What is there now and wasn't (`+`), and what was and isn't (`-`).
    pub fn changes_to(&self, now: &Self) -> String {
        [
            changes(&self.links, &now.links),
            changes(&self.sysctls, &now.sysctls),
            changes(&self.tables, &now.tables),
            changes(
                &self.routes.iter().map(|r| (r, ())).collect(),
                &now.routes.iter().map(|r| (r, ())).collect(),
            ),
            changes(&self.fdb.iter().map(|e| (e, ())).collect(), &now.fdb.iter().map(|e| (e, ())).collect()),
            changes(
                &self.neighbours.iter().map(|n| (n, ())).collect(),
                &now.neighbours.iter().map(|n| (n, ())).collect(),
            ),
            changes(
                &self.forward.iter().map(|c| (&c.place, &c.ours)).collect(),
                &now.forward.iter().map(|c| (&c.place, &c.ours)).collect(),
            ),
            changes(
                &BTreeMap::from([("conflist", &self.conflist)]),
                &BTreeMap::from([("conflist", &now.conflist)]),
            ),
        ]
        .concat()
    }
}

impl From<Observed> for Picture {
    fn from(observed: Observed) -> Self {
        let links = observed.network.links.into_iter().map(|(name, link)| {
            let addresses = link.addresses.iter().filter(|address| !by_the_kernel(address)).copied();
            let addresses = addresses.collect();
            (name, ObservedLink { index: 0, running: false, addresses, ..link })
        });
        let link_local =
            |route: &Route| matches!(route.destination, IpNet::V6(net) if net.addr().is_unicast_link_local());
        Self {
            links: links.collect(),
            routes: observed.network.routes.into_iter().filter(|route| !link_local(route)).collect(),
            fdb: observed.network.fdb.into_iter().collect(),
            neighbours: observed.network.neighbours.into_iter().collect(),
            sysctls: observed.sysctls,
            tables: observed.tables.iter().map(|(id, table)| (id.clone(), table.known())).collect(),
            forward: observed.forward,
            conflist: observed.conflist,
        }
    }
}

fn valid<T, E: Display>(name: Result<T, E>) -> T {
    name.unwrap_or_else(|error| panic!("a constant name: {error}"))
}

fn changes<K: Ord + Debug, V: PartialEq + Debug>(before: &BTreeMap<K, V>, now: &BTreeMap<K, V>) -> String {
    let lines = |sign: char, these: &BTreeMap<K, V>, others: &BTreeMap<K, V>| {
        let different = these.iter().filter(|(key, value)| others.get(*key) != Some(*value));
        different.map(|(key, value)| format!("\n{sign} {key:?} {value:?}")).collect::<String>()
    };
    lines('-', before, now) + &lines('+', now, before)
}
