//! Whose nets an address is in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// The nets of all nodes, made once and looked up for every packet. A node is a number here.
#[derive(Debug, Default)]
pub(crate) struct Nets {
    v4: Prefixes,
    v6: Prefixes,
}

/// Nodes by prefixes, the longest first; addresses are the highest bits of a number.
#[derive(Debug, Default)]
struct Prefixes(BTreeMap<Reverse<u8>, BTreeMap<u128, usize>>);

impl Nets {
    /// Gives a node a net; the node that has it already, if that is another.
    pub(crate) fn insert(&mut self, net: IpNet, number: usize) -> Option<usize> {
        let prefixes = if net.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let nets = prefixes.0.entry(Reverse(net.prefix_len())).or_default();
        nets.insert(bits(net.network()), number).filter(|before| *before != number)
    }

    /// The node with the longest prefix of an address.
    pub(crate) fn number(&self, address: IpAddr) -> Option<usize> {
        if address.is_ipv4() { self.v4.longest(bits(address)) } else { self.v6.longest(bits(address)) }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Prefixes {
    fn longest(&self, address: u128) -> Option<usize> {
        self.0.iter().find_map(|(length, nets)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.0)).unwrap_or(0);
            nets.get(&(address & mask)).copied()
        })
    }
}
