//! What the kernel runs back into rules. What [`compile`](crate::compile) made comes back as it was, and what nft or
//! iptables made of the same words too; anything else becomes [`Statement::Unknown`].

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use selvedge_ruleset::field::Needs;
use selvedge_ruleset::matching::{CtStates, End, IfPattern, IfPrefix, Test};
use selvedge_ruleset::{
    EtherType, Family, Field, Icmp6Type, IcmpType, IpVersion, L4Proto, Match, Rule, SetName, Statement,
    TcpFlags, Value,
};

use crate::compile::{
    ADDRESS_TYPES, NFPROTO, PACKET_TYPES, RANDOM_FULLY, STATUS_DNAT, icmp_type, known_from, meaning,
    tcp_flags, transport,
};
use crate::expression::{Expression, Lookup, Slot, To};
use crate::load::{Payload, Source, ct, fib, meta};
use crate::place::{IFNAME_BYTES, field, length, source, value};

/// The rule that these expressions are in a table of that family, without its comment unless iptables made it one.
pub(crate) fn decompile(family: Family, code: &[Expression]) -> Rule {
    let mut reader =
        Reader { known: known_from(family), loaded: Vec::new(), rule: Rule::default(), pending: None };
    for expression in code {
        if reader.expression(expression).is_none() {
            reader.unknown(expression);
        }
    }
    reader.finish()
}

/// What has been put into registers and not been looked at yet.
#[derive(Debug, Clone)]
struct Loaded {
    source: Source,
    slot: Slot,
    mask: Option<(Vec<u8>, Vec<u8>)>,
}

struct Reader {
    known: Needs,
    loaded: Vec<Loaded>,
    /// A map's data on their way to what uses them.
    pending: Option<(Vec<Field>, SetName)>,
    rule: Rule,
}

impl Reader {
    fn push(&mut self, statement: impl Into<Statement>) {
        self.rule = std::mem::take(&mut self.rule).then(statement);
    }

    fn unknown(&mut self, expression: &Expression) {
        self.loaded.clear();
        self.pending = None;
        let words = match expression {
            Expression::Other(name) => name.clone(),
            known => format!("{known:?}"),
        };
        self.push(Statement::Unknown(words));
    }

    fn finish(mut self) -> Rule {
        if !self.loaded.is_empty() || self.pending.is_some() {
            self.push(Statement::Unknown("a load without a use".to_owned()));
        }
        self.rule
    }

    fn expression(&mut self, expression: &Expression) -> Option<()> {
        match expression {
            Expression::Load { source, to } => {
                self.loaded.push(Loaded { source: *source, slot: *to, mask: None });
            }
            Expression::Bitwise { from, to, mask, xor } => {
                let loaded = self.loaded.last_mut().filter(|loaded| loaded.mask.is_none())?;
                if from != to || loaded.slot != *from {
                    return None;
                }
                loaded.mask = Some((mask.clone(), xor.clone()));
            }
            Expression::Compare { slot, negated, data } => {
                let loaded = self.single(*slot)?;
                if let (Source::Random { below }, [0, 0, 0, 0], false) = (loaded.source, &data[..], *negated)
                {
                    self.push(Statement::OneIn(below));
                    return Some(());
                }
                let test = self.test(&loaded, *negated, data)?;
                self.known = test.proves().and(self.known);
                self.push(test);
            }
            Expression::Lookup(lookup) => self.lookup(lookup)?,
            Expression::Log(log) => self.push(Statement::Log(log.clone())),
            Expression::Limit(limit) => self.push(Statement::Limit(*limit)),
            Expression::Update { slot, set, timeout, limit } => {
                let key = self.key(*slot)?;
                let timeout = Duration::from_millis(*timeout);
                self.push(Statement::Update { key, set: set.clone(), timeout, limit: *limit });
            }
            Expression::Verdict(verdict) => self.push(verdict.clone()),
            Expression::Counter => self.push(Statement::Counter),
            Expression::Masquerade { flags: 0 } => self.push(Statement::Masquerade { fully_random: false }),
            Expression::Masquerade { flags: RANDOM_FULLY } => {
                self.push(Statement::Masquerade { fully_random: true })
            }
            Expression::Dnat { family, address: 0, port } => self.dnat(*family, *port)?,
            Expression::SetMark { from } => self.mark(*from)?,
            Expression::Comment(text) => {
                self.rule = std::mem::take(&mut self.rule).comment(text);
            }
            Expression::Masquerade { .. } | Expression::Dnat { .. } | Expression::Other(_) => return None,
        }
        Some(())
    }

    /// The one thing that is loaded, if it is in that slot.
    fn single(&mut self, slot: Slot) -> Option<Loaded> {
        match std::mem::take(&mut self.loaded).as_slice() {
            [loaded] if loaded.slot == slot => Some(loaded.clone()),
            _ => None,
        }
    }

    /// The fields that are loaded one after the other from that slot on.
    fn key(&mut self, slot: Slot) -> Option<Vec<Field>> {
        let mut next = slot;
        let mut key = Vec::new();
        for loaded in std::mem::take(&mut self.loaded) {
            let field =
                field(loaded.source, self.known).filter(|_| loaded.mask.is_none() && loaded.slot == next)?;
            next += length(field.key_type()).div_ceil(4);
            key.push(field);
        }
        (!key.is_empty()).then_some(key)
    }

    fn lookup(&mut self, lookup: &Lookup) -> Option<()> {
        let Lookup { slot, set, negated, to } = lookup;
        let key = self.key(*slot)?;
        match (to, negated) {
            (None, &negated) => self.push(Match { negated, test: Test::InSet(key, set.clone()) }),
            (Some(To::Verdict), false) => self.push(Statement::VerdictMap(key, set.clone())),
            (Some(To::Slot(0)), false) => self.pending = Some((key, set.clone())),
            _ => return None,
        }
        Some(())
    }

    fn dnat(&mut self, family: u32, port: Slot) -> Option<()> {
        let (key, set) = self.pending.take()?;
        let version = meaning(&NFPROTO, &u8::try_from(family).ok()?)?;
        if port != if version == IpVersion::V4 { 1 } else { 4 } {
            return None;
        }
        self.push(Statement::DnatMap(version, key, set));
        Some(())
    }

    fn mark(&mut self, from: Slot) -> Option<()> {
        let loaded = self.single(from)?;
        let (mask, xor) = loaded.mask.filter(|_| loaded.source == Source::Meta(meta::MARK))?;
        let (mask, bits) = (host(&mask)?, host(&xor)?);
        if mask != !bits {
            return None;
        }
        self.push(Statement::MarkOr(bits));
        Some(())
    }

    fn test(&self, loaded: &Loaded, negated: bool, data: &[u8]) -> Option<Match> {
        if let Some((mask, xor)) = &loaded.mask {
            let plain = xor.iter().all(|&byte| byte == 0) && mask.len() == data.len();
            let turned = matches!(loaded.source, Source::Ct(_));
            let test = plain.then(|| self.masked(loaded.source, mask, data)).flatten()?;
            return Some(Match { negated: negated ^ turned, test });
        }
        let test = match loaded.source {
            Source::Meta(meta::IIFNAME) => Test::Iif(pattern(data)?),
            Source::Meta(meta::OIFNAME) => Test::Oif(pattern(data)?),
            Source::Meta(meta::NFPROTO) => Test::NfProto(meaning(&NFPROTO, &one(data)?)?),
            Source::Meta(meta::L4PROTO) => Test::L4Proto(L4Proto(one(data)?)),
            Source::Meta(meta::PKTTYPE) => Test::PacketType(meaning(&PACKET_TYPES, &one(data)?)?),
            Source::Meta(meta::MARK) => Test::Mark { mask: u32::MAX, value: host(data)? },
            Source::Meta(meta::PROTOCOL) => {
                Test::EtherType(EtherType(u16::from_be_bytes(data.try_into().ok()?)))
            }
            Source::Fib { result: fib::OIF, flags }
                if flags == fib::F_SADDR | fib::F_IIF | fib::F_PRESENT =>
            {
                let negated = negated ^ data.iter().any(|&byte| byte != 0);
                return Some(Match { negated, test: Test::SourceUnroutable });
            }
            Source::Fib { result: fib::ADDRTYPE, flags: fib::F_DADDR } => {
                Test::DestinationType(meaning(&ADDRESS_TYPES, &host(data)?)?)
            }
            Source::Payload(payload) => self.payload(payload, data)?,
            _ => return None,
        };
        Some(Match { negated, test })
    }

    fn payload(&self, payload: Payload, data: &[u8]) -> Option<Test> {
        let from = Source::Payload(payload);
        if from == icmp_type() {
            return match self.known.transport? {
                L4Proto::ICMP => Some(Test::Icmp(IcmpType(one(data)?))),
                L4Proto::ICMPV6 => Some(Test::Icmp6(Icmp6Type(one(data)?))),
                _ => None,
            };
        }
        if let Some(field) = self.address_at(payload) {
            return prefix(field, data, u8::try_from(payload.length * 8).ok()?);
        }
        let field = field(from, self.known)?;
        Some(match (field, value(field.key_type(), data)?) {
            (Field::ThSport | Field::TcpSport | Field::UdpSport, Value::Port(port)) => {
                Test::Port(transport(self.known), End::Source, port)
            }
            (Field::ThDport | Field::TcpDport | Field::UdpDport, Value::Port(port)) => {
                Test::Port(transport(self.known), End::Destination, port)
            }
            (Field::EtherType, Value::EtherType(kind)) => Test::EtherType(kind),
            (Field::EtherSaddr, Value::Ether(mac)) => Test::Ether(End::Source, mac),
            (Field::EtherDaddr, Value::Ether(mac)) => Test::Ether(End::Destination, mac),
            (Field::ArpSaddrEther, Value::Ether(mac)) => Test::ArpSenderEther(mac),
            (Field::NdTarget, Value::Ipv6(address)) => Test::NdTarget(address),
            _ => return None,
        })
    }

    /// The address of which these are the first bytes.
    fn address_at(&self, payload: Payload) -> Option<Field> {
        let addresses = [Field::IpSaddr, Field::IpDaddr, Field::Ip6Saddr, Field::Ip6Daddr, Field::ArpSaddrIp];
        addresses.into_iter().find(|field| {
            let Source::Payload(whole) = source(*field) else { return false };
            let starts =
                Payload { length: whole.length, ..payload } == whole && payload.length <= whole.length;
            starts && field.needs().network == self.known.network
        })
    }

    /// A test of some bits. Those of connection tracking are compared with what they must not be: none.
    fn masked(&self, source: Source, mask: &[u8], data: &[u8]) -> Option<Test> {
        match source {
            Source::Meta(meta::MARK) => Some(Test::Mark { mask: host(mask)?, value: host(data)? }),
            Source::Ct(key) if data.iter().all(|&byte| byte == 0) => match (key, host(mask)?) {
                (ct::STATE, states) => Some(Test::CtState(CtStates(states))),
                (ct::STATUS, STATUS_DNAT) => Some(Test::CtStatusDnat),
                _ => None,
            },
            Source::Payload(_) if source == tcp_flags() && self.known.transport == Some(L4Proto::TCP) => {
                Some(Test::TcpFlags { mask: TcpFlags(one(mask)?), value: TcpFlags(one(data)?) })
            }
            Source::Payload(payload) => {
                let ones = mask.iter().map(|byte| byte.count_ones()).sum::<u32>();
                let leading = mask.iter().map(|byte| byte.leading_ones()).scan(true, |whole, ones| {
                    let counted = whole.then_some(ones);
                    *whole &= ones == 8;
                    counted
                });
                let field = self.address_at(payload).filter(|_| leading.sum::<u32>() == ones)?;
                prefix(field, data, u8::try_from(ones).ok()?)
            }
            _ => None,
        }
    }
}

fn prefix(field: Field, data: &[u8], length: u8) -> Option<Test> {
    let mut bytes = data.to_vec();
    let net: IpNet = match field {
        Field::IpSaddr | Field::IpDaddr | Field::ArpSaddrIp => {
            bytes.resize(4, 0);
            Ipv4Net::new(<[u8; 4]>::try_from(bytes).ok()?.into(), length).ok()?.into()
        }
        _ => {
            bytes.resize(16, 0);
            Ipv6Net::new(<[u8; 16]>::try_from(bytes).ok()?.into(), length).ok()?.into()
        }
    };
    match (field, net) {
        _ if net.trunc() != net => None,
        (Field::IpSaddr, IpNet::V4(net)) => Some(Test::Ip(End::Source, net)),
        (Field::IpDaddr, IpNet::V4(net)) => Some(Test::Ip(End::Destination, net)),
        (Field::ArpSaddrIp, IpNet::V4(net)) => Some(Test::ArpSenderIp(net)),
        (Field::Ip6Saddr, IpNet::V6(net)) => Some(Test::Ip6(End::Source, net)),
        (Field::Ip6Daddr, IpNet::V6(net)) => Some(Test::Ip6(End::Destination, net)),
        _ => None,
    }
}

/// nft compares all sixteen bytes of a name, iptables the name with its terminator, both the bare prefix of a `*`.
fn pattern(data: &[u8]) -> Option<IfPattern> {
    let end = data.iter().position(|&byte| byte == 0);
    let text = std::str::from_utf8(&data[..end.unwrap_or(data.len())]).ok()?;
    if end.is_some() || data.len() == IFNAME_BYTES {
        return text.parse().ok().map(IfPattern::Is);
    }
    IfPrefix::listed(text).map(IfPattern::StartsWith)
}

fn one(data: &[u8]) -> Option<u8> {
    match data {
        [byte] => Some(*byte),
        _ => None,
    }
}

fn host(data: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(data.try_into().ok()?))
}
