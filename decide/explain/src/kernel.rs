//! What a kernel holds beside what is desired of it.

use std::collections::BTreeMap;

use selvedge_datapath::firewall::AGENT;
use selvedge_datapath::state::Route;
use selvedge_model::Sorted;
use selvedge_ruleset::{Listed, Ownership, Scope, Table, diff};

use crate::Kernel;

/// How many differences are told one by one.
const TOLD: usize = 8;

/// Compares policy's part of the agent's table.
pub(crate) fn of_policy(desired: &Table, listed: &Listed) -> Kernel {
    let mut listed = listed.clone();
    listed.retain(|id, _| *id == AGENT);
    if let Some(table) = listed.get_mut(&AGENT) {
        table.chains.retain(|name, _| desired.chains.contains_key(name));
        table.sets.retain(|name, _| desired.sets.contains_key(name));
        if let Ownership::Other { .. } = table.ownership {
            // The agent's, which is asked by another socket than the one that it has the table by.
            table.ownership = Ownership::Mine;
        }
    }
    let owned = listed.get(&AGENT).is_some_and(|table| table.known().owned);
    let wanted = BTreeMap::from([(AGENT, Table { owned, ..desired.clone() })]);
    told(diff(&wanted, &listed, Scope::Whole).commands().iter().map(ToString::to_string).collect())
}

/// Looks for a route.
pub(crate) fn of_route(desired: &Route, there: &Sorted<Route>) -> Kernel {
    let is_there = there.iter().any(|route| {
        (route.destination, route.via, &route.device) == (desired.destination, desired.via, &desired.device)
    });
    told(if is_there { Vec::new() } else { vec![format!("ip route add {desired}")] })
}

fn told(mut todo: Vec<String>) -> Kernel {
    if todo.is_empty() {
        return Kernel::Agrees;
    }
    let beyond = todo.len().saturating_sub(TOLD);
    todo.truncate(TOLD);
    if beyond > 0 {
        todo.push(format!("and {beyond} more"));
    }
    Kernel::Differs(todo)
}
