//! Many pods at once on a network in use: three percentiles, and the memory of one ADD.

use std::thread;
use std::time::Duration;

use crate::error::BenchError;
use crate::report::{megabytes, milliseconds};
use crate::rounds::{Effort, SETTLE, SETTLE_AFTER_MANY};
use crate::side::{Kind, Side};
use crate::spread::rank;
use crate::table::Table;
use crate::{say, targets};

/// A network with so many leases, and what each side made of it; the reference is the first.
#[derive(Debug)]
pub(crate) struct Load {
    leases: u16,
    crowds: Vec<Crowd>,
    /// The most that one ADD has resident, in bytes.
    memory: Vec<(Kind, u64)>,
}

/// So many pods at once.
#[derive(Debug)]
struct Crowd {
    at_once: usize,
    sides: Vec<(Kind, [Times; 2])>,
}

/// The times of every call of one verb, over all rounds.
type Times = Vec<Duration>;

/// The verbs, in the order of a crowd's times.
const VERBS: [&str; 2] = ["ADD", "DEL"];

/// What is told of many times.
const PERCENTILES: [usize; 3] = [50, 90, 99];

/// How many rounds: a hundred calls, but for one at a time.
fn rounds(at_once: usize) -> usize {
    (100 / at_once.max(1)).clamp(1, 20)
}

impl Load {
    /// Lets the sides take turns with each crowd.
    pub(crate) fn measure(sides: &mut [Side], leases: u16, effort: &Effort) -> Result<Self, BenchError> {
        let crowds = effort.crowds.iter().map(|at_once| {
            say(&format!("bench: {at_once} at once with {leases} leases"));
            Crowd::measure(sides, *at_once)
        });
        let crowds = crowds.collect::<Result<_, _>>()?;
        let memory = sides.iter_mut().map(|side| Ok((side.kind(), side.memory_of_add()?)));
        Ok(Self { leases, crowds, memory: memory.collect::<Result<_, BenchError>>()? })
    }

    /// How many leases the network had besides.
    pub(crate) fn leases(&self) -> u16 {
        self.leases
    }

    /// The figures of every side.
    pub(crate) fn table(&self) -> Table {
        let heads = self.memory.iter().map(|(kind, _)| kind.to_string());
        let mut table = Table::new([String::new()].into_iter().chain(heads).chain(["target".to_owned()]));
        for crowd in &self.crowds {
            for (verb, name) in VERBS.into_iter().enumerate() {
                let row = format!("{name}, {} at once", crowd.at_once);
                let cells = crowd.sides.iter().map(|side| crowd.cell(side, verb));
                let target = crowd.target(self.leases, verb).map(|ratio| format!("p99 {ratio}"));
                table.row([row].into_iter().chain(cells).chain([target.unwrap_or_default()]));
            }
        }
        let memory = self.memory.iter().map(|(_, bytes)| megabytes(*bytes));
        let target = format!("under {}", megabytes(targets::MEMORY_OF_ADD));
        table.row(["memory of one ADD".to_owned()].into_iter().chain(memory).chain([target]));
        table
    }

    /// Every figure that is above its target.
    pub(crate) fn missed(&self) -> impl Iterator<Item = String> {
        let ours = |kind: Kind| kind != Kind::Reference;
        let late = self.crowds.iter().flat_map(move |crowd| {
            let over = move |(kind, times): &(Kind, [Times; 2])| {
                let (target, ratio) = (crowd.target(self.leases, 0)?, crowd.ratio(&times[0], 0)?);
                let told = || {
                    format!(
                        "p99 of {} ADDs at once with {} leases, {kind}: {ratio:.3}",
                        crowd.at_once, self.leases
                    )
                };
                (ours(*kind) && ratio > target).then(told)
            };
            crowd.sides.iter().filter_map(over)
        });
        let large =
            self.memory.iter().filter(move |(kind, bytes)| ours(*kind) && *bytes > targets::MEMORY_OF_ADD);
        let large = large.map(|(kind, bytes)| {
            format!("memory of one ADD with {} leases, {kind}: {}", self.leases, megabytes(*bytes))
        });
        late.chain(large)
    }
}

impl Crowd {
    fn measure(sides: &mut [Side], at_once: usize) -> Result<Self, BenchError> {
        let mut times: Vec<[Times; 2]> = vec![[Times::new(), Times::new()]; sides.len()];
        let settle = || thread::sleep(if at_once > 1 { SETTLE_AFTER_MANY } else { SETTLE });
        for _ in 0..rounds(at_once) {
            for (side, [adds, dels]) in sides.iter_mut().zip(&mut times) {
                adds.extend(side.add_at_once(at_once)?);
                settle();
                dels.extend(side.del_at_once()?);
                settle();
            }
        }
        Ok(Self { at_once, sides: sides.iter().map(Side::kind).zip(times).collect() })
    }

    /// The percentiles of a side's calls, and the last one's ratio to the reference's.
    fn cell(&self, (kind, times): &(Kind, [Times; 2]), verb: usize) -> String {
        let figures =
            PERCENTILES.map(|percent| rank(&times[verb], percent).map(milliseconds).unwrap_or_default());
        let figures = figures.map(|figure| figure.trim_end_matches(" ms").to_owned()).join(" / ");
        match self.ratio(&times[verb], verb) {
            Some(ratio) if *kind != Kind::Reference => format!("{figures} ms ({ratio:.3})"),
            _ => format!("{figures} ms"),
        }
    }

    /// The p99 of these times as a part of the reference's.
    fn ratio(&self, times: &Times, verb: usize) -> Option<f64> {
        let (_, reference) = self.sides.first()?;
        Some(rank(times, 99)?.div_duration_f64(rank(&reference[verb], 99)?))
    }

    fn target(&self, leases: u16, verb: usize) -> Option<f64> {
        if verb == 0 { targets::crowd(self.at_once, leases) } else { None }
    }
}
