//! The status of a whole cluster: a line for each node.

use std::collections::BTreeMap;
use std::process::ExitCode;

use selvedge_model::chain;
use selvedge_reconcile::status::{State, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::screen::printable;
use super::{AMISS, READY, SILENT, print};
use crate::kubectl::{Kubectl, KubectlError, each, items};
use crate::table::headed;

/// What became of one node.
enum Answer {
    /// Its agent's status, and all that it answered.
    Told(Box<Status>, Value),
    /// Why it has none.
    Silent(String),
}

/// Asks every node and prints a table, or all of it as JSON.
pub(super) fn run(kubectl: &Kubectl, json: bool) -> ExitCode {
    match ask(kubectl) {
        Ok(nodes) => {
            let text = if json { as_json(&nodes) } else { as_table(&nodes) };
            print(&mut std::io::stdout().lock(), &text);
            ExitCode::from(code(&nodes))
        }
        Err(error) => {
            print(&mut std::io::stderr().lock(), &format!("selvedgectl: {}\n", chain(&error)));
            ExitCode::from(SILENT)
        }
    }
}

/// The nodes by name: those that the cluster has, and those that agents say they are on.
fn ask(kubectl: &Kubectl) -> Result<BTreeMap<String, Answer>, KubectlError> {
    let listed = kubectl.json(&["get", "nodes", "--output=json"])?;
    let names = items(&listed).filter_map(|node| node["metadata"]["name"].as_str());
    let none = || Answer::Silent("no pod of the agent is on this node".to_owned());
    let mut nodes: BTreeMap<String, Answer> = names.map(|name| (name.to_owned(), none())).collect();
    let agents = kubectl.agents()?;
    let answers = each(&agents, |agent| {
        let told = kubectl.in_agent(agent, &["status", "--json"]).map_err(|error| chain(&error))?;
        let status =
            Status::deserialize(&told).map_err(|error| format!("{} answers: {error}", agent.name))?;
        Ok((Box::new(status), told))
    });
    for (agent, answer) in agents.into_iter().zip(answers) {
        let answer = match answer {
            Ok((status, told)) => Answer::Told(status, told),
            Err(why) => Answer::Silent(why),
        };
        // While an agent is replaced there may be two pods: the one that answers counts.
        match (nodes.get(&agent.node), &answer) {
            (Some(Answer::Told(..)), Answer::Silent(_)) => {}
            _ => drop(nodes.insert(agent.node, answer)),
        }
    }
    Ok(nodes)
}

fn as_json(nodes: &BTreeMap<String, Answer>) -> String {
    let nodes = nodes.iter().map(|(node, answer)| match answer {
        Answer::Told(_, told) => json!({"node": node, "status": told}),
        Answer::Silent(why) => json!({"node": node, "error": why}),
    });
    format!("{:#}\n", json!({"nodes": nodes.collect::<Vec<_>>()}))
}

const HEADING: [&str; 8] = ["NODE", "STATE", "POD CIDRS", "PODS", "ROUTES", "REPAIRED", "HEARD", "VERSION"];

fn as_table(nodes: &BTreeMap<String, Answer>) -> String {
    let mut text = headed(&HEADING, nodes.iter().map(|(node, answer)| row(node, answer)));
    for (node, answer) in nodes {
        for reason in reasons(answer) {
            text.push_str(&format!("{}: {}\n", printable(node), printable(&reason)));
        }
    }
    let ready = nodes.values().filter(|answer| is_ready(answer)).count();
    text.push_str(&format!("{ready} of {} nodes are ready.\n", nodes.len()));
    text
}

fn row(node: &str, answer: &Answer) -> Vec<String> {
    let node = printable(node);
    let Answer::Told(status, _) = answer else { return vec![node, "silent".to_owned()] };
    let state = match &status.state {
        State::Ready => "ready",
        State::Waiting { .. } => "waiting",
        State::Degraded { .. } => "degraded",
        State::Failed { .. } => "FAILED",
    };
    let heard = match status.source_age().as_secs() {
        _ if status.source_lost_ms.is_none() => "now".to_owned(),
        seconds => format!("{seconds} s ago"),
    };
    vec![
        node,
        state.to_owned(),
        printable(&status.wanted.pod_cidrs.join(",")),
        status.wanted.attachments.len().to_string(),
        status.wanted.routes.len().to_string(),
        status.repaired.values().sum::<u64>().to_string(),
        heard,
        printable(&status.version),
    ]
}

fn reasons(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Silent(why) => vec![why.clone()],
        Answer::Told(status, _) => match &status.state {
            State::Ready => Vec::new(),
            State::Waiting { reason } => vec![reason.clone()],
            State::Degraded { reasons } | State::Failed { reasons } => reasons.clone(),
        },
    }
}

fn is_ready(answer: &Answer) -> bool {
    matches!(answer, Answer::Told(status, _) if status.state == State::Ready)
}

fn code(nodes: &BTreeMap<String, Answer>) -> u8 {
    match nodes.values().filter(|answer| is_ready(answer)).count() {
        ready if ready == nodes.len() && ready > 0 => READY,
        _ if nodes.values().any(|answer| matches!(answer, Answer::Told(..))) => AMISS,
        _ => SILENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(node: &str, state: State) -> Answer {
        let mut status = Status::starting(node, "1.2.3");
        status.state = state;
        status.wanted.pod_cidrs = vec!["10.244.0.0/24".to_owned()];
        status.repaired = [("route".to_owned(), 3), ("sysctl".to_owned(), 1)].into();
        let whole = serde_json::to_value(&status).unwrap();
        Answer::Told(Box::new(status), whole)
    }

    #[test]
    fn every_node_has_a_line_and_what_is_amiss_follows() {
        let waiting = State::Waiting { reason: "the Node has no podCIDR".to_owned() };
        let nodes = BTreeMap::from([
            ("node-a".to_owned(), told("node-a", State::Ready)),
            ("node-b".to_owned(), told("node-b", waiting)),
            ("node-c".to_owned(), Answer::Silent("no pod of the agent is on this node".to_owned())),
        ]);
        assert_eq!(
            as_table(&nodes),
            "\
NODE    STATE    POD CIDRS      PODS  ROUTES  REPAIRED  HEARD  VERSION
node-a  ready    10.244.0.0/24  0     0       4         now    1.2.3
node-b  waiting  10.244.0.0/24  0     0       4         now    1.2.3
node-c  silent
node-b: the Node has no podCIDR
node-c: no pod of the agent is on this node
1 of 3 nodes are ready.
"
        );
        assert_eq!(code(&nodes), AMISS);
        let data: Value = serde_json::from_str(&as_json(&nodes)).unwrap();
        assert_eq!(data["nodes"][0]["status"]["state"], "ready");
        assert!(data["nodes"][2]["error"].is_string());
    }

    #[test]
    fn the_code_says_whether_all_some_or_none_answer() {
        let ready = || told("node-a", State::Ready);
        let silent = || Answer::Silent("gone".to_owned());
        let of = |answers: Vec<Answer>| {
            let named = answers.into_iter().enumerate().map(|(at, answer)| (at.to_string(), answer));
            code(&named.collect())
        };
        assert_eq!(of(vec![ready(), ready()]), READY);
        assert_eq!(of(vec![ready(), silent()]), AMISS);
        assert_eq!(of(vec![silent()]), SILENT);
        assert_eq!(of(vec![]), SILENT);
    }
}
