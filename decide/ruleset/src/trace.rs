//! What becomes of a packet in a table, without a kernel.

use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::IfName;

use crate::field::Field;
use crate::logging::Limit;
use crate::matching::{CtStates, End, IfPattern, Match, TcpFlags, Test, Transport};
use crate::name::{ChainName, SetName};
use crate::rule::{Rule, Statement, Verdict};
use crate::set::{Data, Element, Set};
use crate::table::{Chain, Hook, Kind, Policy, Table};
use crate::value::{IpVersion, L4Proto, Part, Value};

/// A packet, and what the kernel knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The interface that it came in by.
    pub iif: Option<IfName>,
    /// The interface that it leaves by.
    pub oif: Option<IfName>,
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Its transport protocol.
    pub proto: L4Proto,
    /// Its source and destination port, if the protocol has ports.
    pub ports: Option<(u16, u16)>,
    /// Its type, if it is ICMP or ICMPv6.
    pub icmp: Option<u8>,
    /// Its flags, if it is TCP.
    pub tcp: Option<TcpFlags>,
    /// What connection tracking says of it: one state.
    pub state: CtStates,
}

/// What became of a packet at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// Whether it passed.
    pub verdict: Policy,
    /// The rules that it matched to their end, each by its chain and its place there, in the packet's order.
    pub rules: Vec<(ChainName, usize)>,
}

/// The packet's way can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untraceable {
    /// A rule looks at something that a [`Packet`] doesn't tell.
    #[error("`{0}` looks at what is not known of the packet")]
    Unknown(Rule),
    /// A chain is led to that isn't there.
    #[error("chain {0} is not there")]
    NoChain(ChainName),
    /// A set is looked into that isn't there.
    #[error("set {0} is not there")]
    NoSet(SetName),
    /// Chains lead on further than the kernel allows.
    #[error("chain {0} is deeper than the kernel allows")]
    TooDeep(ChainName),
}

/// How deep jumps may lead: NFT_JUMP_STACK_SIZE.
const MAX_DEPTH: usize = 16;

/// Follows a packet through the filter chains that a table has at a hook, in the order of their priorities.
pub fn trace(table: &Table, hook: Hook, packet: &Packet) -> Result<Traced, Untraceable> {
    let mut bases: Vec<_> =
        table.chains.iter().filter_map(|(name, chain)| Some((chain.base?, name, chain))).collect();
    bases.retain(|(base, ..)| base.hook == hook && base.kind == Kind::Filter);
    bases.sort_by_key(|(base, ..)| base.priority);
    let mut tracer = Tracer { table, packet, rules: Vec::new() };
    let mut verdict = Policy::Accept;
    for (base, name, chain) in bases {
        verdict = match tracer.chain(name, chain, 0)? {
            Left::Verdict(verdict) => verdict,
            Left::Back => base.policy,
        };
        if verdict == Policy::Drop {
            break;
        }
    }
    Ok(Traced { verdict, rules: tracer.rules })
}

struct Tracer<'a> {
    table: &'a Table,
    packet: &'a Packet,
    rules: Vec<(ChainName, usize)>,
}

/// How a packet leaves a chain.
enum Left {
    /// For good.
    Verdict(Policy),
    /// Back to where it was led from.
    Back,
}

/// Why a rule goes no further.
enum Stop {
    NoMatch,
    Untraceable(Untraceable),
}

impl From<Untraceable> for Stop {
    fn from(why: Untraceable) -> Self {
        Self::Untraceable(why)
    }
}

impl Tracer<'_> {
    fn chain(&mut self, name: &ChainName, chain: &Chain, depth: usize) -> Result<Left, Untraceable> {
        if depth > MAX_DEPTH {
            return Err(Untraceable::TooDeep(name.clone()));
        }
        for (index, rule) in chain.rules.iter().enumerate() {
            let verdict = match self.rule(rule) {
                Ok(verdict) => verdict,
                Err(Stop::NoMatch) => continue,
                Err(Stop::Untraceable(why)) => return Err(why),
            };
            self.rules.push((name.clone(), index));
            match verdict {
                Verdict::Accept => return Ok(Left::Verdict(Policy::Accept)),
                Verdict::Drop => return Ok(Left::Verdict(Policy::Drop)),
                Verdict::Return => return Ok(Left::Back),
                Verdict::Continue => {}
                Verdict::Goto(target) => return self.led_to(&target, depth),
                Verdict::Jump(target) => {
                    if let Left::Verdict(verdict) = self.led_to(&target, depth)? {
                        return Ok(Left::Verdict(verdict));
                    }
                }
            }
        }
        Ok(Left::Back)
    }

    fn led_to(&mut self, name: &ChainName, depth: usize) -> Result<Left, Untraceable> {
        let chain = self.table.chains.get(name).ok_or_else(|| Untraceable::NoChain(name.clone()))?;
        self.chain(name, chain, depth + 1)
    }

    /// The verdict of a rule all of whose statements match.
    fn rule(&self, rule: &Rule) -> Result<Verdict, Stop> {
        for statement in rule.statements() {
            match statement {
                Statement::Match(test) => self.matches(test, rule)?,
                Statement::Verdict(verdict) => return Ok(verdict.clone()),
                Statement::VerdictMap(key, map) => match self.look_up(key, map, rule)? {
                    Some(Element { data: Data::Verdict(verdict), .. }) => return Ok(verdict.clone()),
                    _ => return Err(Stop::NoMatch),
                },
                // However fast packets come, this one is the only one.
                Statement::Limit(Limit { over: true, .. }) => return Err(Stop::NoMatch),
                Statement::Update { limit: Some(Limit { over: true, .. }), .. } => return Err(Stop::NoMatch),
                Statement::Counter | Statement::Log(_) | Statement::Limit(_) | Statement::Update { .. } => {}
                _ => return Err(Untraceable::Unknown(rule.clone()).into()),
            }
        }
        Ok(Verdict::Continue)
    }

    fn matches(&self, test: &Match, rule: &Rule) -> Result<(), Stop> {
        let packet = self.packet;
        let address = |end: &End| if *end == End::Source { packet.source } else { packet.destination };
        let holds = match &test.test {
            Test::Iif(pattern) => is_of(packet.iif.as_ref(), pattern),
            Test::Oif(pattern) => is_of(packet.oif.as_ref(), pattern),
            Test::NfProto(version) => packet.source.is_ipv4() == (*version == IpVersion::V4),
            Test::L4Proto(proto) => packet.proto == *proto,
            Test::CtState(states) => packet.state.0 & states.0 != 0,
            Test::Ip(end, net) => self.is_in(address(end), IpNet::V4(*net))?,
            Test::Ip6(end, net) => self.is_in(address(end), IpNet::V6(*net))?,
            Test::Port(transport, end, port) => {
                let proto = match transport {
                    Transport::Tcp => Some(L4Proto::TCP),
                    Transport::Udp => Some(L4Proto::UDP),
                    Transport::Any => None,
                };
                let (source, destination) = packet.ports.ok_or(Stop::NoMatch)?;
                if proto.is_some_and(|proto| proto != packet.proto) {
                    return Err(Stop::NoMatch);
                }
                *port == if *end == End::Source { source } else { destination }
            }
            Test::TcpFlags { mask, value } => {
                let tcp = packet.tcp.filter(|_| packet.proto == L4Proto::TCP).ok_or(Stop::NoMatch)?;
                tcp.0 & mask.0 == value.0
            }
            Test::Icmp(kind) => self.icmp(L4Proto::ICMP)? == kind.0,
            Test::Icmp6(kind) => self.icmp(L4Proto::ICMPV6)? == kind.0,
            Test::InSet(key, set) => self.look_up(key, set, rule)?.is_some(),
            _ => return Err(Untraceable::Unknown(rule.clone()).into()),
        };
        if holds == test.negated { Err(Stop::NoMatch) } else { Ok(()) }
    }

    fn icmp(&self, proto: L4Proto) -> Result<u8, Stop> {
        self.packet.icmp.filter(|_| self.packet.proto == proto).ok_or(Stop::NoMatch)
    }

    /// Whether the address is in the network; a packet of the other family has no such address at all.
    fn is_in(&self, address: IpAddr, net: IpNet) -> Result<bool, Stop> {
        if address.is_ipv4() == net.addr().is_ipv4() {
            Ok(net.contains(&address))
        } else {
            Err(Stop::NoMatch)
        }
    }

    fn look_up(&self, key: &[Field], set: &SetName, rule: &Rule) -> Result<Option<&Element>, Stop> {
        let set = self.table.sets.get(set).ok_or_else(|| Untraceable::NoSet(set.clone()))?;
        let values = key.iter().map(|field| self.value(*field, rule)).collect::<Result<Vec<_>, _>>()?;
        // A packet without an interface has the empty name for it, which is no element.
        let Some(values) = values.into_iter().collect::<Option<Vec<Value>>>() else { return Ok(None) };
        Ok(find(set, values))
    }

    /// What stands in a field; none where there is no interface.
    fn value(&self, field: Field, rule: &Rule) -> Result<Option<Value>, Stop> {
        let packet = self.packet;
        let v4 = |address| match address {
            IpAddr::V4(v4) => Ok(Some(Value::Ipv4(v4))),
            IpAddr::V6(_) => Err(Stop::NoMatch),
        };
        let v6 = |address| match address {
            IpAddr::V6(v6) => Ok(Some(Value::Ipv6(v6))),
            IpAddr::V4(_) => Err(Stop::NoMatch),
        };
        let (source, destination) = packet.ports.unzip();
        let port = |proto: Option<L4Proto>, port: Option<u16>| {
            let is_such = proto.is_none_or(|proto| proto == packet.proto);
            port.filter(|_| is_such).map(|port| Some(Value::Port(port))).ok_or(Stop::NoMatch)
        };
        match field {
            Field::IifName => Ok(packet.iif.clone().map(Value::IfName)),
            Field::OifName => Ok(packet.oif.clone().map(Value::IfName)),
            Field::L4Proto => Ok(Some(Value::Proto(packet.proto))),
            Field::IpSaddr => v4(packet.source),
            Field::IpDaddr => v4(packet.destination),
            Field::Ip6Saddr => v6(packet.source),
            Field::Ip6Daddr => v6(packet.destination),
            Field::TcpSport => port(Some(L4Proto::TCP), source),
            Field::TcpDport => port(Some(L4Proto::TCP), destination),
            Field::UdpSport => port(Some(L4Proto::UDP), source),
            Field::UdpDport => port(Some(L4Proto::UDP), destination),
            Field::ThSport => port(None, source),
            Field::ThDport => port(None, destination),
            _ => Err(Untraceable::Unknown(rule.clone()).into()),
        }
    }
}

fn is_of(name: Option<&IfName>, pattern: &IfPattern) -> bool {
    let name = name.map(IfName::as_str).unwrap_or_default();
    match pattern {
        IfPattern::Is(one) => name == one.as_str(),
        IfPattern::StartsWith(prefix) => name.starts_with(prefix.as_str()),
    }
}

fn find(set: &Set, values: Vec<Value>) -> Option<&Element> {
    if !set.set_type().interval {
        return set.elements().get(&values.into_iter().map(Part::one).collect::<Vec<_>>());
    }
    let holds = |key: &[Part]| {
        key.len() == values.len()
            && key.iter().zip(&values).all(|(part, value)| part.first() <= value && value <= part.last())
    };
    set.elements().iter().find(|(key, _)| holds(key)).map(|(_, element)| element)
}

#[cfg(test)]
mod tests;
