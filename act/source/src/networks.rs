//! Pod networks, none overlapping another.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// The pod networks so far and whose each is, by their first address.
#[derive(Debug)]
pub(crate) struct Networks<O>(BTreeMap<IpAddr, (IpNet, O)>);

impl<O> Default for Networks<O> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<O> Networks<O> {
    /// Takes a network for somebody; fails with the network that it overlaps and whose that is.
    pub(crate) fn claim(&mut self, cidr: IpNet, owner: O) -> Result<(), &(IpNet, O)> {
        if self.overlapping(cidr).is_none() {
            self.0.insert(cidr.network(), (cidr, owner));
            return Ok(());
        }
        self.overlapping(cidr).map_or(Ok(()), Err)
    }

    /// Gives a network back that was taken.
    pub(crate) fn release(&mut self, cidr: IpNet) {
        self.0.remove(&cidr.network());
    }

    fn overlapping(&self, cidr: IpNet) -> Option<&(IpNet, O)> {
        let before = self.0.range(..=cidr.network()).next_back().map(|(_, taken)| taken);
        let within = self.0.range(cidr.network()..=cidr.broadcast()).next().map(|(_, taken)| taken);
        before.filter(|(net, _)| net.contains(&cidr.network())).or(within)
    }
}
