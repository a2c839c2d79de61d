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
use selvedge_model::{IfName, Transport};
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
        Ok(Self { nft, route: RouteSocket::open()?, _lock: lock_node(run_dir, wait)? })
    }

    /// Publishes an attachment's ports, whose host end must be there, and has the kernel forget where it sent UDP to
    /// them until now.
    ///
    /// # Errors
    /// [`PortsError::Taken`]; then nothing was changed. [`PortsError`].
    pub fn publish(&mut self, publication: &Publication) -> Result<(), PortsError> {
        let Self { nft, route, .. } = self;
        let (mut taken, mut released) = (None, Ok(()));
        nft.update(&[PLUGIN], |listed| {
            let before = PublishedPorts::listed(listed);
            let mut ports = before.clone();
            taken = publication.holder(&mut ports, route);
            ports = publication.added_to(ports);
            released = release(&before, &ports);
            if taken.is_some() || released.is_err() {
                Transaction::default()
            } else {
                ports.transaction(listed)
            }
        })?;
        released?;
        if let Some((port, holder)) = taken {
            return Err(PortsError::Taken { port: Box::new(port), holder });
        }
        if publication.is_at_loopback() {
            Sysctls::current().write(&carries_loopback(&publication.link), "1")?;
        }
        self.forget_udp(publication)
    }

    /// Fails if somebody else has one of the ports. Changes nothing.
    ///
    /// # Errors
    /// [`PortsError::Taken`], [`PortsError`].
    pub fn refuse_taken(&mut self, publication: &Publication) -> Result<(), PortsError> {
        let mut ports = PublishedPorts::listed(&self.nft.list(&[PLUGIN])?);
        match publication.holder(&mut ports, &mut self.route) {
            None => Ok(()),
            Some((port, holder)) => Err(PortsError::Taken { port: Box::new(port), holder }),
        }
    }

    /// Takes away the ports of the attachments with these host ends; the addresses that they led to.
    ///
    /// # Errors
    /// [`PortsError`].
    pub fn withdraw(&mut self, hosts: &[IfName]) -> Result<BTreeSet<IpAddr>, PortsError> {
        keep(&mut self.nft, |owner| !hosts.iter().any(|host| owner.has(host)))
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
        let dead: BTreeSet<PortOwner> =
            owners.filter(|owner| !owner.host().is_some_and(|host| living(&host))).collect();
        let led = keep(&mut self.nft, |owner| !dead.contains(owner))?;
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
            links.values().flat_map(|link| link.addresses.iter().map(|a| a.net.addr())).collect();
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
}

/// What isn't as an attachment's ports need it, if anything, as a line that would mend it.
///
/// # Errors
/// [`PortsError`].
pub fn drift(publication: &Publication) -> Result<Option<String>, PortsError> {
    let listed = NftSocket::open()?.list(&[PLUGIN])?;
    let mut ports = PublishedPorts::listed(&listed);
    ports.retain(|owner| !owner.has(&publication.host));
    let transaction = publication.added_to(ports).transaction(&listed);
    // What others have left is not this attachment's.
    let adds = |change: &Change| {
        !matches!(change, Change::DeleteElements(_) | Change::DeleteRule(..) | Change::DeleteTable)
    };
    if let Some(command) = transaction.commands().iter().find(|command| adds(&command.change)) {
        return Ok(Some(format!("nft {command}")));
    }
    let key = carries_loopback(&publication.link);
    let carries = !publication.is_at_loopback() || Sysctls::current().read(&key)? == "1";
    Ok((!carries).then(|| format!("sysctl -w {key}=1")))
}

/// Takes away the ports of all owners but those of whom that is true; the addresses that they led to.
fn keep(nft: &mut NftSocket, stays: impl Fn(&PortOwner) -> bool) -> Result<BTreeSet<IpAddr>, PortsError> {
    let (mut led, mut released) = (BTreeSet::new(), Ok(()));
    nft.update(&[PLUGIN], |listed| {
        let before = PublishedPorts::listed(listed);
        let mut ports = before.clone();
        ports.retain(&stays);
        led = before.ports.difference(&ports.ports).map(|port| port.pod.ip()).collect();
        released = release(&before, &ports);
        // Rules without a port are what somebody has left who deleted elements by hand.
        let idle = led.is_empty() && !before.ports.is_empty();
        if idle || released.is_err() { Transaction::default() } else { ports.transaction(listed) }
    })?;
    released.map(|()| led)
}

/// Has the kernel carry 127.0.0.0/8 no more across the bridges that need it no more.
fn release(before: &PublishedPorts, after: &PublishedPorts) -> Result<(), PortsError> {
    let sysctls = Sysctls::current();
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
    /// The first of the ports that somebody else has, and who. Whoever has lost his host end has lost his ports, and
    /// is struck out.
    fn holder(
        &self,
        ports: &mut PublishedPorts,
        route: &mut RouteSocket,
    ) -> Option<(PublishedPort, PortOwner)> {
        ports.retain(|owner| !owner.has(&self.host));
        loop {
            let rival = |port: &&PublishedPort| self.ports.iter().any(|ours| ours.rivals(port));
            let rival = ports.ports.iter().find(rival)?.clone();
            // A host end that can't be looked at counts as there.
            let link = rival.owner.host().map(|host| route.observe_link(&host));
            let gone = match link {
                None | Some(Ok(None)) => true,
                Some(Ok(Some(link))) => link.group == REAP_GROUP,
                Some(Err(_)) => false,
            };
            if !gone {
                return Some((rival.clone(), rival.owner));
            }
            ports.retain(|owner| *owner != rival.owner);
        }
    }

    fn added_to(&self, mut ports: PublishedPorts) -> PublishedPorts {
        ports.ports.extend(self.ports.iter().cloned());
        if self.is_at_loopback() {
            ports.loopback.insert(self.link.clone());
        }
        ports
    }

    fn is_at_loopback(&self) -> bool {
        self.ports.iter().any(PublishedPort::is_at_loopback)
    }
}
