//! Ranges of addresses that no `ipBlock` of some policies tells apart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use selvedge_model::policy::{IpBlock, Peer, Peers, Policy};

/// The addresses of both families, cut where a block begins or ends.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    /// The first address of each region but the first of its family, in order.
    cuts: BTreeSet<IpAddr>,
}

impl Regions {
    pub(crate) fn of<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut regions = Self::default();
        policies.into_iter().flat_map(blocks).for_each(|block| {
            let nets = std::iter::once(block.cidr()).chain(block.except().iter().copied());
            nets.for_each(|net| regions.cut(net));
        });
        regions
    }

    fn cut(&mut self, net: IpNet) {
        let after = match net.broadcast() {
            IpAddr::V4(last) => last.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
            IpAddr::V6(last) => last.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
        };
        self.cuts.extend([Some(net.network()), after].into_iter().flatten());
    }

    /// The region that an address is in: its first address.
    pub(crate) fn place(&self, address: IpAddr) -> IpAddr {
        let first = zero(address.is_ipv4());
        self.cuts.range(first..=address).next_back().copied().unwrap_or(first)
    }

    /// All regions of both families, each by its first and its last address.
    pub(crate) fn all(&self) -> Vec<(IpAddr, IpAddr)> {
        let mut all = Vec::new();
        for v4 in [true, false] {
            let (first, last) = (zero(v4), top(v4));
            let mut starts: BTreeSet<IpAddr> = self.cuts.range(first..=last).copied().collect();
            starts.insert(first);
            let ends = starts.iter().skip(1).map(|next| before(*next)).chain([last]);
            all.extend(starts.iter().copied().zip(ends));
        }
        all
    }
}

/// An address of a range that isn't among the others.
pub(crate) fn free(range: (IpAddr, IpAddr), taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let mut address = range.0;
    while taken.contains(&address) {
        if address == range.1 {
            return None;
        }
        address = next(address);
    }
    Some(address)
}

/// The fewest networks that these ranges are, which are in order.
pub(crate) fn networks(ranges: &[(IpAddr, IpAddr)]) -> Vec<IpNet> {
    let subnets = ranges.iter().flat_map(|range| -> Vec<IpNet> {
        match *range {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
            }
            _ => Vec::new(),
        }
    });
    IpNet::aggregate(&subnets.collect())
}

/// The blocks that a policy's rules name.
fn blocks(policy: &Policy) -> impl Iterator<Item = &IpBlock> {
    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
    let peers = rules.filter_map(|rule| match &rule.peers {
        Peers::Of(peers) => Some(peers),
        Peers::Anyone => None,
    });
    peers.flatten().filter_map(|peer| match peer {
        Peer::Block(block) => Some(block),
        Peer::Pods(_) => None,
    })
}

fn zero(v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn top(v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::BROADCAST.into() } else { Ipv6Addr::from_bits(u128::MAX).into() }
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().wrapping_add(1)).into(),
    }
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().wrapping_sub(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().wrapping_sub(1)).into(),
    }
}

#[cfg(test)]
mod tests {
    use selvedge_policy::{PolicyKey, read};
    use serde_json::json;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn regions() -> Regions {
        let key = PolicyKey { namespace: "x".to_owned(), name: "p".to_owned() };
        let from = json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            {"ipBlock": {"cidr": "255.255.255.0/24"}}]);
        Regions::of([&read(key, &json!({"podSelector": {}, "ingress": [{"from": from}]})).unwrap()])
    }

    #[test]
    fn regions_are_cut_where_blocks_begin_and_end() {
        let all: Vec<String> =
            regions().all().iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let expected = [
            "0.0.0.0-9.255.255.255",
            "10.0.0.0-10.0.255.255",
            "10.1.0.0-10.1.255.255",
            "10.2.0.0-10.255.255.255",
            "11.0.0.0-255.255.254.255",
            "255.255.255.0-255.255.255.255",
            "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        assert_eq!(all, expected);
        let place = |text| regions().place(address(text)).to_string();
        assert_eq!(["10.1.2.3", "9.9.9.9", "fd00::1"].map(place), ["10.1.0.0", "0.0.0.0", "::"]);
    }

    #[test]
    fn a_region_that_is_full_has_no_free_address() {
        let taken = BTreeSet::from(["10.0.0.0", "10.0.0.1"].map(address));
        let of = |last| free((address("10.0.0.0"), address(last)), &taken);
        assert_eq!((of("10.0.0.1"), of("10.0.0.2")), (None, Some(address("10.0.0.2"))));
    }

    #[test]
    fn ranges_are_told_as_the_fewest_networks() {
        let ranges = [("10.0.0.0", "10.0.255.255"), ("10.1.0.0", "10.1.255.255"), ("::", "::1")];
        let ranges = ranges.map(|(first, last)| (address(first), address(last)));
        let told: Vec<String> = networks(&ranges).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["10.0.0.0/15", "::/127"]);
    }
}
