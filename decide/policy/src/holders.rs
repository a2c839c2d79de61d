//! Which pods have which address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use selvedge_model::Pod;

/// The pods that have an address, by their addresses; of tens of thousands hardly any has two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holders(BTreeMap<IpAddr, Of>);

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
        match self.0.get(&address) {
            None => &[],
            Some(Of::One(pod)) => slice::from_ref(pod),
            Some(Of::Several(pods)) => pods,
        }
    }

    /// The addresses that somebody has.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.keys().copied()
    }

    fn put(&mut self, address: IpAddr, pods: Vec<Arc<Pod>>) {
        match &pods[..] {
            [] => drop(self.0.remove(&address)),
            [one] => drop(self.0.insert(address, Of::One(Arc::clone(one)))),
            _ => drop(self.0.insert(address, Of::Several(pods))),
        }
    }
}
