//! An attachment to a container that has, by another interface, a default route or one that this one would make too.
//!
//! The first attachment's routes are the main table's. Those of a further one are in a table of its own: what is sent
//! from its addresses leaves by its interface, and so does what goes to its network from no address yet, unless another
//! interface is in that network already, and what nothing else has a route for. So an answer goes back by the interface
//! that the question came in by, whoever asked, and the attachments can come and go in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use selvedge_model::{Gather, IfName, MacAddr};

use super::Attachment;
use crate::state::{RoutingTable, Rule, Selector};

/// What is sent from the attachment's addresses.
const FROM: u32 = 83;
/// What goes to its network, unless it is an answer from another address.
const TO: u32 = 84;
/// What neither the main table (32766) nor the default one (32767) has a route for; of its network too, where that is
/// another interface's first.
const REST: u32 = 33_083;

/// What a further attachment is wanted for, beyond its addresses' subnets, and what not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Further {
    /// The whole network, as the configuration names it.
    pub networks: Vec<IpNet>,
    /// What other interfaces have: their addresses, and where their routes lead.
    pub taken: Vec<IpNet>,
}

impl Further {
    /// The number of an interface's table, one for each name.
    pub fn table(ifname: &IfName) -> u32 {
        let MacAddr([.., a, b, c]) = MacAddr::of_device(ifname.as_str());
        u32::from_be_bytes([0x53, a, b, c])
    }

    /// As ADD found the container, from the rules that it made there.
    pub fn found(networks: Vec<IpNet>, made: &BTreeSet<Rule>) -> Self {
        let taken = made.iter().filter(|rule| rule.priority == REST).filter_map(|rule| match rule.selector {
            Selector::Unsourced { to, .. } => Some(to),
            Selector::From(_) => None,
        });
        Self { networks, taken: taken.collect() }
    }

    pub(super) fn tables(&self, attachment: &Attachment) -> BTreeMap<u32, RoutingTable> {
        let addresses = &attachment.addresses;
        let like =
            |net: IpNet| addresses.iter().filter(move |a| a.net.addr().is_ipv4() == net.addr().is_ipv4());
        let mut networks: BTreeSet<IpNet> = self.networks.iter().map(IpNet::trunc).gather();
        networks.extend(addresses.iter().map(|address| address.net.trunc()));
        let mut routes = attachment.pod_routes();
        for network in networks {
            let gateway = like(network).find_map(|address| attachment.gateway(address));
            if let Some(via) = gateway {
                routes.entry(network).or_insert_with(|| attachment.pod_route(network, Some(via)));
            }
        }
        let mut table = RoutingTable { routes: routes.into_values().gather(), rules: BTreeSet::new() };
        let rule = |priority, selector| Rule { priority, selector };
        table.rules.extend(addresses.iter().map(|a| rule(FROM, Selector::From(IpNet::from(a.net.addr())))));
        for to in table.routes.iter().filter(|route| route.via.is_some()).map(|route| route.destination) {
            if to.prefix_len() == 0 {
                table.rules.insert(rule(REST, Selector::From(to)));
                continue;
            }
            let sources = like(to).map(|address| match address.net.addr() {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                address @ IpAddr::V6(_) => address,
            });
            let priority = if self.taken.iter().any(|net| to.contains(net)) { REST } else { TO };
            table.rules.extend(sources.map(|from| rule(priority, Selector::Unsourced { to, from })));
        }
        BTreeMap::from([(Self::table(&attachment.key.ifname), table)])
    }
}
