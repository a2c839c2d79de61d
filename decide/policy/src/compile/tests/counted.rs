use selvedge_ruleset::listed::{Counted, Handle};

use super::*;
use crate::compile::counted::{Counting, Drop, chains};

/// db is isolated by two policies one of which admits web, web is seen by a shadow.
fn cluster() -> Cluster {
    let select = |app: &str| json!({"matchLabels": {"app": app}});
    let web = json!([{"podSelector": select("web")}]);
    let in_force = [
        ("x/allow", json!({"podSelector": select("db"), "ingress": [{"from": web}]})),
        ("x/deny", json!({"podSelector": select("db")})),
    ];
    let shadow = policy(&("x/trial", json!({"podSelector": select("web"), "ingress": [{"from": web}]})));
    of(in_force.iter().map(policy).chain([Policy { mode: Mode::Shadow, ..shadow }]))
}

/// The rules that count, each with so many packets times its place among them.
fn counted(table: &Table, packets: u64, handles: u64) -> Vec<Counted> {
    let rules =
        table.chains.iter().flat_map(|(name, chain)| chain.rules.iter().map(move |rule| (name, rule)));
    let counts = |rule: &Rule| rule.statements().iter().any(|one| *one == counter());
    let rules = rules.filter(|(_, rule)| counts(rule));
    let counted = |(number, (chain, rule)): (u64, (&ChainName, &Rule))| {
        let is_ours = ["ingress-", "strays"].iter().any(|ours| chain.as_str().starts_with(ours));
        let packets = if is_ours { packets } else { 0 };
        Counted { chain: chain.clone(), handle: Handle(handles + number), rule: rule.clone(), packets }
    };
    (0..).zip(rules).map(counted).collect()
}

#[test]
fn packets_are_summed_up_by_policy_and_direction_over_chains_that_come_and_go() {
    let cluster = cluster();
    let node = attached(&cluster, &node_1());
    let table = compile(&cluster, &node);
    let mut counting = Counting::default();
    let mut read = |packets, handles| {
        counting.take(&counted(&table, packets, handles), (&cluster, chains(&cluster, &node)));
        counting.totals().clone()
    };
    let sum = |sums: &BTreeMap<(PolicyKey, Direction), u64>| -> BTreeMap<String, u64> {
        sums.iter().map(|((key, direction), sum)| (format!("{key} {direction}"), *sum)).collect()
    };
    let sums = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
        pairs.iter().map(|(key, sum)| ((*key).to_owned(), *sum)).collect()
    };
    let first = read(100, 0);
    assert!(first.admitted.values().chain(first.dropped.values()).all(|sum| *sum == 0), "{first:?}");
    // A rule for each family.
    let second = read(103, 0);
    assert_eq!(sum(&second.admitted), sums(&[("x/allow ingress", 6)]));
    assert_eq!(sum(&second.denied), sums(&[("x/allow ingress", 3), ("x/deny ingress", 3)]));
    assert_eq!(sum(&second.would_admit), sums(&[("x/trial ingress", 6)]));
    assert_eq!(sum(&second.would_deny), sums(&[("x/trial ingress", 3)]));
    let by_policy = Drop::Policy("x".to_owned(), Direction::Ingress);
    assert_eq!((second.dropped[&by_policy], second.dropped[&Drop::Stray]), (3, 3));
    assert_eq!((second.dropped[&Drop::Unseen], second.dropped[&Drop::Revoked]), (0, 0));
    // All of it goes, with two more that no reading has seen; nothing is counted twice.
    counting.take_gone(&counted(&table, 105, 0));
    counting.take_gone(&[]);
    let mut read = |packets, handles| {
        counting.take(&counted(&table, packets, handles), (&cluster, chains(&cluster, &node)));
        counting.totals().clone()
    };
    // All of it made anew, with other handles and then with the same.
    assert_eq!(read(4, 1000).dropped[&by_policy], 9);
    assert_eq!(read(1, 1000).dropped[&by_policy], 10);
    // It is missing from a reading before it is told that it has gone.
    assert_eq!(read(0, 5000).dropped[&by_policy], 10);
    counting.take_gone(&counted(&table, 3, 1000));
    assert_eq!(counting.totals().dropped[&by_policy], 12);
    let none = of([]);
    counting.take(&[], (&none, chains(&none, &attached(&none, &node_1()))));
    let last = counting.totals();
    assert!(last.admitted.is_empty() && last.would_deny.is_empty() && last.dropped[&by_policy] == 12);
}

/// A comment has room for 128 bytes, and names for more.
#[test]
fn a_policy_with_a_long_name_is_counted_too() {
    let key = format!("x/{}", "long-".repeat(40));
    let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{}]});
    let cluster = of([policy(&(&key, spec))]);
    let node = attached(&cluster, &node_1());
    let table = compile(&cluster, &node);
    let mut counting = Counting::default();
    for packets in [0, 5] {
        counting.take(&counted(&table, packets, 0), (&cluster, chains(&cluster, &node)));
    }
    let totals = counting.totals();
    let key = PolicyKey { namespace: "x".to_owned(), name: key[2..].to_owned() };
    assert_eq!(
        (totals.admitted[&(key.clone(), Direction::Ingress)], totals.denied[&(key, Direction::Ingress)]),
        (5, 5)
    );
}
