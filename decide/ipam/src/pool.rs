//! The ranges that addresses come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::table::Leased;

/// A range as a configuration states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeSpec {
    /// `subnet`
    pub subnet: IpNet,
    /// `rangeStart`; the subnet's first usable address by default.
    pub start: Option<IpAddr>,
    /// `rangeEnd`; the subnet's last usable address by default.
    pub end: Option<IpAddr>,
    /// `gateway`; the subnet's first usable address by default. Never leased.
    pub gateway: Option<IpAddr>,
}

/// A range that is valid: its ends are of the subnet's family, in it and in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    subnet: IpNet,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
}

/// A first and a last address of one family, in order.
pub(crate) type Span = (IpAddr, IpAddr);

/// The range sets of a network. An attachment gets one address from each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    sets: Vec<Vec<Range>>,
}

/// Why ranges make no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// There is no range.
    #[error("no range to lease addresses from")]
    Empty,
    /// A subnet has no room for a gateway and a pod.
    #[error("subnet {subnet} is too small: it has no room for a gateway and an address to lease")]
    TooSmall {
        /// The subnet.
        subnet: IpNet,
    },
    /// An address of the range isn't in its subnet.
    #[error("{key} {address} is not in subnet {subnet}")]
    Outside {
        /// `rangeStart` or `rangeEnd`.
        key: &'static str,
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// The range ends before it starts.
    #[error("rangeStart {start} comes after rangeEnd {end}")]
    Order {
        /// The start.
        start: IpAddr,
        /// The end.
        end: IpAddr,
    },
    /// Every address of the range is the gateway's or nobody's.
    #[error("range {start}-{end} of subnet {subnet} has no address to lease")]
    NoAddress {
        /// The start.
        start: IpAddr,
        /// The end.
        end: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// Two ranges share addresses.
    #[error("ranges {one} and {other} overlap")]
    Overlap {
        /// The first range.
        one: String,
        /// The other range.
        other: String,
    },
    /// One set has ranges of both families.
    #[error("a range set has both {one} and {other}: each family needs a set of its own")]
    Mixed {
        /// A subnet.
        one: IpNet,
        /// A subnet of the other family.
        other: IpNet,
    },
}

impl Range {
    /// Checks a range and fills in what it leaves open.
    ///
    /// The subnet's network and broadcast addresses (IPv4) and its routers' anycast address (IPv6, RFC 4291 section
    /// 2.6.1) are no usable addresses.
    pub fn new(spec: RangeSpec) -> Result<Self, PoolError> {
        let subnet = spec.subnet.trunc();
        let (lowest, highest) = usable(subnet).ok_or(PoolError::TooSmall { subnet })?;
        let inside = |key, address: Option<IpAddr>, default: IpAddr| match address {
            Some(address) if !subnet.contains(&address) => Err(PoolError::Outside { key, address, subnet }),
            other => Ok(other.unwrap_or(default)),
        };
        let start = inside("rangeStart", spec.start, lowest)?;
        let end = inside("rangeEnd", spec.end, highest)?;
        if start > end {
            return Err(PoolError::Order { start, end });
        }
        let (first, last) = (start.max(lowest), end.min(highest));
        let range = Self { subnet, first, last, gateway: spec.gateway.unwrap_or(lowest) };
        if first > last || range.size() == 0 {
            return Err(PoolError::NoAddress { start, end, subnet });
        }
        Ok(range)
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The gateway.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// True if the address may be leased from this range.
    pub fn leases(&self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&address) && address != self.gateway
    }

    /// How many addresses can be leased.
    pub fn size(&self) -> u128 {
        let all = number(self.last) - number(self.first) + 1;
        let gateway = (self.first..=self.last).contains(&self.gateway);
        all - u128::from(gateway)
    }

    /// The range as two parts, one after `cursor` and one up to it; the first is the whole if the cursor isn't in it.
    pub(crate) fn parts(&self, cursor: Option<IpAddr>) -> (Option<Span>, Option<Span>) {
        let Some(cursor) = cursor.filter(|cursor| (self.first..=self.last).contains(cursor)) else {
            return (Some((self.first, self.last)), None);
        };
        let after = (cursor < self.last).then(|| (address(number(cursor) + 1, cursor.is_ipv4()), self.last));
        (after, Some((self.first, cursor)))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{} in {}", self.first, self.last, self.subnet)
    }
}

impl Pool {
    /// A pool of range sets.
    pub fn new(sets: Vec<Vec<Range>>) -> Result<Self, PoolError> {
        let sets: Vec<Vec<Range>> = sets.into_iter().filter(|set| !set.is_empty()).collect();
        if sets.is_empty() {
            return Err(PoolError::Empty);
        }
        for set in &sets {
            if let Some(other) = set.iter().find(|range| range.first.is_ipv4() != set[0].first.is_ipv4()) {
                return Err(PoolError::Mixed { one: set[0].subnet, other: other.subnet });
            }
        }
        let all: Vec<&Range> = sets.iter().flatten().collect();
        for (i, one) in all.iter().enumerate() {
            if let Some(other) = all[i + 1..].iter().find(|other| one.overlaps(other)) {
                return Err(PoolError::Overlap { one: one.to_string(), other: other.to_string() });
            }
        }
        Ok(Self { sets })
    }

    /// The range sets.
    pub fn sets(&self) -> &[Vec<Range>] {
        &self.sets
    }

    /// The range that an address may be leased from.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.sets.iter().flatten().find(|range| range.leases(address))
    }
}

/// The first and the last usable address of a subnet; none if it has fewer than two.
fn usable(subnet: IpNet) -> Option<(IpAddr, IpAddr)> {
    let (network, broadcast) = (number(subnet.network()), number(subnet.broadcast()));
    let v4 = subnet.addr().is_ipv4();
    let first = network.checked_add(1)?;
    let last = if v4 { broadcast.checked_sub(1)? } else { broadcast };
    (first < last).then(|| (address(first, v4), address(last, v4)))
}

/// The addresses of a span, one after the other.
pub(crate) fn addresses((first, last): Span) -> impl Iterator<Item = IpAddr> {
    (number(first)..=number(last)).map(move |n| address(n, first.is_ipv4()))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

/// An address of a range, as it is leased.
pub(crate) fn leased(address: IpAddr, range: &Range) -> Leased {
    let net = IpNet::new(address, range.subnet().prefix_len()).unwrap_or_else(|_| IpNet::from(address));
    Leased { net, gateway: range.gateway() }
}

#[cfg(test)]
mod tests;
