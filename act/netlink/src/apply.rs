//! Steps carried out.

use std::os::fd::{AsFd, BorrowedFd};

use selvedge_datapath::state::{Route, Sysctl};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::IfName;
use selvedge_wire::Request;

use crate::error::{GONE, NetlinkError, Refusal, TakenEnd};
use crate::offload;
use crate::overlay;
use crate::request::{self, EXCL, REPLACE};
use crate::shaping;
use crate::socket::{BATCH, RouteSocket};

/// What a step comes to, with its names looked up.
enum Work<'a> {
    /// One request that needs nothing of the steps before it but their order.
    Request(Request),
    /// One request that changes a name: no name may be looked up before it is carried out.
    Naming(Request),
    /// A request that makes something and one that goes on from there, which fails where the first one does.
    Making([Request; 2]),
    /// An ifb: its name, its alias, and the requests that make it.
    Ifb(&'a IfName, &'a str, [Request; 2]),
    /// A veth pair.
    Veth(&'a VethPair),
    /// A file to write.
    Sysctl(&'a Sysctl, &'static str),
    /// A link that is to leave checksums to others, or not.
    TxChecksums(&'a IfName, bool),
}

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
        let mut batch = Vec::new();
        for step in steps {
            match self.work(step) {
                Ok(Work::Request(request)) => batch.push((step, Ok(request))),
                Err(refusal) => batch.push((step, Err(refusal))),
                Ok(work) => {
                    self.send_batch(&mut batch, &mut outcomes);
                    outcomes.push(self.carry_out(step, work, peer));
                }
            }
            if batch.len() == BATCH {
                self.send_batch(&mut batch, &mut outcomes);
            }
        }
        self.send_batch(&mut batch, &mut outcomes);
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
        steps.iter().try_for_each(|step| match self.work(step) {
            Ok(work) => self.carry_out(step, work, peer),
            Err(refusal) => self.judge(step, Err(refusal)),
        })
    }

    /// Looks up a step's names, each time: the kernel's answer takes less than a microsecond and is never out of
    /// date.
    fn work<'a>(&self, step: &'a NetStep) -> Result<Work<'a>, Refusal> {
        Ok(match step {
            NetStep::CreateBridge { name, mac, mtu, alias } => {
                Work::Making(request::create_bridge(name, *mac, *mtu, alias))
            }
            NetStep::CreateIfb { name, mac, mtu, alias } => {
                Work::Ifb(name, alias, shaping::create_ifb(name, *mac, *mtu, alias))
            }
            NetStep::CreateVxlan { name, mac, mtu, alias, vxlan } => {
                Work::Making(overlay::create_vxlan(name, (*mac, *mtu), alias, vxlan))
            }
            NetStep::CreateVeth(pair) => Work::Veth(pair),
            NetStep::SetLink { name, change: LinkChange::Master(Some(bridge)) } => {
                Work::Request(request::set_master(self.index_of(name)?, self.index_of(bridge)?))
            }
            NetStep::SetLink { name, change: change @ LinkChange::Rename(_) } => {
                Work::Naming(request::change(self.index_of(name)?, change))
            }
            NetStep::SetTxChecksums { device, on } => Work::TxChecksums(device, *on),
            NetStep::SetLink { name, change } => Work::Request(request::change(self.index_of(name)?, change)),
            NetStep::SetBucket { device, bucket } => {
                Work::Request(shaping::set_bucket(self.index_of(device)?, bucket))
            }
            NetStep::Redirect { device, to } => {
                Work::Making(shaping::redirect(self.index_of(device)?, self.index_of(to)?))
            }
            NetStep::DeleteLink { name } => Work::Naming(request::delete_link(self.index_of(name)?)),
            NetStep::AddAddress { device, address } => {
                Work::Request(request::add_address(self.index_of(device)?, address))
            }
            NetStep::DeleteAddress { device, address } => {
                Work::Request(request::delete_address(self.index_of(device)?, address))
            }
            NetStep::AddRoute(route) => Work::Request(self.new_route(EXCL, request::MAIN, route)?),
            NetStep::ReplaceRoute(route) => Work::Request(self.new_route(REPLACE, request::MAIN, route)?),
            NetStep::AddRouteIn { table, route } => Work::Request(self.new_route(EXCL, *table, route)?),
            NetStep::AddRule { table, rule } => {
                Work::Request(request::about_rule(libc::RTM_NEWRULE, *table, rule))
            }
            NetStep::DeleteRule { table, rule } => {
                Work::Request(request::about_rule(libc::RTM_DELRULE, *table, rule))
            }
            NetStep::DeleteRoute(route) => {
                Work::Request(request::delete_route(self.index_of(&route.device)?, route))
            }
            NetStep::SetFdb(_)
            | NetStep::DeleteFdb(_)
            | NetStep::SetNeighbour(_)
            | NetStep::DeleteNeighbour(_) => Work::Request(self.of_overlay(step)?),
            NetStep::SetSysctl { key, value } => Work::Sysctl(key, value),
        })
    }

    /// Who is where behind a tunnel.
    fn of_overlay(&self, step: &NetStep) -> Result<Request, Refusal> {
        Ok(match step {
            NetStep::SetFdb(entry) => overlay::set_fdb(self.index_of(&entry.device)?, entry),
            NetStep::DeleteFdb(entry) => overlay::delete_fdb(self.index_of(&entry.device)?, entry),
            NetStep::SetNeighbour(have) => overlay::set_neighbour(self.index_of(&have.device)?, have),
            NetStep::DeleteNeighbour(have) => overlay::delete_neighbour(self.index_of(&have.device)?, have),
            _ => return Err(Refusal::new(libc::EINVAL)),
        })
    }

    fn new_route(&self, existing: u16, table: u32, route: &Route) -> Result<Request, Refusal> {
        Ok(request::new_route(existing, self.index_of(&route.device)?, table, route))
    }

    /// Sends the requests that wait as one datagram and adds the outcomes of their steps; empties the batch.
    fn send_batch(
        &mut self,
        batch: &mut Vec<(&NetStep, Result<Request, Refusal>)>,
        outcomes: &mut Vec<Result<(), NetlinkError>>,
    ) {
        let mut requests = Vec::with_capacity(batch.len());
        let waiting: Vec<_> = batch
            .drain(..)
            .map(|(step, request)| (step, request.map(|request| requests.push(request))))
            .collect();
        let mut verdicts = self.exchange(requests).into_iter();
        for (step, sent) in waiting {
            let verdict = sent.and_then(|()| verdicts.next().unwrap_or(Ok(())));
            outcomes.push(self.judge(step, verdict));
        }
    }

    fn carry_out(
        &mut self,
        step: &NetStep,
        work: Work<'_>,
        peer: Option<BorrowedFd<'_>>,
    ) -> Result<(), NetlinkError> {
        let verdict = match work {
            Work::Request(request) | Work::Naming(request) => self.request(request),
            // In one datagram, which the kernel carries out as a whole: a kill in between would leave a link without
            // its mark.
            Work::Making(requests) => self.exchange(requests.into()).into_iter().collect(),
            Work::Ifb(name, alias, make) => self.create_ifb(name, alias, make),
            Work::Veth(pair) => return self.create_veth(step, pair, peer),
            Work::TxChecksums(link, on) => offload::set_tx_checksums(self.as_fd(), link, on),
            Work::Sysctl(key, value) => return self.sysctls.write(key, value),
        };
        self.judge(step, verdict)
    }

    /// The outcome of a step: what is already gone needs no deleting, and what bears its new name no renaming.
    fn judge(&mut self, step: &NetStep, verdict: Result<(), Refusal>) -> Result<(), NetlinkError> {
        let Err(source) = verdict else { return Ok(()) };
        let done = match step {
            NetStep::AddRoute(route) if source.errno() == libc::EEXIST => {
                return self.found_there(step, (route, request::MAIN), source);
            }
            NetStep::AddRouteIn { table, route } if source.errno() == libc::EEXIST => {
                return self.found_there(step, (route, *table), source);
            }
            NetStep::DeleteLink { .. }
            | NetStep::DeleteAddress { .. }
            | NetStep::DeleteRoute(_)
            | NetStep::DeleteFdb(_)
            | NetStep::DeleteNeighbour(_)
            | NetStep::DeleteRule { .. } => GONE.contains(&source.errno()),
            NetStep::AddRule { .. } => source.errno() == libc::EEXIST,
            NetStep::SetLink { change: LinkChange::Rename(name), .. } => {
                source.errno() == libc::ENODEV && self.index_of(name).is_ok()
            }
            _ => false,
        };
        if done { Ok(()) } else { Err(NetlinkError::Step { step: Box::new(step.clone()), source }) }
    }

    /// The outcome of adding a route where the kernel has one: done if it is that very one, and else told with what is
    /// there.
    fn found_there(
        &mut self,
        step: &NetStep,
        (route, table): (&Route, u32),
        source: Refusal,
    ) -> Result<(), NetlinkError> {
        let there = self.routes_to(route.destination, table);
        if there.contains(route) {
            return Ok(());
        }
        let there: Vec<String> = there.iter().map(ToString::to_string).collect();
        Err(NetlinkError::RouteTaken { step: Box::new(step.clone()), there: there.join(", "), source })
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
            let marked = self.request(request::change(index, &alias));
            // A link without its mark would be nobody's; what becomes of its deletion changes nothing for the caller.
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
