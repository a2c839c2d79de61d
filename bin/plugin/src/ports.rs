//! The capability `portMappings`: what a runtime asks for becomes ports of the node, each with an owner.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use selvedge_cni::{CniError, NetConf, code};
use selvedge_datapath::published::{PortOwner, PublishedPort};
use selvedge_datapath::{Attachment, Mode};
use selvedge_leases::{PATIENCE, Store, Wait};
use selvedge_model::{Gather, IfName, PortMapping};
use selvedge_ports::{Ports, PortsError, Publication};

use crate::journal;
use crate::log::Entry;

/// What is published for an attachment; none if nothing is.
pub(crate) fn publication(conf: &NetConf, attachment: &Attachment) -> Option<Publication> {
    let owner = if attachment.further.is_some() { PortOwner::further } else { PortOwner::new };
    let owner = owner(&attachment.host, &attachment.network, &attachment.key);
    let link = match &attachment.mode {
        Mode::Routed => &attachment.host,
        Mode::Bridge(bridge) => bridge,
    };
    let pod = addresses(attachment);
    let ports = conf.runtime.port_mappings.iter().flat_map(|m| PublishedPort::of(m, &pod, &owner)).gather();
    let publication = Publication { host: attachment.host.clone(), link: link.clone(), ports };
    Some(publication).filter(|publication| !publication.ports.is_empty())
}

/// Tells the log of mappings that are at addresses of a family of which the pod has none: as other plugins do, the pod
/// is attached without them.
pub(crate) fn tell_of_idle(conf: &NetConf, attachment: &Attachment, entry: &mut Entry) {
    let pod = addresses(attachment);
    let idle = |m: &&PortMapping| !pod.iter().any(|ip| m.host_ip.is_like(*ip));
    let ports: Vec<String> = conf
        .runtime
        .port_mappings
        .iter()
        .filter(idle)
        .map(|m| format!("{}/{}", m.host_port, m.transport))
        .collect();
    if !ports.is_empty() {
        entry.field("ports_without_address", ports.join(","));
    }
}

fn addresses(attachment: &Attachment) -> Vec<IpAddr> {
    attachment.addresses.iter().map(|address| address.net.addr()).collect()
}

/// Fails if somebody else has one of the ports, before anything is made.
pub(crate) fn refuse_taken(run_dir: &Path, publication: &Publication, wait: &Wait) -> Result<(), CniError> {
    let ports = Ports::open_if_any(run_dir, wait).map_err(|e| failure(&e))?;
    ports.map_or(Ok(()), |mut ports| ports.refuse_taken(publication)).map_err(|e| failure(&e))
}

/// Publishes an attachment's ports. Its host end is there.
pub(crate) fn publish(run_dir: &Path, publication: &Publication, wait: &Wait) -> Result<(), CniError> {
    Ports::open(run_dir, wait).and_then(|mut ports| ports.publish(publication)).map_err(|e| failure(&e))
}

/// Takes away the ports of an attachment by the names that its host end can have; where they led. Needs nothing to be
/// left of it, and no configuration.
pub(crate) fn withdraw(
    store: &Store,
    hosts: impl FnOnce() -> Vec<IfName>,
) -> Result<BTreeSet<IpAddr>, CniError> {
    let ports = Ports::open_if_any(store.run_dir(), store.wait()).map_err(|e| failure(&e))?;
    let led = ports.map_or(Ok(BTreeSet::new()), |mut ports| ports.withdraw(&hosts()));
    led.map_err(|e| failure(&e))
}

/// Takes away the ports of attachments whose host end is no more.
pub(crate) fn sweep(run_dir: &Path) -> Result<(), CniError> {
    let ports = Ports::open_if_any(run_dir, &Wait::most(PATIENCE)).map_err(|e| failure(&e))?;
    ports.map_or(Ok(()), |mut ports| ports.sweep()).map_err(|e| failure(&e))
}

/// What isn't as the attachment's ports need it, if anything.
pub(crate) fn drift(publication: &Publication) -> Result<Option<String>, CniError> {
    selvedge_ports::drift(publication).map_err(|e| failure(&e))
}

fn failure(error: &PortsError) -> CniError {
    match error {
        PortsError::Taken { .. } => CniError::from_chain(code::PORT_TAKEN, error),
        PortsError::Lock(why) => journal::failure(why),
        PortsError::Nft(why) => crate::failure::of_nft(why),
        PortsError::Netlink(why) => crate::failure::of_netlink(why),
    }
}
