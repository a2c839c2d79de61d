//! What is told of packets to whoever listens to [`LOG_GROUP`] of the netfilter log, and how often.
//!
//! A pod's packets that its own chain decides about are told as often as its own share allows, by an element of its
//! address in a dynamic set; the others, which no one pod stands for, share one limit. What isn't told is still counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use selvedge_model::Log;
use selvedge_ruleset::matching::{nfproto, saddr};
use selvedge_ruleset::rule::{counter, drop, goto, limit, log, return_, update_limited};
use selvedge_ruleset::{
    Chain, ChainName, Field, IpVersion, Limit, LogPrefix, Rule, Set, SetName, Statement, Table, rule,
};

use selvedge_model::policy::Direction;

/// The group of the netfilter log that everything is told to.
pub const LOG_GROUP: u16 = 83;

/// What a packet is told as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tale {
    /// No rule of the policies that isolate a pod admits it.
    Denied(Direction),
    /// No rule of the shadows that would isolate a pod admits it. It passes.
    WouldDeny(Direction),
    /// It passes at a pod.
    Allowed(Direction),
    /// It is of a pod that no source has shown.
    Unseen,
    /// It opens no connection and belongs to none.
    Stray,
    /// Its flow was allowed once.
    Revoked,
    /// A pod has sent it from an address that isn't known to be its own.
    Foreign,
}

impl Tale {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Denied(Direction::Ingress),
        Self::Denied(Direction::Egress),
        Self::WouldDeny(Direction::Ingress),
        Self::WouldDeny(Direction::Egress),
        Self::Allowed(Direction::Ingress),
        Self::Allowed(Direction::Egress),
        Self::Unseen,
        Self::Stray,
        Self::Revoked,
        Self::Foreign,
    ];

    /// What it is told with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Denied(Direction::Ingress) => "selvedge denied ingress ",
            Self::Denied(Direction::Egress) => "selvedge denied egress ",
            Self::WouldDeny(Direction::Ingress) => "selvedge would deny ingress ",
            Self::WouldDeny(Direction::Egress) => "selvedge would deny egress ",
            Self::Allowed(Direction::Ingress) => "selvedge allowed ingress ",
            Self::Allowed(Direction::Egress) => "selvedge allowed egress ",
            Self::Unseen => "selvedge unseen ",
            Self::Stray => "selvedge stray ",
            Self::Revoked => "selvedge revoked ",
            Self::Foreign => "selvedge foreign ",
        }
    }

    /// What is told with that; `None` if it is nothing of ours.
    pub fn told_with(prefix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tale| tale.prefix() == prefix)
    }

    fn statement(self) -> Statement {
        log(LogPrefix::new(self.prefix()).unwrap_or_default(), LOG_GROUP)
    }
}

/// The pods of which something was told lately, by what it was: where much passes, what is denied is told all the same.
const DENIED: super::Pair = super::Pair(SetName::literal("told-denied4"), SetName::literal("told-denied6"));
const ALLOWED: super::Pair =
    super::Pair(SetName::literal("told-allowed4"), SetName::literal("told-allowed6"));

/// How many pods' there is room for.
const ROOM: NonZeroU32 = NonZeroU32::new(1 << 12).expect("not zero");
/// After how long it doesn't matter any more what a pod has sent: its share is whole again by then.
const LASTS: Duration = Duration::from_secs(60);

const OF_DENIED: Limit = per_second(1, 10);
const OF_ALLOWED: Limit = per_second(10, 100);
/// What no one pod stands for: all of it together.
const OF_OTHERS: Limit = per_second(5, 20);

const fn per_second(rate: u32, burst: u32) -> Limit {
    let (rate, burst) = (NonZeroU32::new(rate), NonZeroU32::new(burst));
    Limit::per_second(rate.expect("not zero"), burst.expect("not zero"))
}

/// `fe80::/10`
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// Where strays are dropped.
pub(super) const STRAYS: ChainName = ChainName::literal("strays");

/// The chain in which something of a pod is told, and what is denied dropped.
fn chain(tale: Tale) -> Option<ChainName> {
    Some(match tale {
        Tale::Denied(Direction::Ingress) => ChainName::literal("denied-ingress"),
        Tale::Denied(Direction::Egress) => ChainName::literal("denied-egress"),
        Tale::WouldDeny(Direction::Ingress) => ChainName::literal("would-deny-ingress"),
        Tale::WouldDeny(Direction::Egress) => ChainName::literal("would-deny-egress"),
        Tale::Allowed(Direction::Ingress) => ChainName::literal("allowed-ingress"),
        Tale::Allowed(Direction::Egress) => ChainName::literal("allowed-egress"),
        Tale::Unseen | Tale::Stray | Tale::Revoked | Tale::Foreign => return None,
    })
}

/// How a rule ends by which something is decided about a packet at a pod of a namespace with that mode.
pub(super) fn ends(mode: Log, tale: Tale) -> Statement {
    let is_told = match mode {
        Log::Off => false,
        Log::Denied => !matches!(tale, Tale::Allowed(_)),
        Log::All => true,
    };
    match (chain(tale).filter(|_| is_told), tale) {
        (Some(chain), _) => goto(&chain),
        (None, Tale::WouldDeny(_) | Tale::Allowed(_)) => return_(),
        (None, _) => drop(),
    }
}

/// Tells of a pod's packets, as often as its share allows; what is denied goes no further.
fn tells(tale: Tale, direction: Direction) -> Chain {
    let [own4, own6] = match direction {
        Direction::Ingress => [Field::IpDaddr, Field::Ip6Daddr],
        Direction::Egress => [Field::IpSaddr, Field::Ip6Saddr],
    };
    let (sets, limit) =
        if let Tale::Allowed(_) = tale { (&ALLOWED, OF_ALLOWED) } else { (&DENIED, OF_DENIED) };
    let told = |own, set| rule![update_limited([own], set, (LASTS, limit)), tale.statement()];
    let told = [told(own4, &sets.0), told(own6, &sets.1)];
    let dropped = if let Tale::Denied(_) = tale { Some(rule![drop()]) } else { None };
    Chain::regular(told.into_iter().chain(dropped))
}

/// Tells of something that no one pod stands for.
pub(super) fn of_others(tale: Tale) -> Rule {
    rule![limit(OF_OTHERS), tale.statement()]
}

/// Tells of what a pod has sent from an address that isn't known to be its own. What a kernel sends by itself before it
/// has an address, or without one, is nothing to tell.
pub(super) fn of_foreign() -> [Rule; 2] {
    let nobody = IpNet::from(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let told = [rule![nfproto(IpVersion::V4)], rule![!saddr(LINK_LOCAL), !saddr(nobody)]];
    told.map(|rule| rule.then(limit(OF_OTHERS)).then(Tale::Foreign.statement()))
}

/// The chains that tell, and the sets by which they tell no more than they may.
pub(super) fn put(table: Table) -> Table {
    let dropped = rule![counter(), drop()].comment("opens no connection and belongs to none");
    let mut table = table.chain(STRAYS, Chain::regular([of_others(Tale::Stray), dropped]));
    for direction in Direction::ALL {
        for tale in [Tale::Denied(direction), Tale::WouldDeny(direction), Tale::Allowed(direction)] {
            table.chains.extend(chain(tale).map(|name| (name, tells(tale, direction))));
        }
    }
    let table =
        table.set(DENIED.0, Set::dynamic::<Ipv4Addr>(ROOM)).set(DENIED.1, Set::dynamic::<Ipv6Addr>(ROOM));
    table.set(ALLOWED.0, Set::dynamic::<Ipv4Addr>(ROOM)).set(ALLOWED.1, Set::dynamic::<Ipv6Addr>(ROOM))
}

/// The same table without anything that is told: a kernel without the netfilter log would refuse it as a whole.
pub(super) fn mute(mut table: Table) -> Table {
    let tells =
        |rule: &Rule| rule.statements().iter().any(|statement| matches!(statement, Statement::Log(_)));
    table
        .chains
        .values_mut()
        .for_each(|chain| chain.rules = chain.rules.iter().filter(|rule| !tells(rule)).cloned().collect());
    [DENIED, ALLOWED].iter().for_each(|sets| {
        table.sets.remove(&sets.0);
        table.sets.remove(&sets.1);
    });
    table
}
