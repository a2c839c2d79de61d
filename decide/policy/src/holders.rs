//! Which pods have which address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice;
use std::sync::Arc;

use selvedge_model::Pod;

/// The pods that have an address, by their addresses; of tens of thousands hardly any has two. They are kept in blocks of
/// neighbouring addresses, and clones share those that haven't changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holders(Arc<BTreeMap<IpAddr, Arc<Block>>>);

/// Of up to 256 addresses, those that somebody has.
type Block = BTreeMap<IpAddr, Of>;

#[derive(Debug, Clone)]
enum Of {
    One(Arc<Pod>),
    /// In their keys' order.
    Several(Vec<Arc<Pod>>),
}

impl Holders {
    /// The pod has its addresses.
    pub(crate) fn add(&mut self, pod: &Arc<Pod>) {
        for address in &pod.addresses {
            let mut pods = self.of(*address).to_vec();
            if let Err(place) = pods.binary_search_by(|other| other.key.cmp(&pod.key)) {
                pods.insert(place, Arc::clone(pod));
                self.put(*address, pods);
            }
        }
    }

    /// The pod has its addresses no more.
    pub(crate) fn remove(&mut self, pod: &Pod) {
        for address in &pod.addresses {
            let pods = self.of(*address).iter().filter(|other| other.key != pod.key).cloned().collect();
            self.put(*address, pods);
        }
    }

    /// Those who have an address, in their keys' order.
    pub(crate) fn of(&self, address: IpAddr) -> &[Arc<Pod>] {
        match self.0.get(&block(address)).and_then(|block| block.get(&address)) {
            None => &[],
            Some(Of::One(pod)) => slice::from_ref(pod),
            Some(Of::Several(pods)) => pods,
        }
    }

    /// The addresses that somebody has.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.values().flat_map(|block| block.keys().copied())
    }

    fn put(&mut self, address: IpAddr, pods: Vec<Arc<Pod>>) {
        let blocks = Arc::make_mut(&mut self.0);
        let here = Arc::make_mut(blocks.entry(block(address)).or_default());
        match &pods[..] {
            [] => drop(here.remove(&address)),
            [one] => drop(here.insert(address, Of::One(Arc::clone(one)))),
            _ => drop(here.insert(address, Of::Several(pods))),
        }
        if here.is_empty() {
            blocks.remove(&block(address));
        }
    }
}

/// The first address of its block.
fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !0xff).into(),
    }
}
