//! Which bytes a field is, and how its values look there.

use std::net::{Ipv4Addr, Ipv6Addr};

use selvedge_model::MacAddr;
use selvedge_ruleset::field::Needs;
use selvedge_ruleset::{EtherType, Field, KeyType, L4Proto, Value};

use crate::load::{Base, Payload, Source, meta};

/// The bytes of an interface name in a register, terminator and padding included.
pub(crate) const IFNAME_BYTES: usize = 16;

const FIELDS: [Field; 20] = [
    Field::IifName,
    Field::OifName,
    Field::L4Proto,
    Field::Mark,
    Field::IpSaddr,
    Field::IpDaddr,
    Field::Ip6Saddr,
    Field::Ip6Daddr,
    Field::TcpSport,
    Field::TcpDport,
    Field::UdpSport,
    Field::UdpDport,
    Field::ThSport,
    Field::ThDport,
    Field::EtherSaddr,
    Field::EtherDaddr,
    Field::EtherType,
    Field::ArpSaddrIp,
    Field::ArpSaddrEther,
    Field::NdTarget,
];

/// Where a field is loaded from.
pub(crate) fn source(field: Field) -> Source {
    let at = |base, offset| Source::Payload(Payload { base, offset, length: length(field.key_type()) });
    match field {
        Field::IifName => Source::Meta(meta::IIFNAME),
        Field::OifName => Source::Meta(meta::OIFNAME),
        Field::L4Proto => Source::Meta(meta::L4PROTO),
        Field::Mark => Source::Meta(meta::MARK),
        Field::IpSaddr => at(Base::Network, 12),
        Field::IpDaddr => at(Base::Network, 16),
        Field::Ip6Saddr => at(Base::Network, 8),
        Field::Ip6Daddr => at(Base::Network, 24),
        Field::TcpSport | Field::UdpSport | Field::ThSport => at(Base::Transport, 0),
        Field::TcpDport | Field::UdpDport | Field::ThDport => at(Base::Transport, 2),
        Field::EtherSaddr => at(Base::Link, 6),
        Field::EtherDaddr => at(Base::Link, 0),
        Field::EtherType => at(Base::Link, 12),
        Field::ArpSaddrIp => at(Base::Network, 14),
        Field::ArpSaddrEther => at(Base::Network, 8),
        Field::NdTarget => at(Base::Transport, 8),
    }
}

/// The field that is loaded from there in a packet of which so much is known.
pub(crate) fn field(from: Source, known: Needs) -> Option<Field> {
    let there = |field: &Field| {
        let needs = field.needs();
        let transport = needs.transport.is_none_or(|proto| known.transport == Some(proto));
        let network = needs.network.is_none_or(|network| known.network == Some(network));
        source(*field) == from && transport && network
    };
    FIELDS.into_iter().find(there)
}

/// The bytes of a value of that type.
pub(crate) fn length(key_type: KeyType) -> u32 {
    match key_type {
        KeyType::InetProto => 1,
        KeyType::EtherType | KeyType::InetService => 2,
        KeyType::Ipv4Addr | KeyType::Mark => 4,
        KeyType::EtherAddr => 6,
        KeyType::Ipv6Addr | KeyType::IfName => 16,
    }
}

/// The value as it stands in a register: the packet's bytes, a number of the kernel's own in its own order.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Ipv4(address) => address.octets().to_vec(),
        Value::Ipv6(address) => address.octets().to_vec(),
        Value::Ether(mac) => mac.0.to_vec(),
        Value::EtherType(kind) => kind.0.to_be_bytes().to_vec(),
        Value::Proto(proto) => vec![proto.0],
        Value::Port(port) => port.to_be_bytes().to_vec(),
        Value::Mark(mark) => mark.to_ne_bytes().to_vec(),
        Value::IfName(name) => {
            let mut bytes = name.as_str().as_bytes().to_vec();
            bytes.resize(IFNAME_BYTES, 0);
            bytes
        }
    }
}

/// The value that stands in a register; `None` if it has another length or is no valid one.
pub(crate) fn value(key_type: KeyType, bytes: &[u8]) -> Option<Value> {
    Some(match key_type {
        KeyType::Ipv4Addr => Value::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        KeyType::Ipv6Addr => Value::Ipv6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        KeyType::EtherAddr => Value::Ether(MacAddr(bytes.try_into().ok()?)),
        KeyType::EtherType => Value::EtherType(EtherType(u16::from_be_bytes(bytes.try_into().ok()?))),
        KeyType::InetProto => match bytes {
            [proto] => Value::Proto(L4Proto(*proto)),
            _ => return None,
        },
        KeyType::InetService => Value::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
        KeyType::Mark => Value::Mark(u32::from_ne_bytes(bytes.try_into().ok()?)),
        KeyType::IfName => {
            let end = bytes.iter().position(|&byte| byte == 0).filter(|_| bytes.len() == IFNAME_BYTES)?;
            Value::IfName(std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?)
        }
    })
}
