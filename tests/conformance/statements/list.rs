//! The ids that must have a statement, written out.

use std::collections::BTreeSet;

use crate::statements::all;

/// Every id of the protocol's groups. One without a test fails the run.
#[rustfmt::skip]
const IDS: &[&str] = &[
    "IO-1", "IO-2", "IO-3", "IO-4", "IO-5", "IO-6", "IO-7", "IO-8", "IO-9", "IO-10", "IO-11",
    "ENV-1", "ENV-2", "ENV-3", "ENV-4", "ENV-5", "ENV-6", "ENV-7",
    "CFG-1", "CFG-2", "CFG-3", "CFG-4", "CFG-5",
    "ADD-1", "ADD-2", "ADD-3", "ADD-4", "ADD-5", "ADD-6", "ADD-7", "ADD-8", "ADD-9",
    "DEL-1", "DEL-2", "DEL-3", "DEL-4", "DEL-5", "DEL-6", "DEL-7",
    "CHK-1", "CHK-2", "CHK-3", "CHK-4", "CHK-5", "CHK-6", "CHK-7",
    "GC-1", "GC-2", "GC-3", "GC-4", "GC-5",
    "ST-1", "ST-2", "ST-3", "ST-4", "ST-5", "ST-6",
    "VER-1",
    "RES-1", "RES-2", "RES-3",
    "CONV-1", "CONV-2", "CONV-3", "CONV-4",
    "DG-1", "DG-2", "DG-3", "DG-4", "DG-5", "DG-6", "DG-7", "DG-8",
    "CAP-1", "CAP-2", "CAP-3", "CAP-4", "CAP-5", "CAP-6", "CAP-7", "CAP-8", "CAP-9", "CAP-10", "CAP-11", "CAP-12",
    "CAP-13", "CAP-14",
    "ERR-1", "ERR-2", "ERR-3", "ERR-4",
];

#[test]
fn every_statement_has_a_test() {
    let tested: Vec<&str> = all().map(|statement| statement.id).collect();
    let missing: Vec<_> = IDS.iter().filter(|id| !tested.contains(id)).collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
    assert_eq!(tested, IDS, "in this order, each once");
}

#[test]
fn every_test_is_named_after_its_statement() {
    let names: BTreeSet<_> = all().map(|statement| statement.name).collect();
    assert_eq!(names.len(), IDS.len(), "two have one name");
    for statement in all() {
        let begins = format!("{}_", statement.id.to_lowercase().replace('-', "_"));
        assert!(statement.name.starts_with(&begins), "{}: {}", statement.id, statement.name);
    }
}
