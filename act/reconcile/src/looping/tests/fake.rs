//! A node that does what steps say, as the pure models have it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use selvedge_datapath::converge::{Forwarder, ForwarderStep, Observed, OwnKey, Plugin, Step, Which};
use selvedge_datapath::foreign::{ForwardChain, Place};
use selvedge_datapath::state::{LinkKind, ObservedLink, Sysctl};
use selvedge_model::{MacAddr, Mtu, PublicKey, Tracked};
use selvedge_ruleset::after::after;
use selvedge_ruleset::{IpVersion, Listed, Table, TableId};

use crate::looping::{Kernel, Trigger};

/// What a fake node answers when it is told to refuse.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

/// A node that does what steps say, as the pure models have it.
pub(crate) struct Fake {
    pub(crate) observed: Observed,
    /// Steps whose text holds this fail, as often as the number says.
    pub(crate) refused: (&'static str, usize),
    /// So many observations fail.
    pub(crate) blind: usize,
    /// What the next glance finds.
    pub(crate) found: Option<String>,
    /// Every step that was tried.
    pub(crate) tried: Vec<String>,
    /// How often the node was looked at.
    pub(crate) observations: usize,
    /// What is tracked.
    pub(crate) flows: Vec<Tracked>,
    /// A flow that comes up after flows were listed once.
    pub(crate) late: Option<Tracked>,
    /// How often flows were listed, or were to be.
    pub(crate) listings: usize,
    /// So many listings of flows fail.
    pub(crate) untold: usize,
    /// How often word was left that pods are served.
    pub(crate) served: usize,
    /// Dropped when that has been so often, which ends the loop.
    pub(crate) until_served: Option<(usize, Sender<Trigger>)>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let mut observed = Observed::default();
        let eth0 = ObservedLink::new(LinkKind::Other, MacAddr::of_device("eth0"), Mtu::ETHERNET, "");
        observed.network.links.insert("eth0".parse().unwrap(), eth0);
        observed.sysctls.insert(Sysctl::Ipv4Forward, "0".to_owned());
        observed.forward = vec![ForwardChain { place: Place::Legacy(IpVersion::V4), ours: Vec::new() }];
        Self {
            observed,
            refused: ("", 0),
            blind: 0,
            found: None,
            tried: Vec::new(),
            observations: 0,
            flows: Vec::new(),
            late: None,
            listings: 0,
            untold: 0,
            served: 0,
            until_served: None,
        }
    }

    fn make(&mut self, step: &Step) -> Result<(), Refusal> {
        self.tried.push(step.to_string());
        let (what, times) = &mut self.refused;
        if *times > 0 && step.to_string().contains(*what) {
            *times -= 1;
            return Err(Refusal("refused".to_owned()));
        }
        match step {
            Step::Net(step) => self.observed.network.apply(step, &mut self.observed.sysctls),
            Step::Rules(_, transaction) => {
                let tables = after(&self.observed.tables, transaction);
                self.observed.tables = Arc::new(tables.map_err(|refused| Refusal(refused.to_string()))?);
            }
            Step::Accept(place, rules) => {
                let chain = self.observed.forward.iter_mut().find(|chain| chain.place == *place);
                chain.ok_or_else(|| Refusal("no such chain".to_owned()))?.ours.clone_from(rules);
            }
            Step::Plugin => self.observed.plugin = Plugin::Same,
            Step::Conflist(text) => self.observed.conflist = Some(text.clone()),
            Step::Forwarder(step) => self.forward(step),
            Step::Superseded(name) => self.observed.configurations.retain(|there| there != name),
        }
        Ok(())
    }

    fn forward(&mut self, step: &ForwarderStep) {
        let now = &mut self.observed;
        match step {
            ForwarderStep::Start(Which::Udp) => now.forwarder = Forwarder::There(None),
            ForwarderStep::Forward(told) => now.forwarder = Forwarder::There(Some(told.clone())),
            ForwarderStep::End(Which::Udp) => now.forwarder = Forwarder::Missing,
            ForwarderStep::Key => now.key = OwnKey::There(PublicKey([1; 32])),
            ForwarderStep::Start(Which::Wireguard) => now.wireguard = Forwarder::There(None),
            ForwarderStep::Encrypt(told) => now.wireguard = Forwarder::There(Some(told.clone())),
            ForwarderStep::End(Which::Wireguard) => now.wireguard = Forwarder::Missing,
        }
    }

    /// Somebody else deletes the routes to a network.
    pub(crate) fn lose_route(&mut self, destination: &str) {
        let destination = destination.parse().unwrap();
        self.observed.network.routes.retain(|route| route.destination != destination);
    }

    pub(crate) fn has_route(&self, destination: &str) -> bool {
        let destination = destination.parse().unwrap();
        self.observed.network.routes.iter().any(|route| route.destination == destination)
    }
}

impl Kernel for Fake {
    type Error = Refusal;

    fn observe(&mut self) -> Result<Observed, Refusal> {
        self.observations += 1;
        if self.blind > 0 {
            self.blind -= 1;
            return Err(Refusal("can't see".to_owned()));
        }
        Ok(self.observed.clone())
    }

    fn apply(&mut self, steps: &[Step]) -> Vec<Result<(), Refusal>> {
        steps.iter().map(|step| self.make(step)).collect()
    }

    fn glance(&mut self) -> Option<String> {
        self.found.take()
    }

    fn flows(&mut self, keep: &dyn Fn(&Tracked) -> bool) -> Result<Vec<Tracked>, Refusal> {
        self.listings += 1;
        if self.untold > 0 {
            self.untold -= 1;
            return Err(Refusal("can't list".to_owned()));
        }
        self.flows.extend(self.late.take_if(|_| self.listings > 1));
        Ok(self.flows.iter().filter(|flow| keep(flow)).copied().collect())
    }

    fn forget(&mut self, flows: &[Tracked]) -> Result<(), Refusal> {
        self.flows.retain(|flow| !flows.contains(flow));
        Ok(())
    }

    fn tables(&mut self) -> Result<Option<Arc<Listed>>, Refusal> {
        Ok(Some(Arc::clone(&self.observed.tables)))
    }

    fn knows(&self, _: u32) -> bool {
        false
    }

    fn share(&mut self, _: &BTreeMap<TableId, Table>) {}

    fn serves(&mut self) {
        self.served += 1;
        self.until_served.take_if(|(times, _)| self.served >= *times);
    }
}
