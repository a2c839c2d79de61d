//! Flows that were allowed once, cut before the rule by which established ones pass.
//!
//! Deleting what connection tracking has of a flow doesn't cut it: the next packet, of either end, is tracked as a new
//! flow, and where it is the one who answers that sends it, policy may well allow that. So packets of both directions
//! are dropped for as long as any come, and a while after the last.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use selvedge_ruleset::matching::CtStates;
use selvedge_ruleset::matching::{TcpFlags, ct_state, in_set, l4proto, tcp_flags};
use selvedge_ruleset::rule::{counter, drop, goto, update};
use selvedge_ruleset::{Chain, ChainName, Field, IpVersion, L4Proto, Rule, Set, SetName, Table, rule};

use super::log::{self, Tale};

/// The sets of revoked flows: of protocols with ports by addresses, protocol and ports as the forward hook sees them, of
/// others by addresses and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Revoked {
    Flows(IpVersion),
    Portless(IpVersion),
}

/// How long a flow must be silent to be forgotten.
pub(crate) const LASTS: Duration = Duration::from_secs(60);
/// The directions of flows that there is room for: as many as most kernels track flows.
const ROOM: NonZeroU32 = NonZeroU32::new(1 << 17).expect("not zero");
const ROOM_PORTLESS: NonZeroU32 = NonZeroU32::new(1 << 12).expect("not zero");

/// Where packets of revoked flows are dropped.
const REVOKED: ChainName = ChainName::literal("revoked");

/// Where pods are led that are isolated, but not in that direction.
pub(super) const HALF_ISOLATED: ChainName = ChainName::literal("half-isolated");

impl Revoked {
    pub(crate) const ALL: [Self; 4] = [
        Self::Flows(IpVersion::V4),
        Self::Flows(IpVersion::V6),
        Self::Portless(IpVersion::V4),
        Self::Portless(IpVersion::V6),
    ];

    pub(crate) const fn name(self) -> SetName {
        match self {
            Self::Flows(IpVersion::V4) => SetName::literal("revoked4"),
            Self::Flows(IpVersion::V6) => SetName::literal("revoked6"),
            Self::Portless(IpVersion::V4) => SetName::literal("revoked-portless4"),
            Self::Portless(IpVersion::V6) => SetName::literal("revoked-portless6"),
        }
    }

    /// The set, which is empty as far as anybody desires it.
    pub(crate) fn set(self) -> Set {
        match self {
            Self::Flows(IpVersion::V4) => Set::dynamic::<(Ipv4Addr, Ipv4Addr, L4Proto, u16, u16)>(ROOM),
            Self::Flows(IpVersion::V6) => Set::dynamic::<(Ipv6Addr, Ipv6Addr, L4Proto, u16, u16)>(ROOM),
            Self::Portless(IpVersion::V4) => Set::dynamic::<(Ipv4Addr, Ipv4Addr, L4Proto)>(ROOM_PORTLESS),
            Self::Portless(IpVersion::V6) => Set::dynamic::<(Ipv6Addr, Ipv6Addr, L4Proto)>(ROOM_PORTLESS),
        }
    }

    /// The rule that drops what is in it.
    fn rule(self) -> Rule {
        let (Self::Flows(version) | Self::Portless(version)) = self;
        let [from, to] = match version {
            IpVersion::V4 => [Field::IpSaddr, Field::IpDaddr],
            IpVersion::V6 => [Field::Ip6Saddr, Field::Ip6Daddr],
        };
        match self {
            Self::Flows(_) => {
                let key = [from, to, Field::L4Proto, Field::ThSport, Field::ThDport];
                cut(Rule::default(), key, &self.name())
            }
            Self::Portless(_) => {
                // What most packets are isn't looked up twice.
                let others = rule![!l4proto(L4Proto::TCP), !l4proto(L4Proto::UDP)];
                cut(others, [from, to, Field::L4Proto], &self.name())
            }
        }
    }
}

/// The sets, and the chain of what is isolated the other way.
pub(super) fn put(table: Table) -> Table {
    let table = Revoked::ALL.into_iter().fold(table, |table, which| table.set(which.name(), which.set()));
    let revoked = rule![drop()].comment("was allowed, and is no longer");
    let table = table.chain(REVOKED, Chain::regular([log::of_others(Tale::Revoked), revoked]));
    table.chain(HALF_ISOLATED, Chain::regular([refuses_strays()]))
}

/// The rules by which they are cut.
pub(super) fn rules() -> impl Iterator<Item = Rule> {
    Revoked::ALL.into_iter().map(Revoked::rule)
}

fn cut<const N: usize>(rule: Rule, key: [Field; N], set: &SetName) -> Rule {
    let rule = rule.then(in_set(key, set)).then(update(key, set, LASTS));
    rule.then(counter()).then(goto(&REVOKED)).comment("was allowed, and is no longer")
}

/// A connection that isn't tracked goes nowhere at an isolated pod unless it is opened anew: who takes it up in the
/// middle may be the one who answers.
pub(super) fn refuses_strays() -> Rule {
    let handshake = TcpFlags::FIN.or(TcpFlags::SYN).or(TcpFlags::RST).or(TcpFlags::ACK);
    let opens = tcp_flags(TcpFlags::SYN, handshake);
    rule![ct_state(CtStates::NEW), !opens, goto(&log::STRAYS)]
        .comment("opens no connection and belongs to none")
}
