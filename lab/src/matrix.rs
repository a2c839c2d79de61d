//! What became of every path, and how a person reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use selvedge_model::{NodeName, PodKey};
use serde::{Deserialize, Serialize};

use crate::path::{Path, PathKind};
use crate::plan::Place;

/// The outcome of every path of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// One probe a path.
    pub cells: Vec<Probe>,
}

/// A path that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The path.
    #[serde(flatten)]
    pub path: Path,
    /// The sender's address that the receiver must see; none if there is none of that family.
    pub expected_source: Option<IpAddr>,
    /// What happened.
    pub outcome: Outcome,
}

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The receiver got it and its answer came back.
    Reached {
        /// The sender's address, as the receiver saw it.
        seen_source: IpAddr,
    },
    /// No answer came back.
    Failed(Reason),
}

/// Why no answer came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// One of the two ends has no address of the family.
    NoAddress,
    /// Nothing at all came back in time.
    TimedOut,
    /// The receiver got it, but its answer did not come back in time.
    NoAnswer {
        /// The sender's address, as the receiver saw it.
        seen_source: IpAddr,
    },
    /// Small packets got through both ways, but large ones did not get to the receiver.
    LargeLostThere,
    /// Small packets got through both ways and large ones got to the receiver, but the receiver's did not come back.
    LargeLostBack {
        /// How many bytes of them did.
        after: usize,
    },
    /// Something on the way said that the receiver can't be reached.
    Unreachable {
        /// Who said so.
        by: IpAddr,
    },
    /// The sender's own kernel refused or gave up.
    System(String),
    /// What came back was no answer of ours.
    Garbled,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address"),
            Self::TimedOut => f.write_str("timed out"),
            Self::NoAnswer { seen_source } => write!(f, "arrived from {seen_source}, no answer came back"),
            Self::LargeLostThere => f.write_str("large packets are lost on the way there"),
            Self::LargeLostBack { after } => {
                write!(f, "large packets are lost on the way back: nothing after {after} bytes")
            }
            Self::Unreachable { by } => write!(f, "unreachable, says {by}"),
            Self::System(text) => f.write_str(text),
            Self::Garbled => f.write_str("the answer is none of the lab's"),
        }
    }
}

/// How a matrix is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// With the colours of a terminal.
    Colour,
}

impl Probe {
    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Reached { seen_source } if Some(*seen_source) == self.expected_source => None,
            Outcome::Reached { seen_source } => Some(match self.expected_source {
                Some(expected) => format!("arrived from {seen_source} instead of {expected}"),
                None => format!("arrived from {seen_source}"),
            }),
            Outcome::Failed(reason) => Some(reason.to_string()),
        }
    }

    /// The fault in as few words as a column has room for.
    fn brief_fault(&self) -> Option<String> {
        let fault = self.fault()?;
        Some(match &self.outcome {
            Outcome::Reached { .. } => "wrong source".to_owned(),
            Outcome::Failed(Reason::NoAnswer { .. }) => "no answer".to_owned(),
            Outcome::Failed(Reason::Unreachable { .. }) => "unreachable".to_owned(),
            Outcome::Failed(Reason::LargeLostThere | Reason::LargeLostBack { .. }) => {
                "large packets are lost".to_owned()
            }
            Outcome::Failed(_) => fault,
        })
    }
}

impl Matrix {
    /// The probes that went wrong.
    pub fn failed(&self) -> impl Iterator<Item = (&Probe, String)> {
        self.cells.iter().filter_map(|probe| Some((probe, probe.fault()?)))
    }

    /// The whole matrix as text: a row a pod, a column a kind of path, every failed path, and a last line that says
    /// how many were as expected.
    pub fn render(&self, style: Style) -> String {
        let mut lines = table(&self.rows(), style);
        let faults: Vec<String> =
            self.failed().map(|(probe, fault)| format!("{}: {fault}", probe.path)).collect();
        let good = self.cells.len() - faults.len();
        let count = format!("{good} of {} paths as expected.", self.cells.len());
        if faults.is_empty() {
            let remark = if good == 0 { "" } else { self.remark() };
            lines.push(paint(format!("{count} {remark}").trim_end(), GREEN, style));
        } else {
            lines.push(paint("Failed:", RED, style));
            lines.extend(faults.iter().map(|fault| format!("  {fault}")));
            lines.push(paint(&count, RED, style));
        }
        lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// What a sound matrix says of addresses.
    fn remark(&self) -> &'static str {
        if self.cells.iter().any(|probe| probe.path.is_over_overlay()) {
            "Pods kept their own address everywhere but towards the outside and, over an overlay, towards other nodes."
        } else {
            "Pods kept their own address everywhere but towards the outside."
        }
    }

    /// The pods in the order of their first probe, each with its probes by kind.
    fn rows(&self) -> Vec<Row<'_>> {
        let mut order: BTreeMap<(&NodeName, &PodKey), usize> = BTreeMap::new();
        let mut rows: Vec<Row<'_>> = Vec::new();
        for probe in &self.cells {
            let key = (&probe.path.node, &probe.path.pod);
            let at = *order.entry(key).or_insert(rows.len());
            if at == rows.len() {
                rows.push(Row { node: key.0, pod: key.1, probes: BTreeMap::new() });
            }
            if let Some(row) = rows.get_mut(at) {
                row.probes.entry(probe.path.kind).or_default().push(probe);
            }
        }
        rows
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

/// One pod's paths.
struct Row<'a> {
    node: &'a NodeName,
    pod: &'a PodKey,
    probes: BTreeMap<PathKind, Vec<&'a Probe>>,
}

/// One field of the table, and how it is coloured.
struct Cell {
    text: String,
    colour: Option<&'static str>,
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";

/// The heading and the rows, in columns as wide as their widest field.
fn table(rows: &[Row<'_>], style: Style) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let kinds = PathKind::ALL.map(|kind| plain(&kind.to_string()));
    let mut fields: Vec<Vec<Cell>> = vec![[plain(""), plain("")].into_iter().chain(kinds).collect()];
    for row in rows {
        let names = [plain(row.node.as_str()), plain(&short(row.pod))];
        let cells = PathKind::ALL.map(|kind| cell(row, kind));
        fields.push(names.into_iter().chain(cells).collect());
    }
    let widths: Vec<usize> = (0..PathKind::ALL.len() + 2)
        .map(|column| {
            fields.iter().filter_map(|line| line.get(column)).map(|c| c.text.len()).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &Vec<Cell>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| {
            let padding = " ".repeat(width - cell.text.len() + 2);
            cell.colour.map_or_else(|| cell.text.clone(), |c| paint(&cell.text, c, style)) + &padding
        });
        padded.collect::<String>()
    };
    fields.iter().map(line).collect()
}

/// All probes of one kind in one row: `ok`, or the first fault and how many more there are.
fn cell(row: &Row<'_>, kind: PathKind) -> Cell {
    let Some(probes) = row.probes.get(&kind) else {
        return plain("-");
    };
    let mut faults = probes.iter().filter_map(|probe| Some((probe, probe.brief_fault()?)));
    let Some((probe, fault)) = faults.next() else {
        let as_node = probes.iter().filter(|probe| is_seen_as_home(&probe.path)).count();
        let text = match as_node {
            0 => "ok".to_owned(),
            all if all == probes.len() => format!("ok as {}", row.node),
            _ => format!("ok, some as {}", row.node),
        };
        return Cell { text, colour: Some(GREEN) };
    };
    let more = match faults.count() {
        0 => String::new(),
        more => format!(" (+{more})"),
    };
    let text = format!("{} {}: {fault}{more}", probe.path.family, probe.path.protocol);
    Cell { text, colour: Some(RED) }
}

/// Whether the receiver sees the pod's node in the pod's place.
fn is_seen_as_home(path: &Path) -> bool {
    matches!(path.from, Place::Pod(_)) && path.seen_as == Place::Node(path.node.clone())
}

fn plain(text: &str) -> Cell {
    Cell { text: text.to_owned(), colour: None }
}

/// A pod's name, without the namespace where that is the default one.
fn short(pod: &PodKey) -> String {
    if pod.namespace == "default" { pod.name.clone() } else { pod.to_string() }
}

fn paint(text: &str, colour: &str, style: Style) -> String {
    match style {
        Style::Plain => text.to_owned(),
        Style::Colour => format!("{colour}{text}\x1b[0m"),
    }
}

#[cfg(test)]
mod tests;
