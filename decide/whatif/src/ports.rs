//! Ports that no policy at either end of a flow tells apart, and sets of them.

use std::collections::BTreeSet;
use std::fmt;

use selvedge_model::policy::{Direction, Policy, Ports, Which};
use selvedge_model::{Pod, Transport};
use selvedge_policy::Protocol;

/// A protocol without ports: what stands for all that policies admit by a rule without `ports` alone.
const OTHER: u8 = 253;

/// Where policies cut the ports of a protocol: the first port of each part. A protocol without cuts is like those that
/// have no ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cuts(BTreeSet<(Transport, u32)>);

impl Cuts {
    /// The cuts of policies of one direction, where names mean what these pods call so.
    pub(crate) fn add<'a>(
        &mut self,
        policies: impl IntoIterator<Item = &'a Policy>,
        direction: Direction,
        targets: &[&Pod],
    ) {
        for rule in policies.into_iter().filter_map(|policy| policy.rules(direction)).flatten() {
            let Ports::Of(ports) = &rule.ports else { continue };
            for port in ports {
                self.0.insert((port.transport, 0));
                match &port.which {
                    Which::All => {}
                    Which::Numbers(range) => {
                        self.cut(port.transport, range.first().get(), range.last().get());
                    }
                    Which::Named(name) => {
                        let named =
                            targets.iter().filter_map(|pod| pod.port_named(name.as_str(), port.transport));
                        named.for_each(|number| self.cut(port.transport, number.get(), number.get()));
                    }
                }
            }
        }
    }

    fn cut(&mut self, transport: Transport, first: u16, last: u16) {
        self.0.extend([(transport, u32::from(first)), (transport, u32::from(last) + 1)]);
    }

    /// What has to be judged: one protocol and port of each part, with all that are like it.
    pub(crate) fn parts(&self) -> Vec<(Protocol, PortSet)> {
        let mut other = PortSet { other: true, ports: Vec::new() };
        let mut parts = Vec::new();
        for transport in Transport::ALL {
            let cuts = self.0.range((transport, 0)..=(transport, u32::from(u16::MAX)));
            let starts: Vec<u32> = cuts.map(|(_, start)| *start).collect();
            if starts.is_empty() {
                other.ports.push((transport, 0, u16::MAX));
            }
            let ends = starts.iter().skip(1).copied().chain([1 << 16]);
            for (start, end) in starts.iter().zip(ends) {
                let (first, last) = (narrow(*start), narrow(end - 1));
                let part = PortSet { other: false, ports: vec![(transport, first, last)] };
                parts.push((Protocol::Port(transport, first), part));
            }
        }
        parts.push((Protocol::Other(OTHER), other));
        parts
    }
}

/// Protocols and ports. Displayed as `TCP/8080` or `everything but TCP/8080`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortSet {
    /// All protocols without ports.
    pub(crate) other: bool,
    /// First and last ports, in order, not next to each other.
    pub(crate) ports: Vec<(Transport, u16, u16)>,
}

impl PortSet {
    pub(crate) fn extend(&mut self, more: &Self) {
        self.other |= more.other;
        self.ports.extend(&more.ports);
        self.ports.sort_unstable();
        self.ports.dedup_by(|next, last| {
            let touches = last.0 == next.0 && u32::from(last.2) + 1 >= u32::from(next.1);
            if touches {
                last.2 = last.2.max(next.2);
            }
            touches
        });
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Other(_) => self.other,
            Protocol::Port(transport, port) => {
                self.ports.iter().any(|(t, first, last)| *t == transport && (*first..=*last).contains(&port))
            }
        }
    }

    /// The ranges of a transport that are in it, or those that aren't.
    fn ranges(&self, transport: Transport, inside: bool) -> Vec<(u16, u16)> {
        let own = self.ports.iter().filter(|(t, ..)| *t == transport);
        let own: Vec<(u16, u16)> = own.map(|(_, first, last)| (*first, *last)).collect();
        if inside {
            return own;
        }
        let starts = [0].into_iter().chain(own.iter().map(|(_, last)| u32::from(*last) + 1));
        let ends = own.iter().map(|(first, _)| u32::from(*first)).chain([1 << 16]);
        let gaps = starts.zip(ends).filter(|(start, end)| start < end);
        gaps.map(|(start, end)| (narrow(start), narrow(end - 1))).collect()
    }

    fn listed(&self, inside: bool) -> Vec<String> {
        Transport::ALL.into_iter().filter_map(|transport| self.of_transport(transport, inside)).collect()
    }

    /// The ports of a transport that are in it, or aren't; `None` if there are none.
    fn of_transport(&self, transport: Transport, inside: bool) -> Option<String> {
        let (named, others) = (self.ranges(transport, inside), self.ranges(transport, !inside));
        let name = transport.to_string().to_uppercase();
        match (named.is_empty(), others.is_empty(), others.len() < named.len()) {
            (true, ..) => None,
            (_, true, _) => Some(name),
            (_, _, true) => Some(format!("{name} but {}", numbers(&others))),
            (_, _, false) => Some(format!("{name}/{}", numbers(&named))),
        }
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.other, self.listed(!self.other)) {
            (true, but) if but.is_empty() => f.write_str("everything"),
            (true, but) if but == ["TCP", "UDP", "SCTP"] => f.write_str("ICMP and the like"),
            (true, but) => write!(f, "everything but {}", but.join(", ")),
            (false, listed) => f.write_str(&listed.join(", ")),
        }
    }
}

fn numbers(ranges: &[(u16, u16)]) -> String {
    let range = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

/// A number that is no greater than a port.
fn narrow(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use selvedge_policy::{PolicyKey, read};
    use serde_json::json;

    use super::*;

    fn set(other: bool, ports: &[(Transport, u16, u16)]) -> PortSet {
        let mut set = PortSet { other, ports: Vec::new() };
        ports.iter().for_each(|part| set.extend(&PortSet { other: false, ports: vec![*part] }));
        set
    }

    #[test]
    fn sets_are_told_as_a_person_would() {
        use Transport::{Sctp, Tcp, Udp};
        let all = [(Tcp, 0, u16::MAX), (Udp, 0, u16::MAX), (Sctp, 0, u16::MAX)];
        let but = [(Tcp, 0, 8079), (Tcp, 8081, u16::MAX), all[1], all[2]];
        for (set, expected) in [
            (set(true, &all), "everything"),
            (set(true, &but), "everything but TCP/8080"),
            (set(true, &[]), "ICMP and the like"),
            (set(false, &all), "TCP, UDP, SCTP"),
            (set(false, &but[..2]), "TCP but 8080"),
            (
                set(false, &[(Udp, 53, 53), (Tcp, 80, 81), (Tcp, 82, 90), (Tcp, 443, 443)]),
                "TCP/80-90,443, UDP/53",
            ),
        ] {
            assert_eq!(set.to_string(), expected);
        }
    }

    #[test]
    fn only_what_policies_tell_apart_is_judged_apart() {
        let key = PolicyKey { namespace: "x".to_owned(), name: "p".to_owned() };
        let ports = json!([{"port": 80, "endPort": 90}, {"protocol": "UDP"}]);
        let policy = read(key, &json!({"podSelector": {}, "ingress": [{"ports": ports}]})).unwrap();
        let mut cuts = Cuts::default();
        cuts.add([&policy], Direction::Ingress, &[]);
        let parts: Vec<String> = cuts.parts().iter().map(|(one, all)| format!("{one} for {all}")).collect();
        let expected = [
            "TCP/0 for TCP/0-79",
            "TCP/80 for TCP/80-90",
            "TCP/91 for TCP/91-65535",
            "UDP/0 for UDP",
            "IP protocol 253 for everything but TCP, UDP",
        ];
        assert_eq!(parts, expected);
        assert_eq!(Cuts::default().parts().len(), 1);
    }
}
