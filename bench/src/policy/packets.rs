//! What policies cost the packets between two pods of a node, beside the same policies in iptables.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use selvedge_netns::Namespace;

use super::fleet::Fleet;
use super::traffic::{self, Echo};
use super::usual::USUAL;
use super::world::World;
use super::xtables::{self, Backend};
use crate::error::BenchError;
use crate::spread::rank;
use crate::table::Table;
use crate::{say, targets};

/// What is measured between two pods.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Passes {
    /// Rounds, in each of which every side has its turn.
    #[arg(long, default_value_t = 150)]
    pub(crate) packet_rounds: usize,
    /// A side's turn in each round, in milliseconds: half of it connections, half of it exchanges on one.
    #[arg(long, default_value_t = 200)]
    pub(crate) packet_turn: u64,
    /// The policies of the clusters.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 10_000])]
    pub(crate) packet_policies: Vec<usize>,
}

/// The pods of each cluster.
const PODS: usize = 10_000;
/// Those among them that are the node's.
const LOCAL: usize = 110;
const NAMESPACES: usize = 1_000;

/// Who judges packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// Nobody: nothing is in nftables.
    Nobody,
    Agent,
    Iptables(Backend),
}

/// A node whose first pod asks its last.
#[derive(Debug)]
struct Lane {
    judge: Judge,
    policies: usize,
    fleet: Fleet,
    _echo: Echo,
    turns: Vec<Turn>,
}

/// What a side did in a round.
#[derive(Debug)]
struct Turn {
    connections: Vec<Duration>,
    /// In a second.
    rate: f64,
    exchanges: Vec<Duration>,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Packets {
    passes: Passes,
    sides: Vec<Side>,
}

/// What was measured of a side.
#[derive(Debug)]
struct Side {
    judge: Judge,
    policies: usize,
    turns: Vec<Turn>,
}

impl Packets {
    pub(crate) fn measure(passes: &Passes) -> Result<Self, BenchError> {
        let with = |judge| passes.packet_policies.iter().map(move |policies| (judge, *policies));
        let lanes = [(Judge::Agent, 0)]
            .into_iter()
            .chain(with(Judge::Agent))
            .chain([(Judge::Nobody, 0)])
            .chain(with(Judge::Iptables(Backend::Nft)))
            .chain(with(Judge::Iptables(Backend::Legacy)));
        let mut lanes =
            lanes.map(|(judge, policies)| Lane::new(judge, policies)).collect::<Result<Vec<_>, _>>()?;
        for round in 0..passes.packet_rounds {
            if round % 25 == 0 {
                say(&format!("bench: round {} of {} between pods", round + 1, passes.packet_rounds));
            }
            for place in 0..lanes.len() {
                let lane = (round + place) % lanes.len();
                lanes[lane].take_turn(Duration::from_millis(passes.packet_turn / 2))?;
            }
        }
        let sides =
            lanes.into_iter().map(|Lane { judge, policies, turns, .. }| Side { judge, policies, turns });
        Ok(Self { passes: passes.clone(), sides: sides.collect() })
    }

    /// Every figure that is above its target.
    fn missed(&self) -> Vec<String> {
        let Some(first) = self.sides.first() else { return Vec::new() };
        let ours = self.sides.iter().filter(|side| side.judge == Judge::Agent);
        let figures = ours.flat_map(|side| {
            [
                ("connections", 1.0 / side.rate_to(first)),
                ("exchanges", side.typical_to(first, |turn| &turn.exchanges)),
            ]
            .map(|(what, ratio)| (what, side.policies, ratio))
        });
        let over = figures.filter(|(_, _, ratio)| *ratio > targets::PACKETS);
        over.map(|(what, policies, ratio)| format!("{what} with {policies} policies: {ratio:.3}")).collect()
    }

    fn table(&self) -> Table {
        let heads = [
            "",
            "policies",
            "connections/s",
            "ratio",
            "connection, p50 / p99",
            "ratio",
            "exchange, p50 / p99",
            "ratio",
        ];
        let mut table = Table::new(heads.map(str::to_owned));
        let Some(first) = self.sides.first() else { return table };
        for side in &self.sides {
            let rates: Vec<f64> = side.turns.iter().map(|turn| turn.rate).collect();
            table.row([
                side.judge.to_string(),
                side.policies.to_string(),
                format!("{:.0}", median(rates)),
                format!("{:.3}", side.rate_to(first)),
                micros(&side.all(|turn| &turn.connections)),
                format!("{:.3}", side.typical_to(first, |turn| &turn.connections)),
                micros(&side.all(|turn| &turn.exchanges)),
                format!("{:.3}", side.typical_to(first, |turn| &turn.exchanges)),
            ]);
        }
        table
    }
}

impl Lane {
    fn new(judge: Judge, policies: usize) -> Result<Self, BenchError> {
        say(&format!("bench: a node where {judge} judges by {policies} policies"));
        let mut fleet = Fleet::new(|node| World {
            node,
            pods: PODS,
            local: LOCAL,
            namespaces: NAMESPACES,
            policies,
            object: 0,
        })?;
        if judge != Judge::Agent {
            fleet.leave_bare()?;
        }
        if let Judge::Iptables(backend) = judge {
            let began = Instant::now();
            xtables::load(&fleet, backend)?;
            say(&format!("bench: {judge} had them after {:.1} s", began.elapsed().as_secs_f64()));
        }
        let echo = Echo::serve(server(&fleet))?;
        let lane = Self { judge, policies, fleet, _echo: echo, turns: Vec::new() };
        // Figures of rules that admit everything would be worth nothing.
        let open = traffic::is_open(client(&lane.fleet), lane.to())?;
        if open != (policies == 0) {
            return Err(lane
                .fleet
                .failed(&format!("with {policies} policies of {judge}, what none admits: {open}")));
        }
        Ok(lane)
    }

    fn to(&self) -> [u8; 4] {
        self.fleet.address(LOCAL - 1)
    }

    fn take_turn(&mut self, time: Duration) -> Result<(), BenchError> {
        let client = client(&self.fleet);
        let (connections, took) = traffic::connections(client, self.to(), time)?;
        let exchanges = traffic::exchanges(client, self.to(), time)?;
        let rate = connections.len() as f64 / took.as_secs_f64();
        self.turns.push(Turn { connections, rate, exchanges });
        Ok(())
    }
}

/// The pod that asks, and the one that answers: one namespace's `web` and `api`.
fn client(fleet: &Fleet) -> &Namespace {
    fleet.pods[0].1.pod.namespace()
}

fn server(fleet: &Fleet) -> &Namespace {
    fleet.pods[LOCAL - 1].1.pod.namespace()
}

impl Side {
    /// Connections a second as a part of another side's, round by round.
    fn rate_to(&self, other: &Self) -> f64 {
        median(self.turns.iter().zip(&other.turns).map(|(turn, other)| turn.rate / other.rate).collect())
    }

    /// The median of these times as a part of another side's, round by round.
    fn typical_to(&self, other: &Self, times: impl Fn(&Turn) -> &Vec<Duration>) -> f64 {
        let typical = |turn: &Turn| rank(times(turn), 50).unwrap_or_default();
        let ratios = self.turns.iter().zip(&other.turns);
        median(ratios.map(|(turn, other)| typical(turn).div_duration_f64(typical(other))).collect())
    }

    fn all(&self, times: impl Fn(&Turn) -> &Vec<Duration>) -> Vec<Duration> {
        self.turns.iter().flat_map(|turn| times(turn).iter().copied()).collect()
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Two percentiles.
pub(crate) fn micros(times: &[Duration]) -> String {
    let figures = [50, 99].map(|percent| rank(times, percent).unwrap_or_default().as_secs_f64() * 1e6);
    format!("{:.1} / {:.1} µs", figures[0], figures[1])
}

impl Display for Judge {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Agent => "the agent",
            Self::Iptables(Backend::Nft) => "iptables-nft",
            Self::Iptables(Backend::Legacy) => "iptables-legacy",
        })
    }
}

impl Display for Packets {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Passes { packet_rounds, packet_turn, .. } = &self.passes;
        let of =
            |app: &str| USUAL.iter().filter(|usual| usual.selects.is_none_or(|name| name == app)).count();
        let missed = self.missed();
        let missed = if missed.is_empty() { "none".to_owned() } else { missed.join("; ") };
        writeln!(
            f,
            "Two pods of one node, wired by the plugin, in clusters of {PODS} pods, {LOCAL} of them the node's, that \
             differ in their\npolicies alone. Of all policies {} select the pod that asks and {} the one that answers: \
             both are isolated, each way.\nEvery side is a node of its own; they take turns of {packet_turn} ms, \
             {packet_rounds} times each, and who begins changes. A\nconnection is TCP's handshake, a byte there, a \
             byte back, a reset; an exchange is a byte there and a byte back on an\nopen connection. Both pods are on \
             one core. Ratios are to no policies: of each round the rate's or the median's, of all\nrounds the median. \
             Every side with policies was seen to refuse what they don't admit, in the same run.\n\n{}\n\
             `nobody`: the wires alone, with nothing in nftables, no connection tracking neither. `iptables`: the same \
             policies on\nsuch wires, with no agent and nothing else in the kernel (no gates at pods' interfaces, no \
             masquerading), as enforcers\nmade of iptables and ipset load them: a chain for each policy, a chain for \
             each isolated pod of the node, which every\nforwarded packet is led past in turn, a set for each selector. \
             The pod that asks is the first of them, the one that\nanswers the last.\n\nTargets missed: {missed}.",
            of("web"),
            of("api"),
            self.table(),
        )
    }
}
