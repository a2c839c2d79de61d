//! Sets of those whom rules admit, each made once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use selvedge_model::{Labels, Pod, Transport};
use selvedge_ruleset::matching::{End, Match, daddr, in_set, nfproto, saddr};
use selvedge_ruleset::{ChainName, Field, IpVersion, L4Proto, Set, SetName, Table};
use sha2::{Digest, Sha256};

use super::blocks::{left, net4, net6, v4, v6};
use crate::cluster::Cluster;
use selvedge_model::policy::{Direction, IpBlock, Namespaces, Peer, Peers, PodPeer, PortName};

/// Chains and sets under way.
pub(super) struct Compiler<'a> {
    pub(super) cluster: &'a Cluster,
    /// The pods that addresses lead to, by namespace and labels: selectors can't tell those apart that have both alike.
    alike: BTreeMap<&'a str, BTreeMap<&'a Labels, Vec<&'a Pod>>>,
    pub(super) table: Table,
}

/// Somebody whom a rule admits, or anybody.
#[derive(Debug, Clone, Copy)]
pub(super) enum Admitted<'a> {
    Anyone,
    /// Pods, seen from a namespace.
    Pods(&'a str, &'a PodPeer),
    Block(&'a IpBlock),
}

impl<'a> Admitted<'a> {
    /// Those whom a rule of a policy in that namespace admits.
    pub(super) fn all(own: &'a str, peers: &'a Peers) -> Vec<Self> {
        let one = |peer: &'a Peer| match peer {
            Peer::Pods(peer) => Self::Pods(own, peer),
            Peer::Block(block) => Self::Block(block),
        };
        match peers {
            Peers::Anyone => vec![Self::Anyone],
            Peers::Of(peers) => peers.iter().map(one).collect(),
        }
    }

    /// What tells it from others.
    fn identity(&self) -> String {
        match self {
            // Where the namespace is chosen by its labels, it doesn't matter who asks.
            Self::Pods(_, peer @ PodPeer { namespaces: Namespaces::Labelled(_), .. }) => format!("{peer:?}"),
            other => format!("{other:?}"),
        }
    }
}

impl<'a> Compiler<'a> {
    pub(super) fn new(cluster: &'a Cluster, table: Table) -> Self {
        let mut alike: BTreeMap<&str, BTreeMap<&Labels, Vec<&Pod>>> = BTreeMap::new();
        for pod in cluster.pods().values().filter(|pod| Cluster::is_judged(pod)) {
            alike.entry(&pod.key.namespace).or_default().entry(&pod.labels).or_default().push(pod);
        }
        Self { cluster, alike, table }
    }

    pub(super) fn finish(self) -> Table {
        self.table
    }

    /// Puts a set into the table unless it is there.
    pub(super) fn put(&mut self, name: SetName, set: impl FnOnce() -> Set) -> SetName {
        if !self.table.sets.contains_key(&name) {
            self.table.sets.insert(name.clone(), set());
        }
        name
    }

    /// Matches for what is from them, or to them: one of these has to hold.
    pub(super) fn matches(&mut self, admitted: Admitted<'a>, end: End) -> Vec<Vec<Match>> {
        let of = |net| if end == End::Source { saddr(net) } else { daddr(net) };
        let [field4, field6] = match end {
            End::Source => [Field::IpSaddr, Field::Ip6Saddr],
            End::Destination => [Field::IpDaddr, Field::Ip6Daddr],
        };
        match admitted {
            Admitted::Anyone => vec![Vec::new()],
            Admitted::Pods(..) => {
                let [name4, name6] = ["peers4", "peers6"].map(|kind| set_name(kind, &admitted.identity()));
                if !self.table.sets.contains_key(&name4) {
                    let addresses = self.addresses(admitted);
                    self.put(name4.clone(), || Set::of(addresses.iter().filter_map(|a| v4(*a))));
                    self.put(name6.clone(), || Set::of(addresses.iter().filter_map(|a| v6(*a))));
                }
                vec![vec![in_set([field4], &name4)], vec![in_set([field6], &name6)]]
            }
            Admitted::Block(block) if block.except().is_empty() => {
                let version = if block.cidr().addr().is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
                let is_all = block.cidr().prefix_len() == 0;
                vec![vec![if is_all { nfproto(version) } else { of(block.cidr()) }]]
            }
            Admitted::Block(block) => {
                let is_v4 = block.cidr().addr().is_ipv4();
                let ranges = || match is_v4 {
                    true => Set::of(left(block).into_iter().filter_map(net4)),
                    false => Set::of(left(block).into_iter().filter_map(net6)),
                };
                let name = self.put(set_name("block", &admitted.identity()), ranges);
                vec![vec![in_set([if is_v4 { field4 } else { field6 }], &name)]]
            }
        }
    }

    /// Matches for what is to them, at the port that each of them calls so.
    pub(super) fn named(
        &mut self,
        admitted: Admitted<'a>,
        name: &PortName,
        transport: Transport,
    ) -> Vec<Vec<Match>> {
        let identity = format!("{} {} {transport}", admitted.identity(), name.as_str());
        let [name4, name6] = ["named4", "named6"].map(|kind| set_name(kind, &identity));
        if !self.table.sets.contains_key(&name4) {
            let proto = proto_of(transport);
            let port = |address: &IpAddr| {
                let mut ports =
                    self.cluster.with_address(*address).map(|pod| pod.port_named(name.as_str(), transport));
                let first = ports.next()??;
                ports.all(|port| port == Some(first)).then_some((*address, first.get()))
            };
            let targets: Vec<(IpAddr, u16)> = self.addresses(admitted).iter().filter_map(port).collect();
            let of4 = targets.iter().filter_map(|(address, port)| Some((v4(*address)?, proto, *port)));
            let of6 = targets.iter().filter_map(|(address, port)| Some((v6(*address)?, proto, *port)));
            let (set4, set6) = (Set::of(of4), Set::of(of6));
            self.put(name4.clone(), || set4);
            self.put(name6.clone(), || set6);
        }
        let key = |address| [address, Field::L4Proto, Field::ThDport];
        vec![vec![in_set(key(Field::IpDaddr), &name4)], vec![in_set(key(Field::Ip6Daddr), &name6)]]
    }

    /// The addresses of pods that are meant. One that several pods have is among them if all of them are.
    fn addresses(&self, admitted: Admitted<'a>) -> Vec<IpAddr> {
        let cluster = self.cluster;
        match admitted {
            Admitted::Anyone => cluster.addresses().collect(),
            Admitted::Block(block) => {
                cluster.addresses().filter(|address| block.contains(*address)).collect()
            }
            Admitted::Pods(own, peer) => {
                let is_namespace_meant =
                    |namespace: &str| cluster.is_namespace_meant(namespace, own, &peer.namespaces);
                let namespaces = self.alike.iter().filter(|(namespace, _)| is_namespace_meant(namespace));
                let meant =
                    namespaces.flat_map(|(_, pods)| pods).filter(|(labels, _)| peer.pods.selects(labels));
                let pods = meant.flat_map(|(_, pods)| pods);
                let addresses = pods.flat_map(|pod| pod.addresses.iter().copied());
                let is_each_meant = |address: &IpAddr| {
                    let has_one = cluster.with_address(*address).nth(1).is_none();
                    has_one || cluster.with_address(*address).all(|pod| cluster.is_meant(pod, own, peer))
                };
                addresses.filter(is_each_meant).collect()
            }
        }
    }
}

/// The protocol's number.
pub(super) fn proto_of(transport: Transport) -> L4Proto {
    match transport {
        Transport::Tcp => L4Proto::TCP,
        Transport::Udp => L4Proto::UDP,
        Transport::Sctp => L4Proto::SCTP,
    }
}

pub(super) fn set_name(kind: &str, identity: &str) -> SetName {
    SetName::listed(format!("{kind}-{}", hash(identity)))
}

pub(super) fn chain_name(direction: Direction, identity: &impl Debug) -> ChainName {
    ChainName::listed(format!("{direction}-{}", hash(&format!("{identity:?}"))))
}

/// 16 characters of base32 over SHA-256: 80 bits.
fn hash(identity: &str) -> String {
    let mut text = data_encoding::BASE32_NOPAD.encode(&Sha256::digest(identity.as_bytes()));
    text.truncate(16);
    text.make_ascii_lowercase();
    text
}
