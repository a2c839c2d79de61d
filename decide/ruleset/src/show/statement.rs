//! Rules, statements and matches.

use std::fmt::{self, Display, Formatter};

use super::element::show_time;
use crate::field::Field;
use crate::logging::{Limit, Log, Per};
use crate::matching::{CtStates, End, IfPattern, Match, TcpFlags, Test, Transport};
use crate::rule::{Rule, Statement, Verdict};
use crate::value::{AddressType, Icmp6Type, IcmpType, IpVersion, PacketType};

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, statement) in self.statements().iter().enumerate() {
            let separator = if i == 0 { "" } else { " " };
            write!(f, "{separator}{statement}")?;
        }
        self.comment_text().map_or(Ok(()), |comment| write!(f, " comment \"{comment}\""))
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(test) => test.fmt(f),
            Self::Counter => f.write_str("counter"),
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::VerdictMap(key, map) => write!(f, "{} vmap @{map}", KeyOf(key)),
            Self::Masquerade { fully_random: false } => f.write_str("masquerade"),
            Self::Masquerade { fully_random: true } => f.write_str("masquerade fully-random"),
            Self::DnatMap(IpVersion::V4, key, map) => write!(f, "dnat ip to {} map @{map}", KeyOf(key)),
            Self::DnatMap(IpVersion::V6, key, map) => write!(f, "dnat ip6 to {} map @{map}", KeyOf(key)),
            Self::Log(log) => log.fmt(f),
            Self::Limit(limit) => limit.fmt(f),
            Self::OneIn(packets) => write!(f, "numgen random mod {packets} 0"),
            Self::Update { key, set, timeout, limit } => {
                write!(f, "update @{set} {{ {} timeout ", KeyOf(key))?;
                show_time(*timeout, f)?;
                limit.map_or(Ok(()), |limit| write!(f, " {limit}"))?;
                f.write_str(" }")
            }
            Self::MarkOr(bits) => write!(f, "meta mark set meta mark | {bits:#010x}"),
            Self::Unknown(words) => write!(f, "<{words}>"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Log {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { prefix, group, snaplen } = self;
        f.write_str("log")?;
        if !prefix.as_str().is_empty() {
            write!(f, " prefix \"{}\"", prefix.as_str())?;
        }
        write!(f, " group {group}")?;
        snaplen.map_or(Ok(()), |bytes| write!(f, " snaplen {bytes}"))
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        /// What nft takes where nothing is said, and leaves out.
        const BURST: u32 = 5;
        let Self { rate, per, burst, over } = self;
        let over = if *over { "over " } else { "" };
        let per = match per {
            Per::Second => "second",
            Per::Minute => "minute",
            Per::Hour => "hour",
            Per::Day => "day",
            Per::Week => "week",
        };
        write!(f, "limit rate {over}{rate}/{per}")?;
        if burst.get() == BURST { Ok(()) } else { write!(f, " burst {burst} packets") }
    }
}

struct KeyOf<'a>(&'a [Field]);

impl Display for KeyOf<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, field) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { " . " };
            write!(f, "{separator}{field}")?;
        }
        Ok(())
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = if self.negated { "!= " } else { "" };
        match &self.test {
            Test::Iif(pattern) => write!(f, "iifname {not}{pattern}"),
            Test::Oif(pattern) => write!(f, "oifname {not}{pattern}"),
            Test::NfProto(version) => write!(f, "meta nfproto {not}{version}"),
            Test::L4Proto(proto) => write!(f, "meta l4proto {not}{proto}"),
            Test::PacketType(kind) => write!(f, "meta pkttype {not}{kind}"),
            Test::Mark { mask: u32::MAX, value } => write!(f, "meta mark {not}{value:#010x}"),
            Test::Mark { mask, value } => {
                let operator = if self.negated { "!=" } else { "==" };
                write!(f, "meta mark & {mask:#010x} {operator} {value:#010x}")
            }
            Test::Ip(end, net) => write!(f, "ip {end}addr {not}{}", Net(net.addr(), net.prefix_len(), 32)),
            Test::Ip6(end, net) => write!(f, "ip6 {end}addr {not}{}", Net(net.addr(), net.prefix_len(), 128)),
            Test::Port(transport, end, port) => write!(f, "{transport} {end}port {not}{port}"),
            Test::Icmp(kind) => write!(f, "icmp type {not}{kind}"),
            Test::Icmp6(kind) => write!(f, "icmpv6 type {not}{kind}"),
            Test::TcpFlags { mask, value } => write!(f, "tcp flags {not}{value} / {mask}"),
            Test::CtState(states) => write!(f, "ct state {}{states}", if self.negated { "! " } else { "" }),
            Test::CtStatusDnat => write!(f, "ct status {}dnat", if self.negated { "! " } else { "" }),
            Test::SourceUnroutable => {
                write!(f, "fib saddr . iif oif {}", if self.negated { "exists" } else { "missing" })
            }
            Test::DestinationType(kind) => write!(f, "fib daddr type {not}{kind}"),
            Test::InSet(key, set) => write!(f, "{} {not}@{set}", KeyOf(key)),
            Test::EtherType(kind) => write!(f, "ether type {not}{kind}"),
            Test::Ether(end, mac) => write!(f, "ether {end}addr {not}{mac}"),
            Test::ArpSenderIp(net) => {
                write!(f, "arp saddr ip {not}{}", Net(net.addr(), net.prefix_len(), 32))
            }
            Test::ArpSenderEther(mac) => write!(f, "arp saddr ether {not}{mac}"),
            Test::NdTarget(address) => write!(f, "@th,64,128 {not}{:#034x}", address.to_bits()),
        }
    }
}

/// An address with its prefix length, unless that is the whole address.
struct Net<A>(A, u8, u8);

impl<A: Display> Display for Net<A> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(address, length, full) = self;
        if length == full { address.fmt(f) } else { write!(f, "{address}/{length}") }
    }
}

impl Display for IfPattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(name) => write!(f, "\"{name}\""),
            Self::StartsWith(prefix) => write!(f, "\"{}*\"", prefix.as_str()),
        }
    }
}

impl Display for End {
    /// The letter before `addr` and `port`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "s",
            Self::Destination => "d",
        })
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Any => "th",
        })
    }
}

impl Display for IpVersion {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}

impl Display for PacketType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Broadcast => "broadcast",
            Self::Multicast => "multicast",
            Self::Other => "other",
        })
    }
}

impl Display for AddressType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Unicast => "unicast",
            Self::Broadcast => "broadcast",
            Self::Multicast => "multicast",
        })
    }
}

impl Display for CtStates {
    /// In the order in which nft lists them: by their bits.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::INVALID, "invalid"),
            (Self::ESTABLISHED, "established"),
            (Self::RELATED, "related"),
            (Self::NEW, "new"),
            (Self::UNTRACKED, "untracked"),
        ];
        let named = names.into_iter().filter(|(state, _)| self.0 & state.0 != 0);
        f.write_str(&named.map(|(_, name)| name).collect::<Vec<_>>().join(","))
    }
}

impl Display for TcpFlags {
    /// In the order in which nft lists them: by their bits.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
        let named = names.into_iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        f.write_str(&named.map(|(_, name)| name).collect::<Vec<_>>().join(","))
    }
}

impl Display for IcmpType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ECHO_REPLY => f.write_str("echo-reply"),
            Self::REDIRECT => f.write_str("redirect"),
            Self::ECHO_REQUEST => f.write_str("echo-request"),
            Self(number) => number.fmt(f),
        }
    }
}

impl Display for Icmp6Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ECHO_REQUEST => f.write_str("echo-request"),
            Self::ECHO_REPLY => f.write_str("echo-reply"),
            Self::ROUTER_SOLICIT => f.write_str("nd-router-solicit"),
            Self::ROUTER_ADVERT => f.write_str("nd-router-advert"),
            Self::NEIGHBOUR_SOLICIT => f.write_str("nd-neighbor-solicit"),
            Self::NEIGHBOUR_ADVERT => f.write_str("nd-neighbor-advert"),
            Self::REDIRECT => f.write_str("nd-redirect"),
            Self(number) => number.fmt(f),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IifName => "iifname",
            Self::OifName => "oifname",
            Self::L4Proto => "meta l4proto",
            Self::Mark => "meta mark",
            Self::IpSaddr => "ip saddr",
            Self::IpDaddr => "ip daddr",
            Self::Ip6Saddr => "ip6 saddr",
            Self::Ip6Daddr => "ip6 daddr",
            Self::TcpSport => "tcp sport",
            Self::TcpDport => "tcp dport",
            Self::UdpSport => "udp sport",
            Self::UdpDport => "udp dport",
            Self::ThSport => "th sport",
            Self::ThDport => "th dport",
            Self::EtherSaddr => "ether saddr",
            Self::EtherDaddr => "ether daddr",
            Self::EtherType => "ether type",
            Self::ArpSaddrIp => "arp saddr ip",
            Self::ArpSaddrEther => "arp saddr ether",
            Self::NdTarget => "@th,64,128",
        })
    }
}
