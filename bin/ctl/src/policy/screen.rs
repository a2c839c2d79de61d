//! What would change, for a terminal.

use selvedge_whatif::{Change, CutFlow, Effect, Family, NodeFlows, Parties, Preview};

use crate::status::printable;
use crate::table::columns;

/// How many lines there are of each kind, unless all are wanted.
const LINES: usize = 40;

/// How many are named at an end.
const NAMES: usize = 4;

/// All of it, or as much as a person reads.
pub(super) fn text(preview: &Preview, all: bool) -> String {
    let most = |most: usize| if all { usize::MAX } else { most };
    let shown = preview.changes.iter().take(most(LINES));
    let mut text = explained(shown.map(|change| (row(change, most(NAMES)), change.why.as_str())));
    text.push_str(&more(preview.changes.len().saturating_sub(most(LINES))));
    if preview.changes.is_empty() {
        text.push_str("nothing would open or close\n");
    }
    if !preview.complete {
        text.push_str("more may change: it is too much to compare at once; try fewer manifests at a time\n");
    }
    preview.tracked.iter().for_each(|node| text.push_str(&flows(node, most(LINES))));
    for note in &preview.notes {
        text.push_str(&format!("passed over: {}\n", printable(note)));
    }
    text
}

fn row(change: &Change, names: usize) -> Vec<String> {
    let effect = match change.effect {
        Effect::Closes => "closes",
        Effect::Opens => "opens",
    };
    let family = match change.family {
        None => "",
        Some(Family::V4) => " by IPv4",
        Some(Family::V6) => " by IPv6",
    };
    let ends = format!("{}  ──▶  {}", parties(&change.from, names), parties(&change.to, names));
    let row = [effect.to_owned(), ends, format!("{}{family}", change.protocols)];
    row.iter().map(|field| printable(field)).collect()
}

/// Those at one end: groups of them first, and of those that have names so many.
fn parties(parties: &Parties, names: usize) -> String {
    if parties.every_pod && parties.every_node && parties.everybody_outside {
        return "everybody".to_owned();
    }
    let groups = [
        (parties.everybody_outside, "everybody outside"),
        (parties.every_node, "every node"),
        (parties.every_pod, "every pod"),
    ];
    let groups = groups.into_iter().filter(|(is_meant, _)| *is_meant).map(|(_, group)| group.to_owned());
    let namespaces = parties.namespaces.iter().map(|namespace| format!("all pods of {namespace}"));
    let nodes = parties.nodes.iter().map(|node| format!("node {node}"));
    let named: Vec<String> = namespaces
        .chain(parties.pods.iter().cloned())
        .chain(nodes)
        .chain(parties.networks.iter().cloned())
        .collect();
    let beyond = named.len().saturating_sub(names);
    let told: Vec<String> = groups.chain(named.into_iter().take(names)).collect();
    let told = told.join(", ");
    if beyond > 0 { format!("{told} and {beyond} more") } else { told }
}

fn flows(node: &NodeFlows, most: usize) -> String {
    let count = node.cut.len() + node.beyond;
    let flows = if count == 1 { "flow" } else { "flows" };
    if count == 0 {
        return format!("{} tracks no flow that would be cut\n", printable(&node.node));
    }
    let mut text = format!("{} tracks {count} {flows} that would be cut:\n", printable(&node.node));
    text.push_str(&explained(node.cut.iter().take(most).map(|flow| (flow_row(flow), flow.why.as_str()))));
    text + &more(count - node.cut.len().min(most))
}

fn flow_row(flow: &CutFlow) -> Vec<String> {
    let end = |name: &Option<String>, address: &str| match name {
        Some(name) => format!("{name} {address}"),
        None => address.to_owned(),
    };
    let ends = format!("{}  ──▶  {}", end(&flow.from, &flow.source), end(&flow.to, &flow.destination));
    vec![printable(&format!("  {}", flow.protocol)), printable(&ends)]
}

/// Rows in columns, below each why it is so.
fn explained<'a>(rows: impl Iterator<Item = (Vec<String>, &'a str)>) -> String {
    let (rows, why): (Vec<_>, Vec<_>) = rows.unzip();
    let table = columns(&rows);
    let lines = table.lines().zip(why);
    lines.map(|(line, why)| format!("{line}\n        {}\n", printable(why))).collect()
}

fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!("  … and {count} more (--all, --json)\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(effect: Effect, from: &[&str], to: &str) -> Change {
        let pods = |names: &[&str]| Parties {
            pod_count: names.len(),
            pods: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Parties::default()
        };
        Change {
            effect,
            from: pods(from),
            to: pods(&[to]),
            protocols: "TCP/8080".to_owned(),
            family: None,
            why: "no policy selects it".to_owned(),
        }
    }

    fn preview(changes: Vec<Change>, cut: Vec<CutFlow>) -> Preview {
        let tracked = vec![NodeFlows { node: "node-a".to_owned(), cut, beyond: 0 }];
        Preview { changes, complete: true, tracked, notes: Vec::new() }
    }

    #[test]
    fn every_change_is_a_line_and_every_flow() {
        let everybody =
            Parties { every_pod: true, every_node: true, everybody_outside: true, ..Parties::default() };
        let closes = Change { from: everybody, ..change(Effect::Closes, &[], "x/web") };
        let opens = change(Effect::Opens, &["x/a", "x/b", "x/c", "x/d", "x/e", "x/f"], "x/db");
        let flow = CutFlow {
            from: Some("x/a".to_owned()),
            source: "10.0.0.2:4000".to_owned(),
            to: None,
            destination: "192.0.2.1:80".to_owned(),
            protocol: "TCP".to_owned(),
            why: "egress: no".to_owned(),
        };
        assert_eq!(
            text(&preview(vec![closes, opens], vec![flow]), false),
            "\
closes  everybody  ──▶  x/web                     TCP/8080
        no policy selects it
opens   x/a, x/b, x/c, x/d and 2 more  ──▶  x/db  TCP/8080
        no policy selects it
node-a tracks 1 flow that would be cut:
  TCP  x/a 10.0.0.2:4000  ──▶  192.0.2.1:80
        egress: no
"
        );
    }

    #[test]
    fn nobody_outside_is_behind_others_that_are_many() {
        let pods = change(Effect::Closes, &["x/a", "x/b", "x/c", "x/d", "x/e"], "x/db").from;
        let many = Parties { every_node: true, everybody_outside: true, ..pods };
        assert_eq!(parties(&many, 2), "everybody outside, every node, x/a, x/b and 3 more");
    }

    #[test]
    fn what_is_too_long_is_cut_and_counted() {
        let many = vec![change(Effect::Closes, &["x/a"], "x/b"); LINES + 5];
        let short = text(&preview(many.clone(), Vec::new()), false);
        assert!(short.contains("… and 5 more (--all, --json)\n"), "{short}");
        assert_eq!(text(&preview(many, Vec::new()), true).matches("closes").count(), LINES + 5);
        let nothing = text(&preview(Vec::new(), Vec::new()), false);
        assert_eq!(nothing, "nothing would open or close\nnode-a tracks no flow that would be cut\n");
    }
}
