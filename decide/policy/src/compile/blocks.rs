//! Addresses and networks, family by family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use selvedge_model::policy::IpBlock;

pub(super) fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

pub(super) fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}

pub(super) fn net4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

pub(super) fn net6(net: IpNet) -> Option<Ipv6Net> {
    match net {
        IpNet::V4(_) => None,
        IpNet::V6(net) => Some(net),
    }
}

/// The networks that a block's exceptions leave of it.
pub(super) fn left(block: &IpBlock) -> Vec<IpNet> {
    let mut left = vec![block.cidr()];
    for except in block.except() {
        left = left.into_iter().flat_map(|net| without(net, *except)).collect();
    }
    left
}

/// A network without a part of it: at most one network for each bit by which the part is longer.
fn without(net: IpNet, part: IpNet) -> Vec<IpNet> {
    if part.contains(&net) {
        return Vec::new();
    }
    if !net.contains(&part) {
        return vec![net];
    }
    let halves = net.subnets(net.prefix_len() + 1).into_iter().flatten();
    halves.flat_map(|half| without(half, part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_block_is_what_it_contains() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let block = IpBlock::new(net("10.0.0.0/24"), ["10.0.0.128/25", "10.0.0.5/32"].map(net)).unwrap();
        let left = left(&block);
        for last in 0..=255 {
            let address = IpAddr::from([10, 0, 0, last]);
            let contained = left.iter().filter(|net| net.contains(&address)).count();
            assert_eq!(contained == 1, block.contains(address), "{address}");
            assert!(contained <= 1);
        }
        assert_eq!(left.len(), 7);
        let all = IpBlock::new(net("::/0"), [net("fd00::1/128")]).unwrap();
        assert_eq!(super::left(&all).len(), 128);
    }
}
