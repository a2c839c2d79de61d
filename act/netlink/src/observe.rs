//! What the namespace shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_datapath::state::{Address, ObservedLink, ObservedNetwork, Route, RoutingTable, Rule};
use selvedge_model::{Gather, IfName, Sorted};

use crate::error::NetlinkError;
use crate::record::{self, Found, LinkRecord, RouteRecord};
use crate::request;
use crate::socket::RouteSocket;

/// By these the kernel says that it knows no way to an address, or was told of none.
const NO_WAY: [i32; 7] = [
    libc::ENETUNREACH,
    libc::EHOSTUNREACH,
    libc::ESRCH,
    libc::EINVAL,
    libc::EACCES,
    libc::EAFNOSUPPORT,
    libc::EOPNOTSUPP,
];

/// Who has an address, or may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The node itself, by that device.
    Node(Option<IfName>),
    /// Whoever this route leads to, which is to the address alone.
    Route(Route),
    /// Whoever answers to it on a link that leads straight to a network that it is in; nobody, maybe.
    Network,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(Some(device)) => write!(f, "the node has it itself, on {device}"),
            Self::Node(None) => f.write_str("the node has it itself"),
            Self::Network => f.write_str("the node is on its network"),
            Self::Route(route) => write!(f, "the node has a route to it already: {route}"),
        }
    }
}

impl RouteSocket {
    /// Everything: links with their addresses, and the unicast routes of the main table, of both families.
    ///
    /// Links are read last. What is on a link that is there then, and that nobody was taking away yet, was on it
    /// before: no link is shown stripped that is merely on its way out.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe(&mut self) -> Result<ObservedNetwork, NetlinkError> {
        let mut addresses: BTreeMap<u32, BTreeSet<Address>> = BTreeMap::new();
        for (index, address) in self.addresses(0)? {
            addresses.entry(index).or_default().insert(address);
        }
        let routes = self.routes(request::MAIN, None)?;
        let records = self.link_records()?;
        let names: BTreeMap<u32, IfName> =
            records.iter().map(|record| (record.link.index, record.name.clone())).gather();
        let routes = routes
            .into_iter()
            .filter_map(|route| Some(named(route.clone(), names.get(&route.device)?.clone())));
        let routes = routes.gather();
        let links = records.into_iter().map(|LinkRecord { name, master, mut link }| {
            // A master's index means something only in its own namespace; one that isn't ours is as good as none.
            link.master = master.and_then(|index| names.get(&index).cloned());
            link.addresses = addresses.remove(&link.index).unwrap_or_default();
            (name, link)
        });
        Ok(ObservedNetwork { links: links.gather(), routes, ..ObservedNetwork::default() })
    }

    /// The links alone: by what name they go and what they bear, without their addresses and masters.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_links(&mut self) -> Result<Vec<(IfName, ObservedLink)>, NetlinkError> {
        Ok(self.link_records()?.into_iter().map(|record| (record.name, record.link)).collect())
    }

    fn link_records(&mut self) -> Result<Vec<LinkRecord>, NetlinkError> {
        self.read_all("links", &request::list_links(), record::link)
    }

    /// One link with its addresses, `None` if there is none of that name.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_link(&mut self, name: &IfName) -> Result<Option<ObservedLink>, NetlinkError> {
        let answer = self.read_one(&request::get_link(name), record::link);
        let LinkRecord { master, mut link, .. } = match answer {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(refusal) if refusal.errno() == libc::ENODEV => return Ok(None),
            Err(source) => return Err(NetlinkError::Read { what: "link", source }),
        };
        link.master = master.and_then(|index| self.name_of(index));
        let addresses = match self.addresses(link.index) {
            Err(error) if error.is_no_such_device() => return Ok(None),
            addresses => addresses?,
        };
        let on_it = addresses.into_iter().filter(|(index, _)| *index == link.index);
        link.addresses = on_it.map(|(_, address)| address).gather();
        Ok(Some(link))
    }

    /// True if a link of that name has an address in one of some subnets. From Linux 6.9 on this waits for nobody; a
    /// look at the link itself waits for whatever links and namespaces are just being made or deleted.
    pub fn has_address_in(&mut self, name: &IfName, subnets: &[IpNet]) -> bool {
        let Ok(index) = self.index_of(name) else { return false };
        subnets.iter().any(|subnet| {
            let listing = request::list_addresses(request::family(subnet.addr()), index);
            let addresses = self.read_all("addresses", &listing, record::address).unwrap_or_default();
            let is_in =
                |(device, on_it): &(u32, Address)| *device == index && subnet.contains(&on_it.net.addr());
            addresses.iter().any(is_in)
        })
    }

    /// The unicast routes of the main table through one device; none if there is no such device.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_routes_of(&mut self, device: &IfName) -> Result<Sorted<Route>, NetlinkError> {
        let index =
            self.index_if_there(device).map_err(|source| NetlinkError::Read { what: "routes", source })?;
        let Some(index) = index else { return Ok(Sorted::default()) };
        let routes = self.routes(request::MAIN, Some(index))?;
        let through_it = routes.into_iter().filter(|route| route.device == index);
        Ok(through_it.map(|route| named(route, device.clone())).gather())
    }

    /// Where the main table's unicast routes lead.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_destinations(&mut self) -> Result<Vec<IpNet>, NetlinkError> {
        Ok(self.routes(request::MAIN, None)?.into_iter().map(|route| route.destination).collect())
    }

    /// The addresses on all links.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_addresses(&mut self) -> Result<Vec<IpNet>, NetlinkError> {
        Ok(self.addresses(0)?.into_iter().map(|(_, address)| IpNet::from(address.net.addr())).collect())
    }

    /// Who has an address, or may have it, as far as the node's own lookup tells.
    ///
    /// # Errors
    /// [`NetlinkError::Read`].
    pub fn holder(&mut self, address: IpAddr) -> Result<Option<Taken>, NetlinkError> {
        let found = match self.read_one(&request::get_route(address), record::found) {
            Err(refusal) if NO_WAY.contains(&refusal.errno()) => return Ok(None),
            found => found.map_err(|source| NetlinkError::Read { what: "route to an address", source })?,
        };
        let alone = |hop: &RouteRecord| hop.destination == IpNet::from(address);
        Ok(found.and_then(|Found { kind, hops, .. }| {
            let direct = |hop: &RouteRecord| hop.via.is_none() && hop.destination.prefix_len() > 0;
            let Some(hop) = hops.iter().find(|hop| alone(hop)).cloned() else {
                return hops.iter().any(direct).then_some(Taken::Network);
            };
            let device = self.name_of(hop.device);
            Some(match (kind, device) {
                (libc::RTN_UNICAST, Some(device)) => Taken::Route(named(hop, device)),
                (_, device) => Taken::Node(device),
            })
        }))
    }

    /// The routes of a table to one destination, as they are told to people.
    pub(crate) fn routes_to(&mut self, destination: IpNet, table: u32) -> Vec<Route> {
        let routes = self.routes(table, None).unwrap_or_default().into_iter();
        let routes = routes.filter(|route| route.destination == destination);
        routes.filter_map(|route| Some(named(route.clone(), self.name_of(route.device)?))).collect()
    }

    /// A table beside the main one, and our rules that lead to it.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_table(&mut self, number: u32) -> Result<RoutingTable, NetlinkError> {
        let rules = self.observe_rules(number)?;
        let routes = self.routes(number, None)?;
        let routes = routes.into_iter().filter_map(|route| {
            let device = self.name_of(route.device)?;
            Some(named(route, device))
        });
        Ok(RoutingTable { rules, routes: routes.gather() })
    }

    /// Our rules that lead to a table.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_rules(&mut self, table: u32) -> Result<BTreeSet<Rule>, NetlinkError> {
        let mut rules = BTreeSet::new();
        for family in request::FAMILIES {
            match self.read_all("rules", &request::list_rules(family), record::rule) {
                Ok(records) => rules.extend(records),
                // A kernel may be without the family, or without rules.
                Err(error) if error.is_gone() || error.errno() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rules.into_iter().filter(|(to, _)| *to == table).map(|(_, rule)| rule).gather())
    }

    /// The addresses on one link, or on all (`0`), by index. The kernel filters where it can: check the index.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<Vec<(u32, Address)>, NetlinkError> {
        self.read_all("addresses", &request::list_addresses(0, index), record::address)
    }

    /// The routes of a table through one device, or all. The kernel filters where it can: check the device.
    fn routes(&mut self, table: u32, device: Option<u32>) -> Result<Vec<RouteRecord>, NetlinkError> {
        let mut routes = Vec::new();
        for family in request::FAMILIES {
            let read = |payload: &[u8]| record::route(payload, table);
            match self.read_all("routes", &request::list_routes(family, table, device), read) {
                Ok(records) => routes.extend(records.into_iter().flatten()),
                // The table is made with its first route (ENOENT); a family may be switched off altogether.
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }
}

/// A route whose device is known by name.
fn named(record: RouteRecord, device: IfName) -> Route {
    let RouteRecord { destination, via, source, mtu, onlink, protocol, .. } = record;
    Route { destination, via, device, source, mtu, onlink, protocol }
}
