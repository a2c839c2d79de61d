//! The pools that the built-in IPAM allocates from, as host-local's configuration spells them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{CniError, code};
use crate::json::{Field, Object};
use crate::result::Route;

/// Ranges and routes. A container gets one address out of each set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools {
    /// At least one set; no two ranges overlap. The runtime's ipRanges come first.
    pub ranges: Vec<RangeSet>,
    /// `ipam.routes`
    pub routes: Vec<Route>,
}

/// Ranges of one family, tried in order.
pub type RangeSet = Vec<Range>;

/// A range of addresses; start, end and gateway are of the subnet's family, start and end within it and in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The subnet, host bits zero.
    pub subnet: IpNet,
    /// `rangeStart`; none means the subnet's first usable address.
    pub start: Option<IpAddr>,
    /// `rangeEnd`; none means the subnet's last usable address.
    pub end: Option<IpAddr>,
    /// `gateway`; none means the subnet's first address.
    pub gateway: Option<IpAddr>,
}

impl Pools {
    /// Reads `subnet` and `ipam`, and puts the runtime's ranges before them.
    pub(super) fn stated_in(conf: &Object<'_>, runtime_ranges: &[RangeSet]) -> Result<Self, CniError> {
        let ipam = conf.object("ipam")?;
        let mut ranges = runtime_ranges.to_vec();
        if let Some(ipam) = &ipam {
            if ipam.get("subnet").is_some() {
                ranges.push(vec![range(ipam)?]);
            }
            ranges.extend(range_sets(ipam, "ranges")?);
        }
        let subnets = subnets(conf)?;
        if ranges.len() > runtime_ranges.len() && !subnets.is_empty() {
            return Err(conf.need("subnet")?.wrong("contradicts the ranges in ipam: give one of them"));
        }
        ranges.extend(subnets);
        if ranges.is_empty() {
            let message = "subnet is missing, and there are no ipam.ranges: no addresses to give out";
            return Err(CniError::new(code::CONFIG, message));
        }
        refuse_overlap(&ranges)?;
        let routes = ipam.map_or_else(|| Ok(Vec::new()), |ipam| routes(&ipam))?;
        Ok(Self { ranges, routes })
    }
}

impl Range {
    fn first(&self) -> IpAddr {
        self.start.unwrap_or_else(|| self.subnet.network())
    }

    fn last(&self) -> IpAddr {
        self.end.unwrap_or_else(|| self.subnet.broadcast())
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first() <= other.last() && other.first() <= self.last()
    }
}

/// Reads a list of range sets.
pub(super) fn range_sets(outer: &Object<'_>, key: &str) -> Result<Vec<RangeSet>, CniError> {
    outer.list(key)?.iter().map(range_set).collect()
}

fn range_set(field: &Field<'_>) -> Result<RangeSet, CniError> {
    let items = field.list()?;
    let set = items.iter().map(|item| range(&item.object()?)).collect::<Result<RangeSet, _>>()?;
    let Some(first) = set.first() else { return Err(field.wrong("is a range set without a range")) };
    if set.iter().any(|range| is_v4(&range.subnet) != is_v4(&first.subnet)) {
        return Err(field.wrong("is a range set of both families: each needs its own"));
    }
    Ok(set)
}

fn range(object: &Object<'_>) -> Result<Range, CniError> {
    let subnet = pod_subnet(&object.need("subnet")?)?;
    let inside = |key| -> Result<Option<IpAddr>, CniError> {
        let ip = object.ip(key)?;
        match ip {
            Some(ip) if !subnet.contains(&ip) => {
                Err(object.need(key)?.wrong(format_args!("is not in {subnet}")))
            }
            _ => Ok(ip),
        }
    };
    let (start, end) = (inside("rangeStart")?, inside("rangeEnd")?);
    if let (Some(first), Some(last)) = (start, end)
        && first > last
    {
        return Err(object.need("rangeStart")?.wrong(format_args!("comes after rangeEnd {last}")));
    }
    let gateway = object.ip("gateway")?;
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != is_v4(&subnet)) {
        return Err(object.need("gateway")?.wrong(format_args!("is not of the family of {subnet}")));
    }
    let of_nobody = |ip| ip == subnet.network() || (is_v4(&subnet) && ip == subnet.broadcast());
    if gateway.is_some_and(of_nobody) {
        let why = format_args!("is the address of {subnet} itself or of all in it: no gateway can have it");
        return Err(object.need("gateway")?.wrong(why));
    }
    Ok(Range { subnet, start, end, gateway })
}

/// Address space that no pod can have an address of, and what it is.
const NOT_FOR_PODS: [(&str, &str); 10] = [
    ("0.0.0.0/32", "no address"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("::/128", "no address"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "IPv4 in IPv6 clothes"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// A subnet that pods can have addresses of.
fn pod_subnet(field: &Field<'_>) -> Result<IpNet, CniError> {
    let subnet = part_of_the_world(field)?;
    refuse_not_for_pods(field, &subnet)?;
    Ok(subnet)
}

/// An address that a pod can have, with its subnet's prefix length.
pub(crate) fn pod_address(field: &Field<'_>) -> Result<IpNet, CniError> {
    let address = field.cidr()?;
    refuse_not_for_pods(field, &IpNet::from(address.addr()))?;
    Ok(address)
}

fn refuse_not_for_pods(field: &Field<'_>, net: &IpNet) -> Result<(), CniError> {
    let touches = |reserved: &str| {
        reserved.parse::<IpNet>().is_ok_and(|reserved| reserved.contains(net) || net.contains(&reserved))
    };
    match NOT_FOR_PODS.iter().find(|(reserved, _)| touches(reserved)) {
        Some((reserved, what)) => {
            Err(field.wrong(format_args!("meets {reserved}, which is {what} and not for pods")))
        }
        None => Ok(()),
    }
}

/// A network that leaves something outside of it.
pub(super) fn part_of_the_world(field: &Field<'_>) -> Result<IpNet, CniError> {
    let net = field.network()?;
    if net.prefix_len() == 0 {
        return Err(field.wrong("has prefix length 0, which is every address there is"));
    }
    Ok(net)
}

/// `subnet`, one set a family, in the order in which the families appear.
fn subnets(conf: &Object<'_>) -> Result<Vec<RangeSet>, CniError> {
    let mut sets: Vec<RangeSet> = Vec::new();
    for field in conf.one_or_more("subnet")? {
        let range = Range { subnet: pod_subnet(&field)?, start: None, end: None, gateway: None };
        let family =
            |set: &&mut RangeSet| set.iter().any(|there| is_v4(&there.subnet) == is_v4(&range.subnet));
        match sets.iter_mut().find(family) {
            Some(set) => set.push(range),
            None => sets.push(vec![range]),
        }
    }
    Ok(sets)
}

fn routes(ipam: &Object<'_>) -> Result<Vec<Route>, CniError> {
    ipam.list("routes")?.iter().map(route).collect()
}

fn route(field: &Field<'_>) -> Result<Route, CniError> {
    let object = field.object()?;
    refuse_attributes(&object)?;
    let route = Route { dst: object.need("dst")?.network()?, gw: object.ip("gw")? };
    if route.gw.is_some_and(|gw| gw.is_ipv4() != is_v4(&route.dst)) {
        return Err(field.wrong("has a destination and a gateway of different families"));
    }
    Ok(route)
}

/// What a route may say beside its destination and its gateway (from version 1.1.0), and we don't do. Zero is what
/// programs write that mean nothing.
pub(crate) fn refuse_attributes(route: &Object<'_>) -> Result<(), CniError> {
    for key in ["mtu", "advmss", "priority", "table", "scope"] {
        let Some(field) = route.get(key) else { continue };
        if field.value().as_u64() != Some(0) {
            return Err(field.unsupported("a route has a destination and a gateway here, and nothing else"));
        }
    }
    Ok(())
}

fn refuse_overlap(sets: &[RangeSet]) -> Result<(), CniError> {
    let ranges: Vec<&Range> = sets.iter().flatten().collect();
    for (i, one) in ranges.iter().enumerate() {
        if let Some(other) = ranges[i + 1..].iter().find(|other| one.overlaps(other)) {
            let text = |r: &Range| format!("{}-{} ({})", r.first(), r.last(), r.subnet);
            let message = format!("ranges overlap: {} and {}", text(one), text(other));
            return Err(CniError::new(code::CONFIG, message));
        }
    }
    Ok(())
}

fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

#[cfg(test)]
mod tests;
