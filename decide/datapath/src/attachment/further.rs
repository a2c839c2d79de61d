//! An attachment to a container that has a default route by another interface already.
//!
//! The first attachment's routes are the main table's. Those of a further one are in a table of its own: what is sent
//! from its addresses, and what goes to its network, leaves by its interface, and whatever nothing else has a route
//! for. So an answer goes back by the interface that the question came in by, whoever asked, and the attachments can
//! come and go in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::{IfName, MacAddr};

use super::Attachment;
use crate::state::{ObservedNetwork, RoutingTable, Rule, Selector};

/// What is sent from the attachment's addresses.
const FROM: u32 = 83;
/// What goes to its network.
const TO: u32 = 84;
/// What neither the main table (32766) nor the default one (32767) has a route for.
const REST: u32 = 33_083;

/// What a further attachment is wanted for, beyond its addresses' subnets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Further {
    /// The whole network, as the configuration names it.
    networks: Vec<IpNet>,
    /// The addresses of the container's other interfaces.
    held: Vec<IpAddr>,
}

impl Further {
    /// A further attachment by an interface to a whole network, in a namespace that looks like this.
    pub fn new(networks: &[IpNet], ifname: &IfName, inside: &ObservedNetwork) -> Self {
        let others = inside.links.iter().filter(|(name, _)| *name != ifname);
        let held = others.flat_map(|(_, link)| &link.addresses).map(|address| address.net.addr()).collect();
        Self { networks: networks.to_vec(), held }
    }

    /// The number of an interface's table, one for each name.
    pub fn table(ifname: &IfName) -> u32 {
        let MacAddr([.., a, b, c]) = MacAddr::of_device(ifname.as_str());
        u32::from_be_bytes([0x53, a, b, c])
    }

    pub(super) fn tables(&self, attachment: &Attachment) -> BTreeMap<u32, RoutingTable> {
        let mut table = RoutingTable { routes: attachment.pod_routes(), rules: BTreeSet::new() };
        let mut networks: BTreeSet<IpNet> = self.networks.iter().map(IpNet::trunc).collect();
        networks.extend(attachment.addresses.iter().map(|address| address.net.trunc()));
        // Where another interface is on the same network, what is sent from its addresses must leave by it.
        let shared = |network: &IpNet| self.held.iter().any(|address| network.contains(address));
        for network in networks.into_iter().filter(|network| !shared(network)) {
            let like = |a: &&super::PodAddress| a.net.addr().is_ipv4() == network.addr().is_ipv4();
            let gateway = attachment.addresses.iter().find(like).and_then(|a| attachment.gateway(a));
            if gateway.is_some() {
                table.routes.insert(attachment.pod_route(network, gateway));
            }
        }
        let rule = |priority, selector| Rule { priority, selector };
        let from = attachment.addresses.iter().map(|a| rule(FROM, Selector::From(IpNet::from(a.net.addr()))));
        table.rules.extend(from);
        let to = table.routes.iter().filter(|route| route.via.is_some()).map(|route| route.destination);
        table.rules.extend(to.map(|destination| match destination.prefix_len() {
            0 => rule(REST, Selector::From(destination)),
            _ => rule(TO, Selector::To(destination)),
        }));
        BTreeMap::from([(Self::table(&attachment.key.ifname), table)])
    }
}
