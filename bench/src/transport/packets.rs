//! What each transport costs the packets of two pods on different nodes, beside the same devices set up by hand.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::pair::{Pair, Transport, Wirer};
use super::stream::Moved;
use crate::error::BenchError;
use crate::policy::packets::{median, micros};
use crate::spread::rank;
use crate::table::Table;
use crate::{say, targets};

/// What is measured between two nodes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Journeys {
    /// Which transports.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Transport::ALL)]
    pub(crate) transports: Vec<Transport>,
    /// Rounds, in each of which every side has its turn.
    #[arg(long, default_value_t = 30)]
    pub(crate) transport_rounds: usize,
    /// A side's turn in each round, in milliseconds: two thirds of it a stream, a third of it exchanges.
    #[arg(long, default_value_t = 1_500)]
    pub(crate) transport_turn: u64,
}

/// Two nodes that take turns with others.
#[derive(Debug)]
struct Lane {
    transport: Transport,
    wirer: Wirer,
    pair: Pair,
    turns: Vec<Turn>,
}

/// What a side did in a round.
#[derive(Debug)]
struct Turn {
    moved: Moved,
    exchanges: Vec<Duration>,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Packets {
    passes: Journeys,
    sides: Vec<Side>,
}

/// What was measured of a side.
#[derive(Debug)]
struct Side {
    transport: Transport,
    wirer: Wirer,
    turns: Vec<Turn>,
}

impl Packets {
    pub(crate) fn measure(passes: &Journeys) -> Result<Self, BenchError> {
        let lanes = passes.transports.iter().flat_map(|of| of.wirers().iter().map(|wirer| (*of, *wirer)));
        let mut lanes = lanes.map(|(of, wirer)| Lane::new(of, wirer)).collect::<Result<Vec<_>, _>>()?;
        let time = Duration::from_millis(passes.transport_turn / 3);
        for round in 0..passes.transport_rounds {
            if round % 10 == 0 {
                say(&format!("bench: round {} of {} between nodes", round + 1, passes.transport_rounds));
            }
            for place in 0..lanes.len() {
                let lane = (round + place) % lanes.len();
                lanes[lane].take_turn(time)?;
            }
        }
        let sides =
            lanes.into_iter().map(|Lane { transport, wirer, turns, .. }| Side { transport, wirer, turns });
        Ok(Self { passes: passes.clone(), sides: sides.collect() })
    }

    /// The same devices, set up by hand.
    fn beside(&self, side: &Side) -> Option<&Side> {
        self.sides.iter().find(|other| other.transport == side.transport && other.wirer == Wirer::Hand)
    }

    /// Every figure that is worse than it should be.
    fn missed(&self) -> Vec<String> {
        let ours = self.sides.iter().filter(|side| side.wirer == Wirer::Selvedge);
        let figures =
            ours.clone().filter_map(|side| Some((side, self.beside(side)?))).flat_map(|(side, hand)| {
                [
                    ("throughput", 1.0 / side.to(hand, |turn| turn.moved.rate())),
                    ("cost of a gigabit", side.to(hand, |turn| turn.moved.cost())),
                    ("exchange, p50", side.to(hand, |turn| turn.exchange(50))),
                    ("exchange, p99", side.to(hand, |turn| turn.exchange(99))),
                ]
                .map(|(what, ratio)| (side.transport, what, ratio))
            });
        let over = figures.filter(|(_, _, ratio)| *ratio > targets::TRANSPORTS);
        let over = over.map(|(transport, what, ratio)| format!("{transport}, {what}: {ratio:.3}"));
        let of_vxlan = self.of_vxlan().filter(|ratio| *ratio < targets::OF_VXLAN);
        over.chain(of_vxlan.map(|ratio| format!("udp, throughput: {ratio:.3} of vxlan"))).collect()
    }

    /// The rate of udp as a part of VXLAN's, both ours.
    fn of_vxlan(&self) -> Option<f64> {
        let ours = |transport| {
            let is = |side: &&Side| side.transport == transport && side.wirer == Wirer::Selvedge;
            self.sides.iter().find(is)
        };
        Some(ours(Transport::Udp)?.to(ours(Transport::Vxlan)?, |turn| turn.moved.rate()))
    }

    fn table(&self) -> Table {
        let heads =
            ["", "", "Gbit/s", "ratio", "CPU ms/Gbit", "ratio", "exchange, p50 / p99", "ratio, p50 / p99"];
        let mut table = Table::new(heads.map(str::to_owned));
        for side in &self.sides {
            let hand = self.beside(side);
            let ratio = |of: &dyn Fn(&Turn) -> f64| {
                hand.map_or_else(|| "-".to_owned(), |hand| format!("{:.3}", side.to(hand, of)))
            };
            let exchanges: Vec<_> =
                side.turns.iter().flat_map(|turn| turn.exchanges.iter().copied()).collect();
            table.row([
                side.transport.to_string(),
                side.wirer.to_string(),
                format!("{:.2}", side.typical(|turn| turn.moved.rate())),
                ratio(&|turn| turn.moved.rate()),
                format!("{:.0}", side.typical(|turn| turn.moved.cost())),
                ratio(&|turn| turn.moved.cost()),
                micros(&exchanges),
                [50, 99].map(|percent| ratio(&|turn| turn.exchange(percent))).join(" / "),
            ]);
        }
        table
    }
}

impl Lane {
    fn new(transport: Transport, wirer: Wirer) -> Result<Self, BenchError> {
        say(&format!("bench: two nodes, {transport}, wired by {wirer:?}"));
        let pair = Pair::new(wirer, transport)?;
        // Neighbours, caches and the sender's first guesses are no part of the figures.
        pair.stream(Duration::from_millis(200))?;
        Ok(Self { transport, wirer, pair, turns: Vec::new() })
    }

    fn take_turn(&mut self, time: Duration) -> Result<(), BenchError> {
        let moved = self.pair.stream(2 * time)?;
        let exchanges = self.pair.exchanges(time)?;
        self.turns.push(Turn { moved, exchanges });
        Ok(())
    }
}

impl Turn {
    /// In seconds.
    fn exchange(&self, percent: usize) -> f64 {
        rank(&self.exchanges, percent).unwrap_or_default().as_secs_f64()
    }
}

impl Side {
    fn typical(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }

    /// A figure as a part of another side's, round by round.
    fn to(&self, other: &Self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().zip(&other.turns).map(|(turn, other)| of(turn) / of(other)).collect())
    }
}

impl Display for Packets {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Journeys { transport_rounds, transport_turn, .. } = &self.passes;
        let missed = self.missed();
        let missed = if missed.is_empty() { "none".to_owned() } else { missed.join("; ") };
        writeln!(
            f,
            "A pod on one node and a pod on another: nodes, pods and the segment between them are namespaces of this \
             machine, and\neach side has its own two nodes. The sides take turns of {transport_turn} ms, \
             {transport_rounds} times each, and who begins changes: two\nthirds of a turn one TCP stream, as much as \
             it takes, the sender on one core and the receiver on another, then exchanges,\na byte there and a byte \
             back on one connection, both pods on one core. CPU is what all of the machine was busy for\nmeanwhile, \
             by /proc/stat, whoever with, since most of the work is in interrupts and nobody's: it is worth something \
             on\na quiet machine alone. Ratios are to the same devices set up by hand: of each round the rate's, the \
             cost's, the median's\nand the p99's, of all rounds the median. That a side's packets go by its device \
             was asked of the kernel.\n\n{}\n\
             `by hand`: iproute2 and iptables, as flannel's backends have it (host-gw, vxlan, wireguard): the pod on a bridge, \
             a route a peer,\nwith VXLAN a neighbour and an entry of the device's table too, masquerading and accept \
             rules; for wireguard the same with\nthe kernel's device, or where it has none as here wireguard-go. \
             `Selvedge`: two agents and the plugin, routed pods, all gates\nin nftables; udp and, without the kernel's \
             WireGuard, wireguard by a process of ours. udp carried {} of what vxlan did.\n\nNo worse than by hand \
             is a ratio of {} at most (throughput: its inverse); udp is to carry a third of what vxlan does. Targets \
             missed: {missed}.",
            self.table(),
            self.of_vxlan().map_or_else(|| "an unknown part".to_owned(), |ratio| format!("{ratio:.3}")),
            targets::TRANSPORTS,
        )
    }
}
