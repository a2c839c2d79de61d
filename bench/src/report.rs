//! Everything that is measured, and the page that says so.

use std::fmt::{self, Display, Formatter};
use std::num::NonZero;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use crate::agent::Agent;
use crate::crowd::Load;
use crate::error::BenchError;
use crate::node::Node;
use crate::rounds::{Effort, measure};
use crate::side::{Kind, Side};
use crate::spread::{Score, Spread, Task};
use crate::table::Table;
use crate::{Flags, say, targets};

/// The manifests that an agent's memory is measured with.
const CLUSTERS: [u16; 2] = [3, 1000];

/// One run of the benchmark.
#[derive(Debug)]
pub(crate) struct Report {
    version: String,
    effort: Effort,
    empty: Scores,
    leased: Scores,
    loads: Vec<Load>,
    agent: Option<AgentFigures>,
}

/// Each side's figures, the reference first.
type Scores = Vec<(Kind, Score)>;

#[derive(Debug)]
struct AgentFigures {
    /// Nodes in the manifests, and resident bytes.
    memory: [(u16, u64); 2],
    route: Spread,
}

impl Report {
    /// Measures everything that the flags name. This takes minutes, and says where it is.
    pub(crate) fn measure(flags: &Flags) -> Result<Self, BenchError> {
        let effort = flags.effort.clone();
        let version = flags.reference.join("containernetworking-plugins.version");
        let version =
            fs::read_to_string(&version).map_err(|source| BenchError::file("read", &version, source))?;
        let mut sides = sides(flags)?;
        let empty = scores(&mut sides, &effort)?;
        // An agent would free leases that no pod stands behind.
        sides.retain(|side| side.kind() != Kind::Agent);
        let (mut loads, mut leased) = (Vec::new(), None);
        let mut steps: Vec<u16> = effort.loads.iter().copied().chain([effort.leases]).collect();
        steps.sort_unstable();
        steps.dedup();
        for leases in steps {
            sides.iter_mut().try_for_each(|side| side.lease(leases))?;
            if leases == effort.leases {
                say(&format!("bench: the same with {leases} leases"));
                leased = Some(scores(&mut sides, &effort)?);
            }
            if effort.loads.contains(&leases) {
                loads.push(Load::measure(&mut sides, leases, &effort)?);
            }
        }
        let leased = leased.unwrap_or_default();
        drop(sides);
        let agent = flags.sides.contains(&Kind::Agent).then(|| AgentFigures::measure(flags)).transpose()?;
        Ok(Self { version: version.trim().to_owned(), effort, empty, leased, loads, agent })
    }
}

fn sides(flags: &Flags) -> Result<Vec<Side>, BenchError> {
    let ours = flags.sides.iter().filter(|kind| **kind != Kind::Reference);
    let kinds = [Kind::Reference].iter().chain(ours);
    kinds
        .map(|kind| {
            say(&format!("bench: a node for {kind}"));
            Side::new(*kind, flags)
        })
        .collect()
}

fn scores(sides: &mut [Side], effort: &Effort) -> Result<Scores, BenchError> {
    let scores = measure(sides, effort)?;
    Ok(sides.iter().map(Side::kind).zip(scores).collect())
}

impl AgentFigures {
    fn measure(flags: &Flags) -> Result<Self, BenchError> {
        let [few, many] = CLUSTERS;
        let (few_bytes, route) = with_agent(flags, few, |agent, node| {
            Ok((agent.memory_at_rest()?, agent.time_to_route(node, flags.effort.changes)?))
        })?;
        let many_bytes = with_agent(flags, many, |agent, _| agent.memory_at_rest())?;
        Ok(Self { memory: [(few, few_bytes), (many, many_bytes)], route })
    }
}

fn with_agent<T>(
    flags: &Flags,
    nodes: u16,
    measure: impl FnOnce(&Agent, &Node) -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    say(&format!("bench: an agent with {nodes} nodes"));
    let node = Node::new(&format!("agent-{nodes}"), 0)?;
    measure(&Agent::start(&flags.programs, &node, nodes)?, &node)
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { version, effort, .. } = self;
        writeln!(
            f,
            "Selvedge beside `bridge` (a gateway, no masquerade) and `host-local` of Debian's \
             containernetworking-plugins\n{version}.\n\n\
             A time is a program's own, from exec to exit; the sides take turns call by call, each on a node of its \
             own, with\nits pods' namespaces made beforehand and its address store on tmpfs. {} pods one after \
             another, then {} at once,\nwhere each time counts from the moment in which all begin; the best of {} \
             rounds for each figure. In brackets the\nratio to `bridge` + `host-local`.\n",
            effort.pods, effort.at_once, effort.rounds,
        )?;
        writeln!(f, "{}", self.times(&self.empty))?;
        writeln!(f, "The same, with {} leases in the network:\n", effort.leases)?;
        writeln!(f, "{}", self.times(&self.leased))?;
        for load in &self.loads {
            let leases = load.leases();
            writeln!(
                f,
                "p50 / p90 / p99 over all rounds with {leases} leases, in brackets the ratio of the p99:\n\n{}",
                load.table()
            )?;
        }
        if let Some(agent) = &self.agent {
            writeln!(f, "The agent:\n\n{}", agent.table())?;
        }
        let missed = self.missed();
        let missed = if missed.is_empty() { "none".to_owned() } else { missed.join("; ") };
        writeln!(f, "Targets missed: {missed}.")
    }
}

impl Report {
    /// The times of every side.
    fn times(&self, scores: &Scores) -> Table {
        let heads = scores.iter().map(|(kind, _)| match kind {
            Kind::Reference => format!("{kind} {}", self.version),
            _ => kind.to_string(),
        });
        let mut table = Table::new([String::new()].into_iter().chain(heads).chain(["target".to_owned()]));
        for task in Task::ALL {
            let (typical, p99) = self.labels(task);
            let cells = |figure| scores.iter().map(move |(_, score)| cell(&scores[0].1, score, task, figure));
            let target = targets::text(task).to_owned();
            table.row([typical].into_iter().chain(cells(Spread::typical)).chain([target]));
            table.row([p99].into_iter().chain(cells(Spread::p99)).chain([String::new()]));
        }
        table
    }

    /// What a task's two rows are called.
    fn labels(&self, task: Task) -> (String, String) {
        let many = self.effort.at_once;
        match task {
            Task::Add => ("ADD, median".to_owned(), "ADD, p99".to_owned()),
            Task::Del => ("DEL, median".to_owned(), "DEL, p99".to_owned()),
            Task::Version => ("VERSION, median".to_owned(), "VERSION, p99".to_owned()),
            Task::Adds => (format!("{many} ADDs at once, the last"), format!("{many} ADDs at once, p99")),
            Task::Dels => (format!("{many} DELs at once, the last"), format!("{many} DELs at once, p99")),
        }
    }

    /// Every figure that is above its target.
    fn missed(&self) -> Vec<String> {
        let leased = format!(" with {} leases", self.effort.leases);
        let times = [("", &self.empty), (&leased, &self.leased)]
            .into_iter()
            .flat_map(|(load, scores)| scores.iter().map(move |side| (load, &scores[0].1, side)))
            .flat_map(|(load, reference, (kind, score))| {
                let over =
                    move |task| over_ratio(*kind, task, ratio(reference, score, task, Spread::typical)?);
                Task::ALL.into_iter().filter_map(move |task| {
                    Some(format!("{}{load}, {kind}: {:.2}", self.labels(task).0, over(task)?))
                })
            });
        let memory = self.agent.iter().flat_map(|agent| agent.memory).filter_map(over_memory);
        times.chain(memory).chain(self.loads.iter().flat_map(Load::missed)).collect()
    }
}

impl AgentFigures {
    fn table(&self) -> Table {
        let mut table = Table::new(["", "measured", "target"].map(str::to_owned));
        for (nodes, bytes) in self.memory {
            let target = format!("under {}", megabytes(targets::memory(nodes)));
            table.row([format!("resident memory, {nodes} nodes"), megabytes(bytes), target]);
        }
        for (figure, time) in [("median", self.route.typical()), ("p99", self.route.p99())] {
            table.row([
                format!("from a changed manifest to the route, {figure}"),
                milliseconds(time),
                String::new(),
            ]);
        }
        table
    }
}

fn over_ratio(kind: Kind, task: Task, ratio: f64) -> Option<f64> {
    (ratio > targets::ratio(kind, task)?).then_some(ratio)
}

fn over_memory((nodes, bytes): (u16, u64)) -> Option<String> {
    let over = bytes > targets::memory(nodes);
    over.then(|| format!("memory with {nodes} nodes: {}", megabytes(bytes)))
}

/// A figure, and its ratio to the reference's.
fn cell(reference: &Score, score: &Score, task: Task, figure: fn(&Spread) -> Duration) -> String {
    let Some(spread) = score.get(task) else { return "-".to_owned() };
    let time = milliseconds(figure(&spread));
    match ratio(reference, score, task, figure) {
        Some(ratio) if !std::ptr::eq(reference, score) => format!("{time} ({ratio:.2})"),
        _ => time,
    }
}

fn ratio(reference: &Score, score: &Score, task: Task, figure: fn(&Spread) -> Duration) -> Option<f64> {
    Some(figure(&score.get(task)?).div_duration_f64(figure(&reference.get(task)?)))
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// Kernel, processor and date: what the figures depend on.
pub(crate) fn machine() -> String {
    let uname = rustix::system::uname();
    let (system, release) = (uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processor.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let date = Command::new("date").arg("+%F").output().map(|output| output.stdout).unwrap_or_default();
    let date = String::from_utf8_lossy(&date);
    format!(
        "{system} {release}, {cores} cores of {}, {}.",
        model.unwrap_or("an unnamed processor"),
        date.trim()
    )
}
