//! Rules into what the kernel runs: the same expressions that nft makes of the same rules.

use ipnet::IpNet;
use selvedge_ruleset::field::Needs;
use selvedge_ruleset::matching::{End, IfPattern, Test, Transport};
use selvedge_ruleset::value::AddressType;
use selvedge_ruleset::{
    EtherType, Family, Field, IpVersion, L4Proto, Match, PacketType, Rule, SetName, Statement, Value,
};

use crate::expression::{Expression, Lookup, Slot, To};
use crate::load::{Base, Payload, Source, ct, fib, meta};
use crate::place::{bytes, length, source};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(crate) const NFPROTO: [(IpVersion, u8); 2] = [(IpVersion::V4, 2), (IpVersion::V6, 10)];
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
pub(crate) const RANDOM_FULLY: u32 = 16;
/// `IPS_DST_NAT`
pub(crate) const STATUS_DNAT: u32 = 32;

/// The kernel's number of each address type: `RTN_UNICAST` and so on.
pub(crate) const ADDRESS_TYPES: [(AddressType, u32); 4] = [
    (AddressType::Unicast, 1),
    (AddressType::Local, 2),
    (AddressType::Broadcast, 3),
    (AddressType::Multicast, 5),
];

/// The kernel's number of each packet type: `PACKET_HOST` and so on.
pub(crate) const PACKET_TYPES: [(PacketType, u8); 4] =
    [(PacketType::Host, 0), (PacketType::Broadcast, 1), (PacketType::Multicast, 2), (PacketType::Other, 3)];

/// What the kernel has for one of our values, from a table that has them all.
pub(crate) fn number<A: PartialEq, B: Copy>(table: &[(A, B)], value: &A) -> B {
    let found = table.iter().find(|(ours, _)| ours == value);
    found.expect("the table has all values").1
}

/// What we have for one of the kernel's values.
pub(crate) fn meaning<A: Copy, B: PartialEq>(table: &[(A, B)], number: &B) -> Option<A> {
    table.iter().find(|(_, theirs)| theirs == number).map(|(ours, _)| *ours)
}

/// What is known of a packet from its table's family alone.
pub(crate) fn known_from(family: Family) -> Needs {
    match family {
        Family::Ip => Needs::ip(IpVersion::V4),
        Family::Ip6 => Needs::ip(IpVersion::V6),
        Family::Arp => Needs::ARP,
        Family::Inet | Family::Bridge | Family::Netdev => Needs::NOTHING,
    }
}

/// The expressions of a rule in a table of that family.
pub(crate) fn compile(family: Family, rule: &Rule) -> Vec<Expression> {
    let mut compiler = Compiler { family, known: known_from(family), code: Vec::new() };
    rule.statements().iter().for_each(|statement| compiler.statement(statement));
    compiler.code
}

struct Compiler {
    family: Family,
    known: Needs,
    code: Vec<Expression>,
}

impl Compiler {
    fn statement(&mut self, statement: &Statement) {
        self.ensure(statement.needs());
        match statement {
            Statement::Match(test) => self.test(test),
            Statement::Counter => self.code.push(Expression::Counter),
            Statement::Verdict(verdict) => self.code.push(Expression::Verdict(verdict.clone())),
            Statement::VerdictMap(key, map) => {
                self.load_key(key);
                self.lookup(map, false, Some(To::Verdict));
            }
            Statement::Masquerade { fully_random } => {
                let flags = if *fully_random { RANDOM_FULLY } else { 0 };
                self.code.push(Expression::Masquerade { flags });
            }
            Statement::DnatMap(version, key, map) => {
                self.load_key(key);
                self.lookup(map, false, Some(To::Slot(0)));
                let family = u32::from(number(&NFPROTO, version));
                let port = if *version == IpVersion::V4 { 1 } else { 4 };
                self.code.push(Expression::Dnat { family, address: 0, port });
            }
            Statement::Log(log) => self.code.push(Expression::Log(log.clone())),
            Statement::Limit(limit) => self.code.push(Expression::Limit(*limit)),
            Statement::OneIn(packets) => {
                self.load(Source::Random { below: *packets });
                self.compare(false, vec![0; 4]);
            }
            Statement::Update { key, set, timeout, limit } => {
                self.load_key(key);
                let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                self.code.push(Expression::Update { slot: 0, set: set.clone(), timeout, limit: *limit });
            }
            Statement::MarkOr(bits) => {
                self.load(Source::Meta(meta::MARK));
                let (mask, xor) = ((!bits).to_ne_bytes().to_vec(), bits.to_ne_bytes().to_vec());
                self.code.push(Expression::Bitwise { from: 0, to: 0, mask, xor });
                self.code.push(Expression::SetMark { from: 0 });
            }
            Statement::Unknown(words) => self.code.push(Expression::Other(words.clone())),
        }
    }

    /// Tests first what must hold for the next statement to look at the right bytes.
    fn ensure(&mut self, needs: Needs) {
        if let Some(network) = needs.network.filter(|_| needs.network != self.known.network) {
            self.network(network);
        }
        if let Some(transport) = needs.transport.filter(|_| needs.transport != self.known.transport) {
            self.load(Source::Meta(meta::L4PROTO));
            self.compare(false, vec![transport.0]);
        }
        self.known = needs.and(self.known);
    }

    fn network(&mut self, network: EtherType) {
        let version = match network {
            EtherType::IP => Some(IpVersion::V4),
            EtherType::IP6 => Some(IpVersion::V6),
            _ => None,
        };
        match version {
            Some(version) if self.family == Family::Inet => {
                self.load(Source::Meta(meta::NFPROTO));
                self.compare(false, vec![number(&NFPROTO, &version)]);
            }
            Some(_) => {
                self.load(Source::Meta(meta::PROTOCOL));
                self.compare(false, network.0.to_be_bytes().to_vec());
            }
            None => {
                self.load(source(Field::EtherType));
                self.compare(false, network.0.to_be_bytes().to_vec());
            }
        }
    }

    fn load(&mut self, source: Source) {
        self.code.push(Expression::Load { source, to: 0 });
    }

    fn compare(&mut self, negated: bool, data: Vec<u8>) {
        self.code.push(Expression::Compare { slot: 0, negated, data });
    }

    fn load_key(&mut self, key: &[Field]) {
        let mut to: Slot = 0;
        for field in key {
            self.code.push(Expression::Load { source: source(*field), to });
            to += length(field.key_type()).div_ceil(4);
        }
    }

    /// Looks up what [`Self::load_key`] has loaded.
    fn lookup(&mut self, set: &SetName, negated: bool, to: Option<To>) {
        self.code.push(Expression::Lookup(Lookup { slot: 0, set: set.clone(), negated, to }));
    }

    /// Whether any of the bits is set.
    fn any_bit(&mut self, negated: bool, bits: u32) {
        let (mask, xor) = (bits.to_ne_bytes().to_vec(), vec![0; 4]);
        self.code.push(Expression::Bitwise { from: 0, to: 0, mask, xor });
        self.compare(!negated, vec![0; 4]);
    }

    fn test(&mut self, test: &Match) {
        let negated = test.negated;
        match &test.test {
            Test::Mark { mask: u32::MAX, value } => self.field(Field::Mark, negated, &Value::Mark(*value)),
            Test::Mark { mask, value } => {
                self.load(Source::Meta(meta::MARK));
                let (mask, xor) = (mask.to_ne_bytes().to_vec(), vec![0; 4]);
                self.code.push(Expression::Bitwise { from: 0, to: 0, mask, xor });
                self.compare(negated, value.to_ne_bytes().to_vec());
            }
            Test::Ip(End::Source, net) => self.prefix(Field::IpSaddr, negated, (*net).into()),
            Test::Ip(End::Destination, net) => self.prefix(Field::IpDaddr, negated, (*net).into()),
            Test::Ip6(End::Source, net) => self.prefix(Field::Ip6Saddr, negated, (*net).into()),
            Test::Ip6(End::Destination, net) => self.prefix(Field::Ip6Daddr, negated, (*net).into()),
            Test::ArpSenderIp(net) => self.prefix(Field::ArpSaddrIp, negated, (*net).into()),
            Test::TcpFlags { mask, value } => {
                self.load(tcp_flags());
                self.code.push(Expression::Bitwise { from: 0, to: 0, mask: vec![mask.0], xor: vec![0] });
                self.compare(negated, vec![value.0]);
            }
            Test::CtState(states) => {
                self.load(Source::Ct(ct::STATE));
                self.any_bit(negated, states.0);
            }
            Test::CtStatusDnat => {
                self.load(Source::Ct(ct::STATUS));
                self.any_bit(negated, STATUS_DNAT);
            }
            Test::InSet(key, set) => {
                self.load_key(key);
                self.lookup(set, negated, None);
            }
            Test::SourceUnroutable => {
                // Whether there is a route is one byte at the front of a register that is otherwise zero.
                let flags = fib::F_SADDR | fib::F_IIF | fib::F_PRESENT;
                self.load(Source::Fib { result: fib::OIF, flags });
                self.compare(false, vec![u8::from(negated), 0, 0, 0]);
            }
            test => {
                let (source, data) = plain(test);
                self.load(source);
                self.compare(negated, data);
            }
        }
        self.known = test.proves().and(self.known);
    }

    fn field(&mut self, field: Field, negated: bool, value: &Value) {
        self.load(source(field));
        self.compare(negated, bytes(value));
    }

    /// As nft does it: whole bytes are loaded alone, anything else is masked.
    fn prefix(&mut self, field: Field, negated: bool, net: IpNet) {
        let (address, mask) = match net {
            IpNet::V4(net) => (net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
            IpNet::V6(net) => (net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        };
        let prefix = net.prefix_len();
        let whole = usize::from(prefix / 8);
        if !prefix.is_multiple_of(8) || whole == 0 {
            let xor = vec![0; mask.len()];
            self.load(source(field));
            self.code.push(Expression::Bitwise { from: 0, to: 0, mask, xor });
            return self.compare(negated, address);
        }
        let source = match source(field) {
            Source::Payload(all) => Source::Payload(Payload { length: u32::from(prefix / 8), ..all }),
            other => other,
        };
        self.load(source);
        self.compare(negated, address[..whole].to_vec());
    }
}

/// The load and the comparison of a test that needs no more.
fn plain(test: &Test) -> (Source, Vec<u8>) {
    let of = |field, value: Value| (source(field), bytes(&value));
    match test {
        Test::Iif(pattern) => (source(Field::IifName), pattern_bytes(pattern)),
        Test::Oif(pattern) => (source(Field::OifName), pattern_bytes(pattern)),
        Test::NfProto(version) => (Source::Meta(meta::NFPROTO), vec![number(&NFPROTO, version)]),
        Test::L4Proto(L4Proto(proto)) => (Source::Meta(meta::L4PROTO), vec![*proto]),
        Test::PacketType(kind) => (Source::Meta(meta::PKTTYPE), vec![number(&PACKET_TYPES, kind)]),
        Test::Port(_, End::Source, port) => of(Field::ThSport, Value::Port(*port)),
        Test::Port(_, End::Destination, port) => of(Field::ThDport, Value::Port(*port)),
        Test::Icmp(kind) => (icmp_type(), vec![kind.0]),
        Test::Icmp6(kind) => (icmp_type(), vec![kind.0]),
        Test::DestinationType(kind) => {
            let source = Source::Fib { result: fib::ADDRTYPE, flags: fib::F_DADDR };
            (source, number(&ADDRESS_TYPES, kind).to_ne_bytes().to_vec())
        }
        Test::EtherType(kind) => of(Field::EtherType, Value::EtherType(*kind)),
        Test::Ether(End::Source, mac) => of(Field::EtherSaddr, Value::Ether(*mac)),
        Test::Ether(End::Destination, mac) => of(Field::EtherDaddr, Value::Ether(*mac)),
        Test::ArpSenderEther(mac) => of(Field::ArpSaddrEther, Value::Ether(*mac)),
        Test::NdTarget(address) => of(Field::NdTarget, Value::Ipv6(*address)),
        Test::Mark { value, .. } => of(Field::Mark, Value::Mark(*value)),
        Test::Ip(..) | Test::Ip6(..) | Test::ArpSenderIp(_) => {
            unreachable!("prefixes are compiled by themselves")
        }
        Test::CtState(_) | Test::CtStatusDnat | Test::InSet(..) => unreachable!("compiled by themselves"),
        Test::SourceUnroutable | Test::TcpFlags { .. } => {
            unreachable!("compiled by themselves")
        }
    }
}

pub(crate) fn icmp_type() -> Source {
    Source::Payload(Payload { base: Base::Transport, offset: 0, length: 1 })
}

/// The byte of a TCP header that its flags are in.
pub(crate) fn tcp_flags() -> Source {
    Source::Payload(Payload { base: Base::Transport, offset: 13, length: 1 })
}

fn pattern_bytes(pattern: &IfPattern) -> Vec<u8> {
    match pattern {
        IfPattern::Is(name) => bytes(&Value::IfName(name.clone())),
        IfPattern::StartsWith(prefix) => prefix.as_str().as_bytes().to_vec(),
    }
}

/// The transport protocol by whose name a port is spelled, if one is known.
pub(crate) fn transport(known: Needs) -> Transport {
    match known.transport {
        Some(L4Proto::TCP) => Transport::Tcp,
        Some(L4Proto::UDP) => Transport::Udp,
        _ => Transport::Any,
    }
}
