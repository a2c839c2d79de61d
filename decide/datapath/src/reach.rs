//! What was measured of the ways to other nodes, and what follows from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;

use selvedge_model::transport::Transport;
use selvedge_model::{IfName, Mtu, NodeName};

/// A way to another node that is worth measuring.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The other node.
    pub node: NodeName,
    /// By what.
    pub transport: Transport,
    /// The address of ours that asks.
    pub from: IpAddr,
    /// The address there that answers.
    pub to: IpAddr,
    /// The device to send by; none for the way that routes tell.
    pub device: Option<IfName>,
    /// What a packet may measure by all that is known here.
    pub mtu: Mtu,
}

/// A place of this node that asks and answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// One of its addresses.
    pub address: IpAddr,
    /// The device that everything comes in and leaves by; none for whatever routes say.
    pub device: Option<IfName>,
}

impl Seat {
    /// True at a link-local address: nobody sends there from beyond the device, an overlay's, whose other ends are peers.
    pub fn hears_peers_alone(&self) -> bool {
        matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local())
    }
}

/// What a measurement found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// Packets get there and back, at most as long as this.
    Through {
        /// Bytes of the inner packet.
        mtu: u32,
    },
    /// Nothing came back.
    Silent,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Through { mtu } => write!(f, "path MTU {mtu}"),
            Self::Silent => f.write_str("silence"),
        }
    }
}

/// After so many measurements in a row that nothing came back from, a way is said to be silent.
pub const SILENT: u32 = 3;

/// After so many in which it was silent while another way to the same node got through, it is given up.
pub const GIVE_UP: u32 = 3;

/// After so many in a row that got through, one that was given up is taken again.
pub const TAKE_AGAIN: u32 = 3;

/// What is held of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verdict {
    /// It wasn't measured yet, or not often enough.
    #[default]
    Unknown,
    /// It gets through.
    Through {
        /// What a packet may measure.
        mtu: u32,
    },
    /// Nothing comes back: the way doesn't get through, or nobody is at its end.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Finding {
    verdict: Verdict,
    /// What got through last; who doesn't answer may still be reached.
    mtu: Option<u32>,
    /// Measurements in a row that nothing came back from.
    silent: u32,
    /// Those of them in which another way got through.
    alone: u32,
    given_up: bool,
    /// Measurements in a row that got through since it was given up.
    again: u32,
}

impl Finding {
    /// Takes a measurement, and whether another way to the same node got through meanwhile.
    fn enter(&mut self, measured: Measured, others: bool) {
        match measured {
            Measured::Through { mtu } => {
                (self.silent, self.alone) = (0, 0);
                (self.verdict, self.mtu) = (Verdict::Through { mtu }, Some(mtu));
                self.again += u32::from(self.given_up);
                if self.again >= TAKE_AGAIN {
                    (self.given_up, self.again) = (false, 0);
                }
            }
            Measured::Silent => {
                self.again = 0;
                self.silent += 1;
                self.alone += u32::from(others);
                if self.silent >= SILENT {
                    self.verdict = Verdict::Silent;
                }
                self.given_up |= self.alone >= GIVE_UP;
            }
        }
    }

    /// What others go by.
    fn shown(&self) -> (Verdict, bool) {
        (self.verdict, self.given_up)
    }
}

/// How many nodes that were forgotten are remembered for that.
const FORGOTTEN: usize = 256;

/// All findings, by node and transport.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    of: BTreeMap<NodeName, OfNode>,
    /// Counts what is held otherwise.
    state: u64,
    /// The nodes that were forgotten last, and the state since then.
    forgotten: VecDeque<(u64, NodeName)>,
    /// The last state of which it isn't known any more who was forgotten since.
    unknown: Option<u64>,
}

/// What was found of a node.
#[derive(Debug, Clone, Default)]
struct OfNode {
    ways: BTreeMap<Transport, Finding>,
    /// The state since which that is held.
    since: u64,
}

impl PartialEq for Findings {
    fn eq(&self, other: &Self) -> bool {
        let ways = |findings: &Self| -> Vec<_> {
            findings.of.iter().map(|(node, of)| (node.clone(), of.ways.clone())).collect()
        };
        ways(self) == ways(other)
    }
}

impl Findings {
    /// Takes measurements of the ways to a node that were made at the same time; true if anything is held otherwise
    /// now. A node that answers on none of them may be down, which is no reason to take another way.
    pub fn enter(&mut self, node: &NodeName, round: &[(Transport, Measured)]) -> bool {
        let OfNode { ways: of_node, since } = self.of.entry(node.clone()).or_default();
        let before: Vec<_> = of_node.iter().map(|(way, finding)| (*way, finding.shown())).collect();
        for (transport, measured) in round {
            let through = |(other, found): &(_, _)| other != transport && *found != Measured::Silent;
            of_node.entry(*transport).or_default().enter(*measured, round.iter().any(through));
        }
        let changed = !of_node.iter().map(|(way, finding)| (*way, finding.shown())).eq(before);
        if changed {
            self.state += 1;
            *since = self.state;
        }
        changed
    }

    /// A number that grows with everything that is held otherwise.
    pub fn state(&self) -> u64 {
        self.state
    }

    /// The nodes of which something is held otherwise than in an earlier state of these findings; none if that isn't
    /// known.
    pub fn changed_since(&self, state: u64) -> Option<BTreeSet<NodeName>> {
        if state > self.state || self.unknown.is_some_and(|unknown| state <= unknown) {
            return None;
        }
        let forgotten = self.forgotten.iter().filter(|(since, _)| *since > state).map(|(_, node)| node);
        let changed = self.of.iter().filter(|(_, of)| of.since > state).map(|(node, _)| node);
        Some(forgotten.chain(changed).cloned().collect())
    }

    /// What is held of a way.
    pub fn verdict(&self, node: &NodeName, transport: Transport) -> Verdict {
        self.finding(node, transport).verdict
    }

    /// What a packet may measure on a way, as it was measured last.
    pub fn mtu(&self, node: &NodeName, transport: Transport) -> Option<u32> {
        self.finding(node, transport).mtu
    }

    /// True if a node should be measured again soon: what was found last speaks against what is held.
    pub fn doubts(&self, node: &NodeName) -> bool {
        let doubted =
            |found: &Finding| (found.silent > 0 && found.verdict != Verdict::Silent) || found.again > 0;
        let settling = |found: &Finding| found.alone > 0 && !found.given_up;
        self.of.get(node).is_some_and(|of| of.ways.values().any(|found| doubted(found) || settling(found)))
    }

    /// The ways that are given up now.
    pub fn given_up(&self) -> impl Iterator<Item = (&NodeName, Transport)> {
        self.of.iter().flat_map(|(node, of)| {
            let given_up = of.ways.iter().filter(|(_, found)| found.given_up);
            given_up.map(move |(transport, _)| (node, *transport))
        })
    }

    /// Gives a way up on the account of earlier measurements.
    pub fn give_up(&mut self, node: &NodeName, transport: Transport) {
        let given_up = Finding { given_up: true, ..Finding::default() };
        self.state += 1;
        let of_node = self.of.entry(node.clone()).or_default();
        of_node.since = self.state;
        of_node.ways.insert(transport, given_up);
    }

    /// Forgets all but these nodes.
    pub fn keep(&mut self, nodes: &BTreeSet<&NodeName>) {
        let left = self.of.extract_if(.., |node, _| !nodes.contains(node));
        for (node, _) in left {
            self.state += 1;
            self.forgotten.push_back((self.state, node));
        }
        while self.forgotten.len() > FORGOTTEN {
            self.unknown = self.forgotten.pop_front().map(|(since, _)| since - 1);
        }
    }

    /// Which of several ways is taken, the first one being the best: that one, unless it was given up; then the best of
    /// the others that isn't given up and isn't silent, or where all of them are, the best that isn't given up.
    pub fn choose(&self, node: &NodeName, ways: &[Transport]) -> Option<Transport> {
        let first = ways.first()?;
        let mut open = ways.iter().filter(|way| !self.finding(node, **way).given_up);
        let best = open.next().unwrap_or(first);
        let heard = |way: &&Transport| self.verdict(node, **way) != Verdict::Silent;
        let heard = [best].into_iter().chain(open).find(heard);
        Some(if best == first { *first } else { *heard.unwrap_or(best) })
    }

    fn finding(&self, node: &NodeName, transport: Transport) -> Finding {
        self.of.get(node).and_then(|of| of.ways.get(&transport)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THROUGH: Measured = Measured::Through { mtu: 1450 };
    const BEST: [Transport; 2] = [Transport::Vxlan, Transport::Udp];
    /// What VXLAN and UDP found in one round.
    const BOTH: [Measured; 2] = [THROUGH, THROUGH];
    const UDP: [Measured; 2] = [Measured::Silent, THROUGH];
    const DOWN: [Measured; 2] = [Measured::Silent; 2];

    fn enter(findings: &mut Findings, rounds: &[[Measured; 2]]) -> Option<Transport> {
        for [vxlan, udp] in rounds {
            findings.enter(&node(), &[(Transport::Vxlan, *vxlan), (Transport::Udp, *udp)]);
        }
        findings.choose(&node(), &BEST)
    }

    fn node() -> NodeName {
        "node-c".parse().unwrap()
    }

    #[test]
    fn the_best_way_is_taken_until_another_got_through_without_it_again_and_again() {
        let chosen = |rounds: &[_]| enter(&mut Findings::default(), rounds);
        assert_eq!(chosen(&[]), Some(Transport::Vxlan));
        assert_eq!(chosen(&[BOTH, UDP, UDP]), Some(Transport::Vxlan));
        assert_eq!(chosen(&[BOTH, UDP, UDP, UDP]), Some(Transport::Udp));
        assert_eq!(chosen(&[UDP, UDP, BOTH, UDP]), Some(Transport::Vxlan));
        assert_eq!(Findings::default().choose(&node(), &[]), None);
    }

    #[test]
    fn what_was_given_up_is_not_taken_where_the_last_way_falls_silent_too() {
        let mut findings = Findings::default();
        assert_eq!(enter(&mut findings, &[UDP, UDP, UDP, DOWN, DOWN, DOWN, DOWN]), Some(Transport::Udp));
    }

    #[test]
    fn a_node_that_is_down_and_comes_back_is_reached_as_before() {
        let mut findings = Findings::default();
        assert_eq!(enter(&mut findings, &[BOTH, DOWN, DOWN, DOWN, DOWN]), Some(Transport::Vxlan));
        assert_eq!(findings.verdict(&node(), Transport::Vxlan), Verdict::Silent);
        assert_eq!(enter(&mut findings, &[UDP, BOTH]), Some(Transport::Vxlan));
    }

    #[test]
    fn a_way_that_was_given_up_is_taken_again_when_it_gets_through_for_good() {
        let mut findings = Findings::default();
        assert_eq!(enter(&mut findings, &[UDP, UDP, UDP, BOTH, BOTH, UDP, BOTH, BOTH]), Some(Transport::Udp));
        assert!(findings.doubts(&node()));
        assert_eq!(enter(&mut findings, &[BOTH]), Some(Transport::Vxlan));
        assert!(!findings.doubts(&node()));
    }

    #[test]
    fn another_mtu_holds_at_once_and_nodes_that_left_are_forgotten() {
        let mut findings = Findings::default();
        let mut enter = |mtu| findings.enter(&node(), &[(Transport::Vxlan, Measured::Through { mtu })]);
        assert_eq!([1450, 1450, 1400].map(&mut enter), [true, false, true]);
        assert_eq!(findings.verdict(&node(), Transport::Vxlan), Verdict::Through { mtu: 1400 });
        for _ in 0..SILENT {
            findings.enter(&node(), &[(Transport::Vxlan, Measured::Silent)]);
        }
        assert_eq!(findings.verdict(&node(), Transport::Vxlan), Verdict::Silent);
        assert_eq!(findings.mtu(&node(), Transport::Vxlan), Some(1400), "the path is as narrow as before");
        findings.keep(&BTreeSet::new());
        assert_eq!(findings.verdict(&node(), Transport::Vxlan), Verdict::Unknown);
    }
}
