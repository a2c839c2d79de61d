//! What a plugin keeps on a node, as an administrator sees it, to be compared before and after.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

use selvedge_tests::{Stage, Traces};

/// Links, addresses, routes, rules and reserved addresses of a node, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State(BTreeSet<String>);

impl State {
    /// A node now. host-local's files are in `data`, ours where [`Traces`] finds them.
    pub(crate) fn of(stage: &Stage, data: &Path) -> Self {
        let traces = Traces::on(stage.node(), stage.folder());
        // Neighbours and connections appear in the kernel's own time.
        let lasting = |line: &&str| !line.starts_with("neighbour ") && !line.starts_with("connection ");
        let lines = traces.with("").into_iter().filter(lasting);
        let mut lines: BTreeSet<String> = lines.map(str::to_owned).collect();
        for network in names_in(data) {
            // The lock and the cursors stay on purpose.
            let held = names_in(&data.join(&network));
            let held = held.iter().filter(|file| *file != "lock" && !file.starts_with("last_reserved_ip"));
            lines.extend(held.map(|file| format!("lease {network} {file}")));
        }
        Self(lines)
    }

    /// How many lines begin with a word.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.0.iter().filter(|line| line.starts_with(word)).count()
    }

    /// Whether there is a line with all of these parts.
    pub(crate) fn has(&self, parts: &[&str]) -> bool {
        self.0.iter().any(|line| parts.iter().all(|part| line.contains(part)))
    }

    /// What there is more now, and what is missing, by kind.
    pub(crate) fn differences_to(&self, now: &Self) -> Vec<String> {
        let more = kinds(now.0.difference(&self.0));
        let less = kinds(self.0.difference(&now.0));
        let list = |kinds: BTreeSet<&str>| kinds.into_iter().collect::<Vec<_>>().join(", ");
        let mut differences = Vec::new();
        if !more.is_empty() {
            differences.push(format!("left: {}", list(more)));
        }
        if !less.is_empty() {
            differences.push(format!("lost: {}", list(less)));
        }
        differences
    }

    /// The same in full, for whoever reads a failed test.
    pub(crate) fn lines_to(&self, now: &Self) -> String {
        let more = now.0.difference(&self.0).map(|line| format!("+ {line}"));
        let less = self.0.difference(&now.0).map(|line| format!("- {line}"));
        more.chain(less).collect::<Vec<_>>().join("\n")
    }
}

fn kinds<'a>(lines: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    let word = |line: &'a String| match line.split(' ').next().unwrap_or_default() {
        "link" => "links",
        "address" => "addresses",
        "route" => "routes",
        "lease" => "reservations",
        "lock" => "locks",
        word if word == "nft" || word.contains("tables") => "rules",
        other => other,
    };
    lines.map(word).collect()
}

/// The names in a folder; none where there is no such folder.
pub(crate) fn names_in(folder: &Path) -> BTreeSet<String> {
    let names = || -> io::Result<BTreeSet<String>> {
        let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        Ok(entries.iter().map(name).collect())
    };
    names().unwrap_or_default()
}
