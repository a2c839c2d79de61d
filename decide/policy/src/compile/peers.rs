//! Sets of those whom rules admit, each made once and then kept up to date.

use std::fmt::Debug;
use std::sync::Arc;

use selvedge_model::Transport;
use selvedge_ruleset::matching::{End, Match, daddr, in_set, nfproto, saddr};
use selvedge_ruleset::{ChainName, Field, IpVersion, L4Proto, Set, SetName};
use sha2::{Digest, Sha256};

use super::blocks::{left, net4, net6};
use super::compiler::Compiler;
use super::members::Members;
use selvedge_model::policy::{Direction, IpBlock, Namespaces, Peer, Peers, PodPeer, PortName};

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

impl Compiler<'_> {
    /// Matches for what is from them, or to them: one of these has to hold.
    pub(super) fn matches(&mut self, admitted: Admitted<'_>, end: End) -> Vec<Vec<Match>> {
        let of = |net| if end == End::Source { saddr(net) } else { daddr(net) };
        let [field4, field6] = match end {
            End::Source => [Field::IpSaddr, Field::Ip6Saddr],
            End::Destination => [Field::IpDaddr, Field::Ip6Daddr],
        };
        match admitted {
            Admitted::Anyone => vec![Vec::new()],
            Admitted::Pods(..) => {
                let [name4, name6] = ["peers4", "peers6"].map(|kind| set_name(kind, &admitted.identity()));
                self.of_members([&name4, &name6], |is_v4| Members::of(is_v4, admitted, None));
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
        admitted: Admitted<'_>,
        name: &PortName,
        transport: Transport,
    ) -> Vec<Vec<Match>> {
        let identity = format!("{} {} {transport}", admitted.identity(), name.as_str());
        let [name4, name6] = ["named4", "named6"].map(|kind| set_name(kind, &identity));
        let members = |is_v4| Members::of(is_v4, admitted, Some((name, transport)));
        self.of_members([&name4, &name6], members);
        let key = |address| [address, Field::L4Proto, Field::ThDport];
        vec![vec![in_set(key(Field::IpDaddr), &name4)], vec![in_set(key(Field::Ip6Daddr), &name6)]]
    }

    /// Puts the sets of members into the table, for IPv4 and IPv6.
    fn of_members(&mut self, names: [&SetName; 2], members: impl Fn(bool) -> Members) {
        for (name, is_v4) in names.into_iter().zip([true, false]) {
            if !self.table.sets.contains_key(name) && !self.keep(name) {
                self.take(name, Arc::new(members(is_v4)));
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
