//! What the plugin was told by its clients, and what it is ordered to do before it is ours.

use std::collections::BTreeMap;
use std::fs;

use selvedge_tests::Machine;
use serde_json::Value;

/// One call of the plugin type `recorder`, which is ours behind a shim.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// The configuration.
    pub(crate) stdin: Value,
}

impl Recorded {
    /// A variable's value.
    pub(crate) fn variable(&self, name: &str) -> &str {
        self.environment.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.environment))
    }

    /// The values in CNI_ARGS.
    pub(crate) fn arguments(&self) -> BTreeMap<&str, &str> {
        let pairs = self.variable("CNI_ARGS").split(';').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap()).collect()
    }
}

/// The calls of a verb so far, in order.
pub(crate) fn calls(machine: &Machine, verb: &str) -> Vec<Recorded> {
    let entries = fs::read_dir(machine.path("/run/recorder/calls")).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "env"));
    paths.sort();
    let recorded = paths.into_iter().map(|path| {
        let environment = fs::read_to_string(&path).unwrap();
        let pairs = environment.lines().filter_map(|line| line.split_once('='));
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let stdin = serde_json::from_slice(&fs::read(path.with_extension("stdin")).unwrap()).unwrap();
        Recorded { environment, stdin }
    });
    recorded.filter(|call| call.variable("CNI_COMMAND") == verb).collect()
}

/// Orders lines of shell to be executed first on calls of a verb.
pub(crate) fn order(machine: &Machine, verb: &str, lines: &str) {
    machine.write(&format!("/run/recorder/orders/{verb}"), lines);
}
