//! How fast an agent of a large cluster follows it, and what it needs.

use std::fmt::{self, Display, Formatter};
use std::thread;
use std::time::{Duration, Instant};

use super::fleet::Fleet;
use super::notices::{Notices, Turn};
use super::world::{Access, World};
use crate::error::BenchError;
use crate::report::{megabytes, milliseconds};
use crate::spread::rank;
use crate::table::Table;
use crate::{say, targets};

/// What is measured of the agent in large clusters.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Scale {
    /// The pods of each cluster.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 50_000])]
    pub(crate) cluster_pods: Vec<usize>,
    /// The pods among them that are the node's own.
    #[arg(long, default_value_t = 110)]
    pub(crate) local_pods: usize,
    /// The namespaces of each cluster, which have their pods and policies evenly.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) namespaces: usize,
    /// The policies of each cluster.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) policies: usize,
    /// First loads, of which the median is told.
    #[arg(long, default_value_t = 5)]
    pub(crate) loads_of_all: usize,
    /// Changes of each kind, one at a time.
    #[arg(long, default_value_t = 200)]
    pub(crate) changes_of_each: usize,
    /// Between a change and the next, in milliseconds, so that each is one of its own: an agent may rest after a pass.
    #[arg(long, default_value_t = 250)]
    pub(crate) between_changes: u64,
    /// How large a pod's object is in the API, in bytes.
    #[arg(long, default_value_t = 7_000)]
    pub(crate) object_bytes: usize,
}

/// Until memory is read.
const AT_REST: Duration = Duration::from_secs(5);
/// For how long a change is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kinds of changes, in the order in which they are told.
const CHANGES: [&str; 4] =
    ["a label of another node's pod set", "that label gone", "a policy added", "a policy removed"];

/// What was measured.
#[derive(Debug)]
pub(crate) struct Control {
    effort: Scale,
    clusters: Vec<Figures>,
}

/// The same of one cluster.
#[derive(Debug)]
struct Figures {
    pods: usize,
    loads: Vec<Duration>,
    changes: Changes,
    /// Resident bytes at rest after the first load, at most until then, and after all changes.
    memory: [u64; 3],
}

/// The times of each kind of changes.
#[derive(Debug, Default)]
struct Changes {
    times: [Vec<Duration>; 4],
    /// The agent's processor time for one of the first two kinds, and for one of the others.
    processor: [Duration; 2],
}

impl Control {
    /// Measures one cluster after another.
    pub(crate) fn measure(effort: &Scale) -> Result<Self, BenchError> {
        let clusters = effort.cluster_pods.iter().map(|pods| Figures::measure(effort, *pods));
        Ok(Self { clusters: clusters.collect::<Result<_, _>>()?, effort: effort.clone() })
    }

    /// Every figure that is above its target.
    fn missed(&self) -> Vec<String> {
        self.clusters.iter().flat_map(Figures::missed).collect()
    }

    fn table(&self) -> Table {
        let heads = self.clusters.iter().map(|cluster| format!("{} pods", cluster.pods));
        let mut table = Table::new([String::new()].into_iter().chain(heads).chain(["target".to_owned()]));
        let rows: Vec<_> = self.clusters.iter().map(Figures::rows).collect();
        let Some(first) = rows.first() else { return table };
        for (place, (label, ..)) in first.iter().enumerate() {
            let cells = rows.iter().map(|rows| rows[place].1.clone());
            let mut targets: Vec<&str> = rows.iter().map(|rows| rows[place].2.as_str()).collect();
            targets.dedup();
            table.row([label.clone()].into_iter().chain(cells).chain([targets.join(", ")]));
        }
        table
    }
}

impl Figures {
    fn measure(effort: &Scale, pods: usize) -> Result<Self, BenchError> {
        say(&format!("bench: an agent among {pods} pods: {} of them are attached", effort.local_pods));
        let mut fleet = Fleet::new(|node| World {
            node,
            pods,
            local: effort.local_pods,
            namespaces: effort.namespaces,
            policies: effort.policies,
            object: effort.object_bytes,
        })?;
        say(&format!("bench: {} first loads", effort.loads_of_all));
        let loads = (0..effort.loads_of_all.max(1)).map(|_| {
            let took = fleet.first_load()?;
            say(&format!("bench: a first load: {}", milliseconds(took)));
            Ok(took)
        });
        let loads = loads.collect::<Result<Vec<_>, BenchError>>()?;
        thread::sleep(AT_REST);
        let (rest, most) = (fleet.memory("VmRSS")?, fleet.memory("VmHWM")?);
        say(&format!("bench: it has {} resident, {} at most", megabytes(rest), megabytes(most)));
        let changes = changes(&fleet, effort)?;
        thread::sleep(AT_REST);
        let memory = [rest, most, fleet.memory("VmRSS")?];
        let figures = Self { pods, loads, changes, memory };
        figures.rows().iter().for_each(|(label, value, _)| say(&format!("bench: {label}: {value}")));
        Ok(figures)
    }

    /// What each row says, of what, and what it should say.
    fn rows(&self) -> Vec<(String, String, String)> {
        let target = |time: Option<Duration>| time.map(|time| format!("p99 {}", short(time)));
        let mut rows = vec![(
            "first load, median / longest".to_owned(),
            percentiles(&self.loads, &[50, 100]),
            format!("under {}", short(targets::FIRST_LOAD)),
        )];
        for (place, (name, times)) in CHANGES.iter().zip(&self.changes.times).enumerate() {
            rows.push((
                format!("{name}, p50 / p99 / longest"),
                percentiles(times, &[50, 99, 100]),
                target(targets::change(place)).unwrap_or_default(),
            ));
        }
        for (name, used) in ["a label", "a policy"].iter().zip(self.changes.processor) {
            rows.push((format!("processor time for {name}, mean"), milliseconds(used), String::new()));
        }
        let [rest, most, after] = self.memory;
        let under = format!("under {}", megabytes(targets::memory_among(self.pods)));
        rows.push(("resident at rest".to_owned(), megabytes(rest), under.clone()));
        rows.push(("resident at most until then".to_owned(), megabytes(most), String::new()));
        rows.push(("resident after the changes".to_owned(), megabytes(after), under));
        rows
    }

    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        let typical = rank(&self.loads, 50).unwrap_or_default();
        if typical > targets::FIRST_LOAD {
            missed.push(format!("first load among {} pods: {}", self.pods, milliseconds(typical)));
        }
        for (place, (name, times)) in CHANGES.iter().zip(&self.changes.times).enumerate() {
            let p99 = rank(times, 99).unwrap_or_default();
            if targets::change(place).is_some_and(|target| p99 > target) {
                missed.push(format!("{name} among {} pods, p99: {}", self.pods, milliseconds(p99)));
            }
        }
        let [rest, _, after] = self.memory;
        if rest.max(after) > targets::memory_among(self.pods) {
            missed.push(format!("memory among {} pods: {}", self.pods, megabytes(rest.max(after))));
        }
        missed
    }
}

/// Makes changes one at a time, and times each from the moment in which the API has it to the kernel's notice.
fn changes(fleet: &Fleet, effort: &Scale) -> Result<Changes, BenchError> {
    let (count, between) = (effort.changes_of_each, Duration::from_millis(effort.between_changes));
    let mut notices = Notices::of(fleet.node())?;
    let mut changes = Changes::default();
    let mut used = [fleet.processor()?; 3];
    let mut timed = |place: usize, event: (Turn, &str, [u8; 4]), change: &mut dyn FnMut()| {
        thread::sleep(between);
        notices.forget()?;
        let began = Instant::now();
        change();
        let seen = notices.wait_for(event, PATIENCE)?;
        let seen = seen.ok_or_else(|| fleet.failed(&format!("{} was not seen", CHANGES[place])))?;
        changes.times[place].push(seen - began);
        Ok::<_, BenchError>(())
    };
    say(&format!("bench: {count} labels of other nodes' pods change there and back"));
    for number in 0..count {
        let pod = fleet.world.neighbour(number);
        let address = fleet.world.address(pod);
        let turns = [(Turn::Came, Access::Granted), (Turn::Went, Access::None)];
        for (place, (turn, access)) in turns.into_iter().enumerate() {
            let mut object = Some(fleet.world.pod(pod, access));
            timed(place, (turn, "peers4-", address), &mut || {
                object.take().into_iter().for_each(|object| fleet.server.put("pods", object));
            })?;
        }
    }
    used[1] = fleet.processor()?;
    say(&format!("bench: {count} policies come and go"));
    for number in 0..count {
        let place = number % fleet.world.local.saturating_sub(1).max(1);
        // The map leads the pod to another chain each time.
        let event = (Turn::Came, "ingress4", fleet.address(place));
        let mut policy = Some(fleet.world.further(number));
        let key = policy.as_ref().map(|policy| {
            let text = |field: &str| policy["metadata"][field].as_str().unwrap_or_default().to_owned();
            format!("{}/{}", text("namespace"), text("name"))
        });
        timed(2, event, &mut || {
            policy.take().into_iter().for_each(|policy| fleet.server.put("networkpolicies", policy));
        })?;
        timed(3, event, &mut || {
            key.iter().for_each(|key| fleet.server.delete("networkpolicies", key));
        })?;
    }
    used[2] = fleet.processor()?;
    let each = |used: Duration| used.div_f64((count * 2).max(1) as f64);
    changes.processor = [each(used[1] - used[0]), each(used[2] - used[1])];
    Ok(changes)
}

fn percentiles(times: &[Duration], percents: &[usize]) -> String {
    let figures = percents.iter().map(|percent| rank(times, *percent).map(milliseconds).unwrap_or_default());
    let figures: Vec<_> = figures.map(|figure| figure.trim_end_matches(" ms").to_owned()).collect();
    format!("{} ms", figures.join(" / "))
}

fn short(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

impl Display for Control {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Scale {
            local_pods,
            namespaces,
            policies,
            changes_of_each,
            loads_of_all,
            object_bytes,
            between_changes,
            ..
        } = &self.effort;
        writeln!(
            f,
            "One agent whose node has {local_pods} pods, in clusters of {namespaces} namespaces and {policies} policies, \
             all told by a double of the\nAPI server on the same machine, a pod's object of {object_bytes} bytes. The \
             pods were attached by the plugin. First load: from\nthe agent's exec, with nothing of it in nftables, to the \
             last of the transactions after which nothing follows; {loads_of_all}\ntimes. Changes: {changes_of_each} of \
             each kind, one at a time, {between_changes} ms after the one before was seen, each from the moment in\n\
             which the API is given it to the kernel's notice that the transaction is in force: of the pod's address in a \
             set that a\nlocal pod's rules look up, or of the local pod's verdict, which leads to another chain then. So \
             the times have the\ndouble's, the agent's, the kernel's and the listener's share in them.\n"
        )?;
        let missed = self.missed();
        let missed = if missed.is_empty() { "none".to_owned() } else { missed.join("; ") };
        writeln!(f, "{}\nTargets missed: {missed}.", self.table())
    }
}
