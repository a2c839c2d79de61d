//! What an agent's status says is amiss, in lines.

use std::io;

use selvedge_model::NodeName;
use serde_json::Value;

/// A line for each thing that the agent of a node says is amiss or to be known, each once. Of a node without any there is
/// no line, unless it isn't ready.
pub(super) fn told(node: &NodeName, answer: &io::Result<Value>) -> Vec<String> {
    let status = match answer {
        Ok(status) => status,
        Err(error) => return vec![format!("{node}: its agent doesn't say how it is: {error}")],
    };
    let reason = status["reason"].as_str();
    let lists = [&status["reasons"], &status["notes"]];
    let listed = lists.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    let mut lines: Vec<String> = Vec::new();
    for text in reason.into_iter().chain(listed) {
        let line = format!("{node}: {text}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let state = status["state"].as_str().unwrap_or("in a state that it doesn't tell");
    if lines.is_empty() && state != "ready" {
        lines.push(format!("{node}: is {state}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: Value) -> Vec<String> {
        told(&"node-a".parse().unwrap(), &Ok(status))
    }

    #[test]
    fn reasons_and_notes_are_told_once_each_with_their_node() {
        let silent = "nothing comes back from node-c by UDP 4789 (vxlan)";
        let status = json!({"state": "degraded", "reasons": ["add route: busy", silent], "notes": [silent]});
        assert_eq!(of(status), ["node-a: add route: busy", &format!("node-a: {silent}")]);
    }

    #[test]
    fn a_node_that_is_ready_has_no_line_and_one_that_is_not_has_one() {
        assert!(of(json!({"state": "ready", "notes": []})).is_empty());
        assert_eq!(of(json!({"state": "failed", "reasons": []})), ["node-a: is failed"]);
        assert_eq!(of(json!({"state": "waiting", "reason": "no Node"})), ["node-a: no Node"]);
    }

    #[test]
    fn an_agent_that_does_not_answer_is_told() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let lines = told(&"node-a".parse().unwrap(), &Err(refused));
        assert_eq!(lines, ["node-a: its agent doesn't say how it is: connection refused"]);
    }
}
