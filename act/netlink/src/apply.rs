//! Steps carried out.

use std::os::fd::BorrowedFd;

use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::{IfName, MacAddr, Mtu};

use crate::error::{GONE, NetlinkError, Refusal, TakenEnd};
use crate::request;
use crate::socket::{BATCH, Request, RouteSocket};

impl RouteSocket {
    /// Carries out every step, in order, whatever becomes of those before it; one outcome each.
    ///
    /// `peer` is the pod's namespace, which [`NetStep::CreateVeth`] needs. A pair of which one name is taken is not
    /// made at all; every other step succeeds where it is already done.
    pub fn apply(
        &mut self,
        steps: &[NetStep],
        peer: Option<BorrowedFd<'_>>,
    ) -> Vec<Result<(), NetlinkError>> {
        let mut outcomes = Vec::with_capacity(steps.len());
        let mut rest = steps;
        while let Some(first) = rest.first() {
            let together = rest.iter().take(BATCH).take_while(|step| goes_with_others(step)).count();
            let (batch, after) = rest.split_at(together.max(1));
            match together {
                0 => outcomes.push(self.apply_alone(first, peer)),
                _ => self.apply_together(batch, &mut outcomes),
            }
            rest = after;
        }
        outcomes
    }

    /// Carries out the steps in order up to the first that fails.
    ///
    /// # Errors
    /// That step's; none after it was tried.
    pub fn apply_until_failure(
        &mut self,
        steps: &[NetStep],
        peer: Option<BorrowedFd<'_>>,
    ) -> Result<(), NetlinkError> {
        steps.iter().try_for_each(|step| self.apply_alone(step, peer))
    }

    /// Sends steps that need no answer to one another as one datagram.
    fn apply_together(&mut self, steps: &[NetStep], outcomes: &mut Vec<Result<(), NetlinkError>>) {
        let mut requests = Vec::with_capacity(steps.len());
        let prepare = |step| self.prepare(step).map(|request| requests.push(request));
        let prepared: Vec<Result<(), Refusal>> = steps.iter().map(prepare).collect();
        let mut verdicts = self.exchange(requests).into_iter();
        for (step, prepared) in steps.iter().zip(prepared) {
            let verdict = prepared.and_then(|()| verdicts.next().unwrap_or(Ok(())));
            outcomes.push(self.judge(step, verdict));
        }
    }

    fn apply_alone(&mut self, step: &NetStep, peer: Option<BorrowedFd<'_>>) -> Result<(), NetlinkError> {
        let verdict = match step {
            NetStep::SetSysctl { key, value } => return self.sysctls.write(key, value),
            NetStep::CreateVeth(pair) => return self.create_veth(step, pair, peer),
            NetStep::CreateBridge { name, mac, mtu, alias } => self.create_bridge(name, (*mac, *mtu), alias),
            _ => self.prepare(step).and_then(|request| self.request(request)),
        };
        self.judge(step, verdict)
    }

    /// The request for any step that is one request. Names are looked up here, each time: the kernel's answer takes
    /// less than a microsecond and is never out of date.
    fn prepare(&self, step: &NetStep) -> Result<Request, Refusal> {
        Ok(match step {
            NetStep::SetLink { name, change } => {
                let master = match change {
                    LinkChange::Master(Some(bridge)) => Some(self.index_of(bridge)?),
                    _ => None,
                };
                request::change(self.index_of(name)?, change, master)
            }
            NetStep::DeleteLink { name } => request::delete_link(self.index_of(name)?),
            NetStep::AddAddress { device, address } => request::add_address(self.index_of(device)?, address),
            NetStep::DeleteAddress { device, address } => {
                request::delete_address(self.index_of(device)?, address)
            }
            NetStep::ReplaceRoute(route) => request::replace_route(self.index_of(&route.device)?, route),
            NetStep::DeleteRoute(route) => request::delete_route(self.index_of(&route.device)?, route),
            NetStep::CreateBridge { .. } | NetStep::CreateVeth(_) | NetStep::SetSysctl { .. } => {
                return Err(Refusal::new(libc::EINVAL));
            }
        })
    }

    /// The outcome of a step: what is already gone needs no deleting, and what bears its new name no renaming.
    fn judge(&self, step: &NetStep, verdict: Result<(), Refusal>) -> Result<(), NetlinkError> {
        let Err(source) = verdict else { return Ok(()) };
        let done = match step {
            NetStep::DeleteLink { .. } | NetStep::DeleteAddress { .. } | NetStep::DeleteRoute(_) => {
                GONE.contains(&source.errno())
            }
            NetStep::SetLink { change: LinkChange::Rename(name), .. } => {
                source.errno() == libc::ENODEV && self.index_of(name).is_ok()
            }
            _ => false,
        };
        if done { Ok(()) } else { Err(NetlinkError::Step { step: Box::new(step.clone()), source }) }
    }

    fn create_bridge(
        &mut self,
        name: &IfName,
        (mac, mtu): (MacAddr, Mtu),
        alias: &str,
    ) -> Result<(), Refusal> {
        self.request(request::create_bridge(name, mac, mtu, alias))?;
        self.request(request::create_bridge(name, mac, mtu, alias))
    }

    fn create_veth(
        &mut self,
        step: &NetStep,
        pair: &VethPair,
        peer: Option<BorrowedFd<'_>>,
    ) -> Result<(), NetlinkError> {
        let refused = |source| NetlinkError::Step { step: Box::new(step.clone()), source };
        let peer = peer.ok_or_else(|| refused(Refusal::new(libc::EBADF)))?;
        let master = pair.master.as_ref().map(|bridge| self.index_of(bridge)).transpose().map_err(refused)?;
        if let Err(source) = self.request(request::create_veth(pair, master, peer)) {
            return Err(self.taken(step, pair, source));
        }
        let alias = LinkChange::Alias(pair.alias.clone());
        let marked = self.index_of(&pair.host).and_then(|index| {
            let marked = self.request(request::change(index, &alias, None));
            // An unmarked link would be nobody's. Whatever becomes of this, the first refusal is what matters.
            marked.inspect_err(|_| drop(self.request(request::delete_link(index))))
        });
        marked.map_err(refused)
    }

    /// Tells which of a pair's names the kernel found taken.
    fn taken(&self, step: &NetStep, pair: &VethPair, source: Refusal) -> NetlinkError {
        let step = Box::new(step.clone());
        if source.errno() != libc::EEXIST {
            return NetlinkError::Step { step, source };
        }
        let (end, name) = match self.index_of(&pair.host) {
            Ok(_) => (TakenEnd::Host, &pair.host),
            Err(_) => (TakenEnd::Pod, &pair.pod),
        };
        NetlinkError::NameTaken { step, end, name: name.clone(), source }
    }
}

/// True for a step that is a single request and changes no name, so that the names in the steps that follow can be
/// looked up before it is carried out.
fn goes_with_others(step: &NetStep) -> bool {
    match step {
        NetStep::CreateBridge { .. }
        | NetStep::CreateVeth(_)
        | NetStep::DeleteLink { .. }
        | NetStep::SetSysctl { .. }
        | NetStep::SetLink { change: LinkChange::Rename(_), .. } => false,
        NetStep::SetLink { .. }
        | NetStep::AddAddress { .. }
        | NetStep::DeleteAddress { .. }
        | NetStep::ReplaceRoute(_)
        | NetStep::DeleteRoute(_) => true,
    }
}
