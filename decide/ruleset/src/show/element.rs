//! Sets, elements and values.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::set::{Data, DataType, Element, Key, Set, SetType};
use crate::value::{EtherType, KeyType, L4Proto, Part, Value};

impl Set {
    /// What stands between the braces of a set in a listing.
    pub(super) fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for line in self.set_type().lines() {
            writeln!(f, "\t\t{line}")?;
        }
        if self.elements().is_empty() {
            return Ok(());
        }
        let per_line = self.set_type().elements_per_line();
        f.write_str("\t\telements = { ")?;
        for (i, (key, element)) in self.elements().iter().enumerate() {
            match i {
                0 => {}
                i if i % per_line == 0 => f.write_str(",\n\t\t\t     ")?,
                _ => f.write_str(", ")?,
            }
            write!(f, "{}", Braced(key, element))?;
        }
        f.write_str(" }\n")
    }
}

impl SetType {
    /// True if keys lead to something.
    pub fn is_map(&self) -> bool {
        self.data != DataType::Nothing
    }

    /// `set` or `map`.
    pub(crate) fn word(&self) -> &'static str {
        if self.is_map() { "map" } else { "set" }
    }

    /// The lines `type …` and, where there are any, `size …` and `flags …`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let joined = |types: &[KeyType]| types.iter().map(KeyType::to_string).collect::<Vec<_>>().join(" . ");
        let mut first = format!("type {}", joined(&self.key));
        match &self.data {
            DataType::Nothing => {}
            DataType::Verdict => first += " : verdict",
            DataType::Values(types) => first += &format!(" : {}", joined(types)),
        }
        let size = self.dynamic.map(|size| format!("size {size}"));
        let flags =
            [(self.interval, "interval"), (self.dynamic.is_some(), "dynamic"), (self.timeout, "timeout")];
        let flags: Vec<&str> = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
        let flags = (!flags.is_empty()).then(|| format!("flags {}", flags.join(",")));
        [Some(first), size, flags].into_iter().flatten().collect()
    }

    fn elements_per_line(&self) -> usize {
        match self.key[..] {
            [KeyType::Ipv4Addr] => 2,
            [KeyType::InetProto | KeyType::InetService | KeyType::Mark] => 5,
            _ => 1,
        }
    }
}

/// An element as it stands between the braces of its set.
pub struct Braced<'a>(pub &'a Key, pub &'a Element);

impl Display for Braced<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(key, element) = self;
        joined(key, f)?;
        if let Some(timeout) = element.timeout {
            f.write_str(" timeout ")?;
            show_time(timeout, f)?;
        }
        if let Some(comment) = &element.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        match &element.data {
            Data::Nothing => Ok(()),
            Data::Verdict(verdict) => write!(f, " : {verdict}"),
            Data::Values(values) => {
                f.write_str(" : ")?;
                joined(values, f)
            }
        }
    }
}

fn joined(items: &[impl Display], f: &mut Formatter<'_>) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        let separator = if i == 0 { "" } else { " . " };
        write!(f, "{separator}{item}")?;
    }
    Ok(())
}

/// `1d2h3m4s5ms`, parts that are zero left out.
pub(super) fn show_time(time: Duration, f: &mut Formatter<'_>) -> fmt::Result {
    let seconds = time.as_secs();
    let parts =
        [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    for (count, unit) in parts.into_iter().chain([(u64::from(time.subsec_millis()), "ms")]) {
        if count > 0 {
            write!(f, "{count}{unit}")?;
        }
    }
    Ok(())
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            return self.first().fmt(f);
        }
        match self.prefix() {
            Some(net) => net.fmt(f),
            None => write!(f, "{}-{}", self.first(), self.last()),
        }
    }
}

impl Part {
    /// The network whose addresses these are, if they are those of one.
    fn prefix(&self) -> Option<IpNet> {
        let (first, last): (IpAddr, IpAddr) = match (self.first(), self.last()) {
            (Value::Ipv4(first), Value::Ipv4(last)) => ((*first).into(), (*last).into()),
            (Value::Ipv6(first), Value::Ipv6(last)) => ((*first).into(), (*last).into()),
            _ => return None,
        };
        let common = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
            _ => return None,
        };
        let net = IpNet::new(first, u8::try_from(common).ok()?).ok()?;
        (net.network() == first && net.broadcast() == last).then_some(net)
    }
}

impl Display for KeyType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::EtherAddr => "ether_addr",
            Self::EtherType => "ether_type",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Mark => "mark",
            Self::IfName => "ifname",
        })
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) => address.fmt(f),
            Self::Ether(mac) => mac.fmt(f),
            Self::EtherType(kind) => kind.fmt(f),
            Self::Proto(proto) => proto.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::IfName(name) => write!(f, "\"{name}\""),
        }
    }
}

impl Display for L4Proto {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => f.write_str("icmp"),
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::ICMPV6 => f.write_str("ipv6-icmp"),
            Self::SCTP => f.write_str("sctp"),
            Self(number) => number.fmt(f),
        }
    }
}

impl Display for EtherType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IP => f.write_str("ip"),
            Self::ARP => f.write_str("arp"),
            Self::IP6 => f.write_str("ip6"),
            Self(number) => write!(f, "{number:#06x}"),
        }
    }
}
