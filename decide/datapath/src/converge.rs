//! The whole node: what is wanted, what is there, and the steps between, those of every kind in one plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use selvedge_model::mark::WIREGUARD_DEVICE;
use selvedge_model::{Forwarding, PublicKey, Wireguard};
use selvedge_ruleset::{Change, Command, Listed, Scope, Table, TableId, Transaction, diff};

use crate::firewall::GUARD;
use crate::foreign::{self, Accept, ForwardChain, Place};
use crate::peers::Encrypting;
use crate::plan::{self, DesiredNetwork, Prune, Seen};
use crate::state::{ObservedNetwork, Sysctl};
use crate::step::NetStep;

/// What is wanted of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Links, addresses, routes, sysctls.
    pub network: DesiredNetwork,
    /// What a forwarder of the udp transport is to do, where one is needed.
    pub forwarding: Option<Forwarding>,
    /// What is wanted of WireGuard, where anybody wishes for it.
    pub encryption: Option<Encrypting>,
    /// The nftables tables that are ours as a whole.
    pub tables: BTreeMap<TableId, Table>,
    /// What must pass other people's forward chains.
    pub accept: Vec<Accept>,
    /// Whether the plugin is to be put where runtimes look for it.
    pub plugin: bool,
    /// The configuration for the runtimes, written once pods can be served; none while they can't.
    pub conflist: Option<String>,
    /// The names of files that were the configuration before it got its name: they go once it is in place.
    pub superseded: BTreeSet<String>,
    /// Whether what is ours and not wanted goes away: not on the account of a listing that may lack something.
    pub prune: Prune,
}

/// What the node shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Links, addresses, routes.
    pub network: ObservedNetwork,
    /// The forwarder of the udp transport.
    pub forwarder: Forwarder<Forwarding>,
    /// What encrypts: the kernel's WireGuard device, or a forwarder.
    pub wireguard: Forwarder<Wireguard>,
    /// Our own WireGuard key.
    pub key: OwnKey,
    /// The sysctls that matter.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// The tables that may be ours.
    pub tables: Arc<Listed>,
    /// Other people's forward chains, with our rules in them.
    pub forward: Vec<ForwardChain>,
    /// The plugin, beside the one that is to be there.
    pub plugin: Plugin,
    /// The names of all that is in the directory of configurations, sorted.
    pub configurations: Vec<String>,
    /// What is written in those of them that runtimes read.
    pub texts: BTreeMap<String, String>,
    /// The configuration as it is on disk.
    pub conflist: Option<String>,
}

impl Observed {
    /// Changes the picture as a step does whose effect nothing has to be read for; false if something has to. What a
    /// change to a table comes to is read with the tables.
    pub fn foresee(&mut self, step: &Step) -> bool {
        match step {
            Step::Net(step) if step.is_plain() => self.network.apply(step, &mut self.sysctls),
            Step::Rules(..) => {}
            _ => return false,
        }
        true
    }
}

/// The plugin where runtimes look for it, beside the one that the agent was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plugin {
    /// There is none.
    #[default]
    Missing,
    /// Another one, or one that can't be run.
    Other,
    /// The same, byte for byte.
    Same,
}

/// A forwarder, which is a process of its own, or a device of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Forwarder<Told> {
    /// There is none.
    #[default]
    Missing,
    /// One that can't be spoken to: it is of another version.
    Strange,
    /// One that doesn't answer.
    Hung {
        /// The same in words.
        said: String,
        /// It has been so for so long that it is killed, by whom it can be.
        overdue: bool,
    },
    /// At work, as it was told; or not told anything yet.
    There(Option<Told>),
}

impl<Told> Forwarder<Told> {
    /// That it doesn't answer, in words; not of one that is killed anyway.
    fn hangs(&self) -> Option<&str> {
        match self {
            Self::Hung { said, overdue: false } => Some(said),
            Self::Hung { .. } | Self::Missing | Self::Strange | Self::There(_) => None,
        }
    }
}

/// The file of our own WireGuard key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OwnKey {
    /// There is none.
    #[default]
    Missing,
    /// There is one, and this is wrong with it; whoever put it there may need it.
    Broken(String),
    /// Its public half.
    There(PublicKey),
}

/// Which of the forwarders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// The one of the udp transport.
    Udp,
    /// WireGuard's.
    Wireguard,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Wireguard => "wireguard",
        })
    }
}

/// The kind of object that a table is.
pub const TABLE: &str = "table";

/// A change to what forwards beside the kernel's routes, or to its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwarderStep {
    /// Makes a WireGuard key of our own.
    Key,
    /// Starts a forwarder; one that can't be spoken to is ended first, and one that hangs killed.
    Start(Which),
    /// Tells the forwarder of the udp transport what to do, all of it.
    Forward(Forwarding),
    /// Tells WireGuard what to do, all of it.
    Encrypt(Wireguard),
    /// Ends a forwarder.
    End(Which),
}

/// One step of any kind. `Display` is what an operator would type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A change to links, addresses, routes or sysctls.
    Net(NetStep),
    /// A change to what forwards beside the kernel's routes.
    Forwarder(ForwarderStep),
    /// A change to one table.
    Rules(TableId, Transaction),
    /// Makes our rules in somebody else's forward chain exactly these.
    Accept(Place, Vec<Accept>),
    /// Puts the plugin in its place by rename: who runs the one before keeps that.
    Plugin,
    /// Puts the configuration in its place by rename. Comes last, and only if all before it succeeded.
    Conflist(String),
    /// Removes a file that was the configuration under another name.
    Superseded(String),
}

impl Step {
    /// True if the step mends nothing that anybody broke: it forgets bridge ports that are no more, which the plugin
    /// leaves to the agent, or takes away what the agent itself wrote before.
    pub fn tidies_up(&self) -> bool {
        let forgets = |command: &Command| matches!(command.change, Change::DeleteElements(_));
        match self {
            Self::Rules(id, transaction) => *id == GUARD && transaction.commands().iter().all(forgets),
            Self::Superseded(_) => true,
            Self::Net(_) | Self::Forwarder(_) | Self::Accept(..) | Self::Plugin | Self::Conflist(_) => false,
        }
    }

    /// The kind of object, for counters and for people.
    pub fn object(&self) -> &'static str {
        match self {
            Self::Net(NetStep::CreateBridge { .. } | NetStep::DeleteLink { .. } | NetStep::CreateVeth(_)) => {
                "link"
            }
            Self::Net(
                NetStep::CreateIfb { .. }
                | NetStep::CreateVxlan { .. }
                | NetStep::SetLink { .. }
                | NetStep::SetTxChecksums { .. },
            ) => "link",
            Self::Net(NetStep::SetBucket { .. } | NetStep::Redirect { .. }) => "qdisc",
            Self::Net(NetStep::AddAddress { .. } | NetStep::DeleteAddress { .. }) => "address",
            Self::Net(
                NetStep::AddRoute(_)
                | NetStep::ReplaceRoute(_)
                | NetStep::DeleteRoute(_)
                | NetStep::AddRouteIn { .. },
            ) => "route",
            Self::Net(NetStep::AddRule { .. } | NetStep::DeleteRule { .. }) => "rule",
            Self::Net(NetStep::SetFdb(_) | NetStep::DeleteFdb(_)) => "fdb",
            Self::Net(NetStep::SetNeighbour(_) | NetStep::DeleteNeighbour(_)) => "neighbour",
            Self::Net(NetStep::SetSysctl { .. }) => "sysctl",
            Self::Forwarder(step) => step.object(),
            Self::Rules(..) => TABLE,
            Self::Accept(..) => "forward-chain",
            Self::Plugin => "plugin",
            Self::Conflist(_) | Self::Superseded(_) => "conflist",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(step) => step.fmt(f),
            Self::Forwarder(step) => step.fmt(f),
            Self::Rules(_, transaction) => {
                let commands: Vec<String> = transaction.commands().iter().map(ToString::to_string).collect();
                write!(f, "nft {}", commands.join("; "))
            }
            Self::Accept(place, rules) => {
                let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "{place}: {}",
                    if rules.is_empty() { "nothing of ours".into() } else { rules.join(", ") }
                )
            }
            Self::Plugin => f.write_str("install the plugin"),
            Self::Conflist(_) => f.write_str("write the conflist"),
            Self::Superseded(name) => write!(f, "remove {name}, which the conflist was called before"),
        }
    }
}

impl ForwarderStep {
    fn object(&self) -> &'static str {
        match self {
            Self::Start(Which::Udp) | Self::Forward(_) | Self::End(Which::Udp) => "forwarder",
            Self::Key | Self::Start(Which::Wireguard) | Self::Encrypt(_) | Self::End(Which::Wireguard) => {
                "wireguard"
            }
        }
    }
}

impl fmt::Display for ForwarderStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("wg genkey"),
            Self::Start(which) => write!(f, "start {which}"),
            Self::Forward(told) => {
                let Forwarding { port, local, peers } = told;
                write!(f, "forward over UDP from {local} port {port} to {} nodes", peers.len())
            }
            Self::Encrypt(told) => {
                write!(
                    f,
                    "wg set {WIREGUARD_DEVICE} listen-port {} with {} peers",
                    told.port,
                    told.peers.len()
                )
            }
            Self::End(which) => write!(f, "end {which}"),
        }
    }
}

/// Which forwarders that are needed don't answer, in words, but for those that the plan replaces.
pub fn hung<'a>(desired: &Desired, observed: &'a Observed) -> impl Iterator<Item = &'a str> {
    let udp = desired.forwarding.is_some().then(|| observed.forwarder.hangs());
    let encrypts = matches!(desired.encryption, Some(Encrypting::Device(_)));
    let wireguard = encrypts.then(|| observed.wireguard.hangs());
    [udp, wireguard].into_iter().flatten().flatten()
}

/// Every step from `observed` to `desired`.
pub fn plan(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let seen = Seen { network: &observed.network, sysctls: &observed.sysctls };
    let mut forwarders = plan_encryption(desired, observed);
    let udp = (desired.forwarding.as_ref(), &observed.forwarder);
    forwarders.extend(plan_forwarder(udp, desired.prune, (Which::Udp, ForwarderStep::Forward)));
    let mut steps: Vec<Step> = forwarders.into_iter().map(Step::Forwarder).collect();
    steps.extend(plan::plan(&desired.network, seen, desired.prune).steps.into_iter().map(Step::Net));
    steps.extend(plan_tables(desired, observed));
    for chain in &observed.forward {
        let wanted = foreign::wanted_in(&chain.place, &desired.accept);
        if chain.ours != wanted {
            steps.push(Step::Accept(chain.place.clone(), wanted));
        }
    }
    if desired.plugin && observed.plugin != Plugin::Same {
        steps.push(Step::Plugin);
    }
    if let Some(conflist) = desired.conflist.as_ref().filter(|text| observed.conflist.as_ref() != Some(text))
    {
        steps.push(Step::Conflist(conflist.clone()));
    }
    // Not before a later pass has seen the other in its place: a runtime always finds one of them.
    if desired.conflist.is_some() && desired.conflist == observed.conflist {
        steps.extend(desired.superseded.iter().cloned().map(Step::Superseded));
    }
    steps
}

/// The forwarder comes before its device, which it makes.
fn plan_forwarder<Told: Clone + PartialEq>(
    (wanted, now): (Option<&Told>, &Forwarder<Told>),
    prune: Prune,
    (which, tell): (Which, impl Fn(Told) -> ForwarderStep),
) -> Vec<ForwarderStep> {
    match (wanted, now) {
        (Some(wanted), Forwarder::There(told)) if told.as_ref() == Some(wanted) => Vec::new(),
        (Some(wanted), Forwarder::There(_)) => vec![tell(wanted.clone())],
        (Some(wanted), Forwarder::Missing | Forwarder::Strange | Forwarder::Hung { overdue: true, .. }) => {
            vec![ForwarderStep::Start(which), tell(wanted.clone())]
        }
        // One that was never told anything does nothing; somebody else may have started it.
        (None, Forwarder::There(Some(_)) | Forwarder::Strange | Forwarder::Hung { overdue: true, .. })
            if prune == Prune::Marked =>
        {
            vec![ForwarderStep::End(which)]
        }
        // It may only be slow: nothing that it is told would be done any sooner.
        (Some(_), Forwarder::Hung { overdue: false, .. }) | (None, _) => Vec::new(),
    }
}

/// A key first: a device without one is nobody's peer.
fn plan_encryption(desired: &Desired, observed: &Observed) -> Vec<ForwarderStep> {
    let wanted = match &desired.encryption {
        Some(Encrypting::Key) => return vec![ForwarderStep::Key],
        Some(Encrypting::AsItIs) => return Vec::new(),
        Some(Encrypting::Device(wanted)) => Some(wanted),
        None => None,
    };
    plan_forwarder((wanted, &observed.wireguard), desired.prune, (Which::Wireguard, ForwarderStep::Encrypt))
}

/// One transaction a table, so that one that fails keeps no other from being mended.
fn plan_tables(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let mut by_table: BTreeMap<TableId, Transaction> = BTreeMap::new();
    for command in diff(&desired.tables, &observed.tables, Scope::Whole).commands() {
        by_table.entry(command.table.clone()).or_default().push(&command.table, command.change.clone());
    }
    let steps = by_table.into_iter().flat_map(|(id, transaction)| {
        let parts = in_turn(transaction, observed.tables.contains_key(&id));
        parts.into_iter().map(move |part| Step::Rules(id.clone(), part))
    });
    steps.collect()
}

/// What is to be done to a table, claimed first by itself where it is another's, or nobody's, and gets base chains:
/// kernels refuse both in one transaction (EINVAL).
fn in_turn(transaction: Transaction, is_there: bool) -> Vec<Transaction> {
    let is_base = |command: &Command| matches!(command.change, Change::AddChain(_, Some(_)));
    match transaction.commands().split_first() {
        Some((claim @ Command { change: Change::AddTable { .. }, .. }, rest))
            if is_there && rest.iter().any(is_base) =>
        {
            vec![Transaction::from_iter([claim.clone()]), rest.iter().cloned().collect()]
        }
        _ => vec![transaction],
    }
}

#[cfg(test)]
mod tests;
