//! Published ports in the kernel: made, taken away, compared.
//!
//! [`Ports`] changes the elements in the plugin's table, and with them what they need besides: that the kernel carries
//! 127.0.0.0/8 across the link to the pod, and that it forgets the connections it tracked before. What a port is and
//! which elements it comes to is `selvedge-datapath`'s.
//!
//! Invariants: a port has one owner; the rule that keeps pods away from the node's loopback is there before the kernel
//! carries it, and until after; an element is made only while its owner's host end is there, so that one whose host
//! end is not there belongs to nobody.

mod error;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use selvedge_datapath::firewall::PLUGIN;
use selvedge_datapath::published::{PUBLISHED, PortOwner, PublishedPort, PublishedPorts};
use selvedge_datapath::state::Sysctl;
use selvedge_leases::{Wait, lock_node};
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::{Gather, IfName, Transport};
use selvedge_netlink::{RouteSocket, Sysctls};
use selvedge_nft::{Conntrack, NftSocket};
use selvedge_ruleset::{Change, IpVersion, Transaction};

pub use error::PortsError;

/// The ports of one attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The attachment's host end.
    pub host: IfName,
    /// The link by which the node reaches the pod: the host end, or the bridge.
    pub link: IfName,
    /// The ports.
    pub ports: BTreeSet<PublishedPort>,
}

/// The published ports of the node whose namespace the calling thread is in. Nobody else changes them meanwhile.
#[derive(Debug)]
pub struct Ports {
    nft: NftSocket,
    route: RouteSocket,
    sysctls: Sysctls,
    _lock: File,
}

impl Ports {
    /// Waits until nobody else is at work on the node.
    ///
    /// # Errors
    /// [`PortsError`].
    pub fn open(run_dir: &Path, wait: &Wait) -> Result<Self, PortsError> {
        Self::with(NftSocket::open()?, run_dir, wait)
    }

    /// The same, for so long, if any port is published on this node; one question to the kernel if not.
    ///
    /// # Errors
    /// [`PortsError`].
    pub fn open_if_any(run_dir: &Path, wait: &Wait) -> Result<Option<Self>, PortsError> {
        let mut nft = NftSocket::open()?;
        if !nft.has_chain(&PLUGIN, &PUBLISHED)? {
            return Ok(None);
        }
        Self::with(nft, run_dir, wait).map(Some)
    }

    fn with(nft: NftSocket, run_dir: &Path, wait: &Wait) -> Result<Self, PortsError> {
        let (route, sysctls) = (RouteSocket::open()?, Sysctls::current());
        Ok(Self { nft, route, sysctls, _lock: lock_node(run_dir, wait)? })
    }

    /// The same with the sysctls somewhere else than below `/proc/sys`.
    #[must_use]
    pub fn with_sysctls(self, sysctls: Sysctls) -> Self {
        Self { sysctls, ..self }
    }

    /// Publishes an attachment's ports, whose host end must be there, and has the kernel forget where it sent UDP to
    /// them until now.
    ///
    /// # Errors
    /// [`PortsError::Taken`]; then nothing was changed. [`PortsError`].
    pub fn publish(&mut self, publication: &Publication) -> Result<(), PortsError> {
        let Self { nft, route, sysctls, .. } = self;
        let mut done = Ok(PublishedPorts::default());
        nft.update(&[PLUGIN], |listed| {
            let before = PublishedPorts::listed(listed);
            done = publication.settled(before.clone(), route).and_then(|there| {
                let ports = publication.added_to(there);
                release(sysctls, &before, &ports).map(|()| ports)
            });
            done.as_ref().map(|ports| ports.transaction(listed)).unwrap_or_default()
        })?;
        if done?.loopback.contains(&publication.link) {
            self.sysctls.write(&carries_loopback(&publication.link), "1")?;
        }
        self.forget_udp(publication)
    }

    /// Fails if somebody else has one of the ports. Changes nothing.
    ///
    /// # Errors
    /// [`PortsError::Taken`], [`PortsError`].
    pub fn refuse_taken(&mut self, publication: &Publication) -> Result<(), PortsError> {
        let there = PublishedPorts::listed(&self.nft.list(&[PLUGIN])?);
        publication.settled(there, &mut self.route).map(drop)
    }

    /// Takes away the ports of the attachments with these host ends; the addresses that they led to.
    ///
    /// # Errors
    /// [`PortsError`].
    pub fn withdraw(&mut self, hosts: &[IfName]) -> Result<BTreeSet<IpAddr>, PortsError> {
        self.keep(|owner| !hosts.iter().any(|host| owner.has(host)))
    }

    /// Takes away the ports of attachments whose host end is no more, and has the kernel forget the connections that
    /// they led.
    ///
    /// # Errors
    /// [`PortsError`].
    pub fn sweep(&mut self) -> Result<(), PortsError> {
        let listed = self.nft.list(&[PLUGIN])?;
        // The links are read after the elements: an owner that isn't among them then really is gone.
        let links = self.route.observe()?.links;
        let living = |host: &IfName| links.get(host).is_some_and(|link| link.group != REAP_GROUP);
        let owners = PublishedPorts::listed(&listed).ports.into_iter().map(|port| port.owner);
        let dead: Vec<PortOwner> =
            owners.filter(|owner| !owner.host().is_some_and(|host| living(&host))).collect();
        let led = self.keep(|owner| !dead.contains(owner))?;
        let mut conntrack = Conntrack::open()?;
        Ok(led.into_iter().try_for_each(|address| conntrack.flush_address(address))?)
    }

    /// Deletes the UDP entries that would keep their packets from the ports.
    fn forget_udp(&mut self, publication: &Publication) -> Result<(), PortsError> {
        let udp = |port: &&PublishedPort| port.transport == Transport::Udp;
        let mut ports = publication.ports.iter().filter(udp).peekable();
        if ports.peek().is_none() {
            return Ok(());
        }
        let links = self.route.observe()?.links;
        let local: BTreeSet<IpAddr> =
            links.values().flat_map(|link| link.addresses.iter().map(|a| a.net.addr())).gather();
        let mut conntrack = Conntrack::open()?;
        for port in ports {
            let version = if port.pod.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
            let is_at = |address: IpAddr| match port.at {
                Some(at) => at == address,
                None => address.is_loopback() || local.contains(&address),
            };
            conntrack.flush_udp_port(version, port.port, is_at)?;
        }
        Ok(())
    }

    /// Takes away the ports of all owners but those of whom that is true; the addresses that they led to.
    fn keep(&mut self, stays: impl Fn(&PortOwner) -> bool) -> Result<BTreeSet<IpAddr>, PortsError> {
        let (mut led, mut released) = (BTreeSet::new(), Ok(()));
        let Self { nft, sysctls, .. } = self;
        nft.update(&[PLUGIN], |listed| {
            let before = PublishedPorts::listed(listed);
            let mut ports = before.clone();
            ports.retain(&stays);
            led = before
                .ports
                .iter()
                .filter(|port| !ports.ports.contains(port))
                .map(|port| port.pod.ip())
                .gather();
            released = release(sysctls, &before, &ports);
            // Rules without a port are what somebody has left who deleted elements by hand.
            let idle = led.is_empty() && !before.ports.is_empty();
            if idle || released.is_err() { Transaction::default() } else { ports.transaction(listed) }
        })?;
        released.map(|()| led)
    }
}

/// What isn't as an attachment's ports need it, if anything, as a line that would mend it.
///
/// # Errors
/// [`PortsError`].
pub fn drift(publication: &Publication) -> Result<Option<String>, PortsError> {
    let listed = NftSocket::open()?.list(&[PLUGIN])?;
    let mut there = PublishedPorts::listed(&listed);
    there.retain(|owner| !owner.has(&publication.host));
    let ports = publication.added_to(there);
    let transaction = ports.transaction(&listed);
    // What others have left is not this attachment's.
    let adds = |change: &Change| {
        !matches!(change, Change::DeleteElements(_) | Change::DeleteRule(..) | Change::DeleteTable)
    };
    if let Some(command) = transaction.commands().iter().find(|command| adds(&command.change)) {
        return Ok(Some(format!("nft {command}")));
    }
    let key = carries_loopback(&publication.link);
    let carries = !ports.loopback.contains(&publication.link) || Sysctls::current().read(&key)? == "1";
    Ok((!carries).then(|| format!("sysctl -w {key}=1")))
}

/// Has the kernel carry 127.0.0.0/8 no more across the bridges that need it no more.
fn release(sysctls: &Sysctls, before: &PublishedPorts, after: &PublishedPorts) -> Result<(), PortsError> {
    for bridge in after.released(before) {
        match sysctls.write(&carries_loopback(bridge), "0") {
            Err(error) if !error.is_gone() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn carries_loopback(link: &IfName) -> Sysctl {
    Sysctl::Ipv4Conf(Some(link.clone()), "route_localnet")
}

impl Publication {
    /// The ports that are there less this attachment's, with whoever has lost his host end struck out.
    ///
    /// Fails if somebody else has one of its own. What the container has by another of its networks it may have twice.
    fn settled(
        &self,
        mut there: PublishedPorts,
        route: &mut RouteSocket,
    ) -> Result<PublishedPorts, PortsError> {
        there.retain(|owner| !owner.has(&self.host));
        let rivals = there.ports.iter().filter(|port| self.ports.iter().any(|ours| ours.rivals(port)));
        // A host end that can't be looked at counts as there.
        let mut lives = |owner: &PortOwner| match owner.host().map(|host| route.observe_link(&host)) {
            None | Some(Ok(None)) => false,
            Some(Ok(Some(link))) => link.group != REAP_GROUP,
            Some(Err(_)) => true,
        };
        let dead = rivals.map(|port| &port.owner).filter(|owner| !lives(owner));
        let dead: Vec<PortOwner> = dead.cloned().collect();
        there.retain(|owner| !dead.contains(owner));
        let is_in_the_way = |port: &&PublishedPort| {
            self.ports.iter().any(|ours| ours.rivals(port) && !ours.owner.is_of_same_container(&port.owner))
        };
        match there.ports.iter().find(is_in_the_way) {
            Some(rival) => Err(PortsError::Taken { port: Box::new(rival.clone()) }),
            None => Ok(there),
        }
    }

    /// The ports that are there and these.
    fn added_to(&self, mut there: PublishedPorts) -> PublishedPorts {
        there.ports.extend(self.ports.iter().cloned());
        if self.ports.iter().any(PublishedPort::is_at_loopback) {
            there.loopback.insert(self.link.clone());
        }
        there
    }
}
