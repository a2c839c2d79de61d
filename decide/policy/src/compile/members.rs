//! Who is in a set: found once, and then looked after.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use selvedge_model::{Pod, Transport};
use selvedge_ruleset::set::{Data, Key, SetKey};
use selvedge_ruleset::{Element, L4Proto, Set};

use super::blocks::{v4, v6};
use super::peers::{Admitted, proto_of};
use crate::cluster::Cluster;
use selvedge_model::policy::{IpBlock, PodPeer, PortName};

/// Whose addresses are in a set of one family.
#[derive(Debug, Clone)]
pub(super) struct Members {
    is_v4: bool,
    whose: Whose,
    /// The name of the port that goes with each address.
    port: Option<(PortName, Transport)>,
}

#[derive(Debug, Clone)]
enum Whose {
    Anyones,
    Pods(String, PodPeer),
    Block(IpBlock),
}

/// The pods that have an address, in their cluster.
type Held<'a> = (&'a Cluster, &'a [Arc<Pod>]);

/// An address whose pods, or their namespaces, are not as they were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Concerned<'a> {
    address: IpAddr,
    before: Held<'a>,
    now: Held<'a>,
}

impl<'a> Concerned<'a> {
    pub(super) fn new((before, now): (&'a Cluster, &'a Cluster), address: IpAddr) -> Self {
        let held = |cluster: &'a Cluster| (cluster, cluster.holders(address));
        Self { address, before: held(before), now: held(now) }
    }
}

impl Members {
    pub(super) fn of(is_v4: bool, admitted: Admitted<'_>, port: Option<(&PortName, Transport)>) -> Self {
        let whose = match admitted {
            Admitted::Anyone => Whose::Anyones,
            Admitted::Pods(own, peer) => Whose::Pods(own.to_owned(), peer.clone()),
            Admitted::Block(block) => Whose::Block(block.clone()),
        };
        Self { is_v4, whose, port: port.map(|(name, transport)| (name.clone(), transport)) }
    }

    /// The set as a whole.
    pub(super) fn set(&self, cluster: &Cluster) -> Set {
        let held = |address| (cluster, cluster.holders(address));
        let addresses = self.addresses(cluster).into_iter();
        let keys = addresses.filter_map(|address| self.key(held(address), address));
        let empty = match (self.is_v4, &self.port) {
            (true, None) => Set::of::<Ipv4Addr>([]),
            (false, None) => Set::of::<Ipv6Addr>([]),
            (true, Some(_)) => Set::of::<(Ipv4Addr, L4Proto, u16)>([]),
            (false, Some(_)) => Set::of::<(Ipv6Addr, L4Proto, u16)>([]),
        };
        empty.edited(keys.map(|key| (key, Some(element()))))
    }

    /// What has changed of an address.
    pub(super) fn edits(
        &self,
        concerned: &Concerned<'_>,
    ) -> impl Iterator<Item = (Key, Option<Element>)> + use<> {
        let Concerned { address, before, now } = concerned;
        let (then, now) = (self.key(*before, *address), self.key(*now, *address));
        let gone = then.filter(|then| now.as_ref() != Some(then));
        gone.map(|key| (key, None)).into_iter().chain(now.map(|key| (key, Some(element()))))
    }

    /// The element by which the set holds the address, if it does. An address that several pods have is in it if all of
    /// them are meant, and call the same port so.
    fn key(&self, (cluster, pods): Held<'_>, address: IpAddr) -> Option<Key> {
        if address.is_ipv4() != self.is_v4 || !self.means((cluster, pods), address) {
            return None;
        }
        let Some((name, transport)) = &self.port else {
            return v4(address).map(SetKey::parts).or_else(|| v6(address).map(SetKey::parts));
        };
        let mut ports = pods.iter().map(|pod| pod.port_named(name.as_str(), *transport));
        let first = ports.next()??;
        let (proto, port) =
            (proto_of(*transport), ports.all(|port| port == Some(first)).then_some(first.get())?);
        let of_v4 = v4(address).map(|address| (address, proto, port).parts());
        of_v4.or_else(|| v6(address).map(|address| (address, proto, port).parts()))
    }

    fn means(&self, (cluster, pods): Held<'_>, address: IpAddr) -> bool {
        !pods.is_empty()
            && match &self.whose {
                Whose::Anyones => true,
                Whose::Pods(own, peer) => pods.iter().all(|pod| cluster.is_meant(pod, own, peer)),
                Whose::Block(block) => block.contains(address),
            }
    }

    /// All addresses that may be in it.
    fn addresses(&self, cluster: &Cluster) -> Vec<IpAddr> {
        let Whose::Pods(own, peer) = &self.whose else { return cluster.addresses().collect() };
        let is_meant = |namespace: &&str| cluster.is_namespace_meant(namespace, own, &peer.namespaces);
        let namespaces = cluster.pods().namespaces().filter(is_meant);
        let pods = namespaces.flat_map(|namespace| cluster.pods().within(namespace));
        let meant = pods.filter(|pod| peer.pods.selects(&pod.labels));
        meant.flat_map(|pod| pod.addresses.iter().copied()).collect()
    }
}

fn element() -> Element {
    Element::from(Data::Nothing)
}
