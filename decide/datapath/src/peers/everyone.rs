//! What all nodes have and wish for, by what it is.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::transport::Choice;
use selvedge_model::{Node, NodeName, Nodes, Sorted};

/// What all nodes have and wish for. It is followed from one cluster to the next: only what has changed is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Everyone {
    pub(super) nodes: Nodes,
    /// Whose each address is; two nodes may claim the same.
    holders: Sorted<(IpAddr, NodeName)>,
    /// The addresses, each once.
    pub(super) addresses: Sorted<IpAddr>,
    /// Whose each pod CIDR is, without host bits; two nodes may claim the same.
    pub(super) pod_cidrs: Sorted<(IpNet, NodeName)>,
    wishes: Sorted<(Choice, NodeName)>,
    without_v4: Sorted<NodeName>,
}

impl Everyone {
    /// Takes the nodes as they are now.
    pub(super) fn follow(&mut self, now: &Nodes) {
        let before = std::mem::replace(&mut self.nodes, now.clone());
        for (_, node) in before.difference(now) {
            self.forget(node);
        }
        let come = || now.difference(&before).map(|(_, node)| node);
        self.holders.extend(come().flat_map(holdings));
        self.addresses.extend(come().flat_map(|node| node.addresses.iter().copied()));
        self.pod_cidrs.extend(come().flat_map(claims));
        self.wishes.extend(come().filter_map(wish));
        self.without_v4.extend(come().filter(|node| is_without_v4(node)).map(|node| node.name.clone()));
    }

    fn forget(&mut self, node: &Node) {
        for holding in holdings(node) {
            self.holders.remove(&holding);
            let is_held = self.holders.like(|(address, _)| address.cmp(&holding.0)).next().is_some();
            if !is_held {
                self.addresses.remove(&holding.0);
            }
        }
        claims(node).for_each(|claim| _ = self.pod_cidrs.remove(&claim));
        wish(node).map(|wish| self.wishes.remove(&wish));
        self.without_v4.remove(&node.name);
    }

    /// A node's address within a network.
    pub(super) fn address_in(&self, net: IpNet) -> Option<IpAddr> {
        let place = |address: &IpAddr| match *address {
            address if address < net.network() => Ordering::Less,
            address if address > net.broadcast() => Ordering::Greater,
            _ => Ordering::Equal,
        };
        self.addresses.like(place).next().copied()
    }

    /// Who claims a pod CIDR.
    pub(super) fn who_claims(&self, pod_cidr: IpNet) -> impl Iterator<Item = &NodeName> {
        let pod_cidr = pod_cidr.trunc();
        self.pod_cidrs.like(move |(other, _)| other.cmp(&pod_cidr)).map(|(_, name)| name)
    }

    /// True if an address is within somebody's pod CIDR.
    pub(super) fn is_covered(&self, address: IpAddr) -> bool {
        let mut nets = (0..=128).map_while(|length| IpNet::new(address, length).ok());
        nets.any(|net| self.who_claims(net).next().is_some())
    }

    /// True if anybody wishes for that.
    pub(super) fn wishes_for(&self, choice: Choice) -> bool {
        self.wishes.like(|(other, _)| other.cmp(&choice)).next().is_some()
    }

    /// True if every node has an IPv4 address.
    pub(super) fn have_v4(&self) -> bool {
        self.without_v4.is_empty()
    }
}

fn holdings(node: &Node) -> impl Iterator<Item = (IpAddr, NodeName)> {
    node.addresses.iter().map(|address| (*address, node.name.clone()))
}

fn claims(node: &Node) -> impl Iterator<Item = (IpNet, NodeName)> {
    node.pod_cidrs.iter().map(|net| (net.trunc(), node.name.clone()))
}

fn wish(node: &Node) -> Option<(Choice, NodeName)> {
    node.transport.map(|choice| (choice, node.name.clone()))
}

fn is_without_v4(node: &Node) -> bool {
    !node.addresses.iter().any(IpAddr::is_ipv4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use selvedge_model::transport::Transport;

    use super::*;

    /// Nodes among which addresses and pod CIDRs are claimed twice and lie within each other.
    fn nodes() -> impl Strategy<Value = Nodes> {
        let address = (0..6u8, any::<bool>()).prop_map(|(number, v4)| match v4 {
            true => IpAddr::from([10, 0, number % 3, number]),
            false => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]),
        });
        let pod_cidr = (0..5u8, prop::sample::select(vec![8, 23, 24, 32]))
            .prop_map(|(number, length)| IpNet::new(IpAddr::from([10, 0, number, 0]), length).unwrap());
        let wish = prop::option::of(prop::sample::select(vec![Choice::Auto, Choice::Of(Transport::Udp)]));
        let lists = (prop::collection::vec(pod_cidr, 0..3), prop::collection::vec(address, 0..3), wish);
        prop::collection::btree_map(0..8u8, lists, 0..8).prop_map(|all| {
            let node = |(number, (pod_cidrs, addresses, transport)): (u8, _)| {
                let name: NodeName = format!("node-{number}").parse().unwrap();
                (name.clone(), Node { transport, ..Node::new(name, pod_cidrs, addresses) })
            };
            all.into_iter().map(node).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_followed_is_what_would_be_made_anew(all in prop::collection::vec(nodes(), 1..6)) {
            let mut followed = Everyone::default();
            for nodes in all {
                followed.follow(&nodes);
                let mut anew = Everyone::default();
                anew.follow(&nodes);
                prop_assert_eq!(&followed, &anew);
                let every = || nodes.values();
                let udp = Choice::Of(Transport::Udp);
                prop_assert_eq!(followed.wishes_for(udp), every().any(|node| node.transport == Some(udp)));
                let has_v4 = |node: &Node| node.addresses.iter().any(IpAddr::is_ipv4);
                prop_assert_eq!(followed.have_v4(), every().all(has_v4));
                let mut addresses: Vec<IpAddr> = every().flat_map(|node| node.addresses.clone()).collect();
                addresses.sort();
                addresses.dedup();
                prop_assert!(followed.addresses.iter().eq(&addresses));
                let nets = || every().flat_map(|node| &node.pod_cidrs);
                for net in nets() {
                    let within = addresses.iter().copied().find(|address| net.contains(address));
                    prop_assert_eq!(followed.address_in(*net), within);
                    let claims = |node: &&Node| node.pod_cidrs.iter().any(|other| other.trunc() == net.trunc());
                    let claimants = every().filter(claims).map(|node| &node.name);
                    prop_assert!(followed.who_claims(*net).eq(claimants));
                }
                for address in addresses {
                    prop_assert_eq!(followed.is_covered(address), nets().any(|net| net.contains(&address)));
                }
            }
        }
    }
}
