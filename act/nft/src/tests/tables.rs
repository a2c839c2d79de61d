//! Tables as values, in the kernel and back.

use std::collections::BTreeMap;

use proptest::prelude::*;
use selvedge_ruleset::show::Listing;
use selvedge_ruleset::{
    ChainName, Change, Listed, Rule, Seen, SetName, Statement, Table, TableId, Transaction,
};

use super::samples::{self, BRIDGE, INET};
use super::{in_namespace, installed, make, run, towards};
use crate::compile::compile;
use crate::decompile::decompile;
use crate::{NftError, NftSocket};

fn rules_of(tables: &BTreeMap<TableId, Table>) -> impl Iterator<Item = (&TableId, &Rule)> {
    tables
        .iter()
        .flat_map(|(id, table)| table.chains.values().flat_map(move |c| c.rules.iter().map(move |r| (id, r))))
}

#[test]
fn the_samples_are_well_shaped() {
    for (id, table) in samples::all() {
        assert_eq!(selvedge_ruleset::shape::check(&id, &table), Ok(()), "{id}");
    }
}

#[test]
fn every_rule_comes_back_from_its_expressions() {
    for (id, rule) in rules_of(&samples::all()) {
        let back = decompile(id.family, &compile(id.family, rule));
        assert_eq!(back.statements(), rule.statements(), "{rule}");
    }
}

proptest! {
    /// Statements in any order: what one of them proves changes what the next one's expressions are.
    #[test]
    fn rules_of_any_statements_come_back(picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        for (id, table) in samples::all() {
            let rules: Vec<&Rule> = table.chains.values().flat_map(|chain| chain.rules.iter()).collect();
            let all: Vec<&Statement> = rules.iter().flat_map(|rule| rule.statements()).collect();
            let rule = Rule::new(picks.iter().map(|pick| (*pick.get(&all)).clone()));
            let back = decompile(id.family, &compile(id.family, &rule));
            prop_assert_eq!(back.statements(), rule.statements(), "{}", rule);
        }
    }
}

#[test]
fn the_kernel_lists_what_was_made() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let desired = samples::all();
        let listed = make(&mut socket, &desired);
        for (id, table) in &desired {
            assert_eq!(listed[id].known(), *table, "{id}");
        }
        assert_eq!(towards(&desired, &listed).to_string(), "");
    });
}

#[test]
fn nft_lists_the_tables_as_they_are_displayed() {
    if !installed("nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let desired = samples::all();
        make(&mut socket, &desired);
        for (id, table) in &desired {
            let listed = run(&format!("nft -s list table {id}"), "");
            let ours = Listing(id, table).to_string();
            let (ours, listed) = (lines(&ours), lines(&listed));
            ours.iter().zip(&listed).for_each(|(ours, nft)| assert_eq!(ours, nft, "{id}"));
            assert_eq!(ours.len(), listed.len(), "{id}");
        }
    });
}

/// The lines of a listing but for what differs each time: how long elements still have, and in which order nft
/// puts keys that it takes for numbers of this machine's byte order.
pub(super) fn lines(listing: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = Vec::new();
    let mut elements = 0..0;
    for line in listing.lines() {
        let line = line.split(" expires ").next().unwrap_or(line);
        let bare = line.trim_start().trim_start_matches("elements = { ").trim_end_matches([',', '}', ' ']);
        if line.contains("elements = {") {
            elements = lines.len()..lines.len();
        }
        let in_elements = line.starts_with("\t\t\t") || line.contains("elements = {");
        lines.push(if in_elements { bare } else { line });
        if in_elements {
            elements.end = lines.len();
            lines[elements.clone()].sort_unstable();
        }
    }
    lines
}

#[test]
fn nft_makes_the_same_of_the_script() {
    if !installed("nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let desired = samples::all();
        let script = towards(&desired, &Listed::new()).to_string();
        // nft 1.0.6 can't compare raw bits with a set's type, and swaps a single byte's order for ranges.
        let beyond_nft = |line: &&str| line.contains("@th,64,128 != @") || line.contains("@ranges");
        let script: Vec<&str> = script.lines().filter(|line| !beyond_nft(line)).collect();
        run("nft -f -", &(script.join("\n") + "\n"));
        let ids: Vec<TableId> = desired.keys().cloned().collect();
        let left = towards(&desired, &socket.list(&ids).unwrap()).to_string();
        assert!(left.lines().all(|line| beyond_nft(&line)), "still to do after nft did it: {left}");
    });
}

#[test]
fn a_change_of_one_element_is_one_command_and_arrives() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut desired = samples::all();
        make(&mut socket, &desired);
        let many = SetName::literal("many");
        let ten: Vec<_> = (600..610u16).map(|last| std::net::Ipv6Addr::from(u128::from(last))).collect();
        desired.get_mut(&INET).unwrap().sets.insert(many, selvedge_ruleset::Set::of(ten));
        let observed = socket.list(&[INET, BRIDGE, samples::IP]).unwrap();
        let transaction = towards(&desired, &observed);
        assert_eq!(transaction.commands().len(), 2);
        socket.apply(&transaction).unwrap();
        let observed = socket.list(&[INET, BRIDGE, samples::IP]).unwrap();
        assert!(towards(&desired, &observed).is_empty());
    });
}

#[test]
fn every_sample_can_be_turned_into_every_other_and_back() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut halved = samples::inet();
        for chain in halved.chains.values_mut() {
            chain.rules = chain.rules.iter().step_by(2).rev().cloned().collect();
        }
        let retyped: Vec<SetName> = halved.sets.keys().filter(|set| !halved.uses(set)).cloned().collect();
        retyped.into_iter().for_each(|set| drop(halved.sets.remove(&set)));
        for table in [samples::inet(), halved, Table::new(), samples::inet()] {
            let desired = BTreeMap::from([(INET, table)]);
            let listed = make(&mut socket, &desired);
            assert_eq!(listed[&INET].known(), desired[&INET]);
        }
    });
}

#[test]
fn a_refused_command_is_named_and_nothing_is_changed() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut transaction = Transaction::default();
        transaction.push(&INET, Change::AddTable { owned: false });
        transaction.push(&INET, Change::FlushChain(ChainName::literal("nowhere")));
        transaction.push(&INET, Change::DeleteSet(SetName::literal("neither")));
        let error = socket.apply(&transaction).unwrap_err();
        assert!(
            matches!(&error, NftError::Refused { command, .. } if command == "flush chain inet sample nowhere"),
            "{error}"
        );
        assert_eq!(socket.list(&[INET]).unwrap(), Listed::new());
    });
}

#[test]
fn a_large_set_goes_in_one_transaction() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let addresses = (0..20_000u32).map(std::net::Ipv4Addr::from_bits);
        let table = Table::new().set(SetName::literal("large"), selvedge_ruleset::Set::of(addresses));
        let desired = BTreeMap::from([(INET, table)]);
        let listed = make(&mut socket, &desired);
        assert!(towards(&desired, &listed).is_empty());
    });
}

#[test]
fn a_foreign_change_is_seen_and_undone() {
    if !installed("nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let desired = samples::all();
        make(&mut socket, &desired);
        for foreign in [
            "add rule inet sample forward meta skuid 7 limit rate 5/second drop",
            "insert rule inet sample forward ip saddr { 1.2.3.4, 1.2.3.5 } accept",
            "add set inet sample strange { type ipv4_addr; counter; }",
            "add chain inet sample extra { type filter hook ingress device lo priority 0; }",
            "delete element inet sample pairs { \"slv1\" . 10.244.0.1 }",
            "add element inet sample nets { 1.0.0.0/8 }",
            "flush chain inet sample lookups",
            "add table inet sample { flags dormant; }",
            "delete table inet sample",
            "flush ruleset",
        ] {
            run("nft -f -", &format!("{foreign}\n"));
            let observed = socket.list(&[INET, BRIDGE, samples::IP]).unwrap();
            assert!(!towards(&desired, &observed).is_empty(), "{foreign} was not seen");
            let listed = make(&mut socket, &desired);
            assert!(towards(&desired, &listed).is_empty(), "{foreign} was not undone");
            assert!(listed[&INET].sets.values().all(|set| matches!(set, Seen::Known(_))));
        }
    });
}

#[test]
fn an_update_starts_over_when_somebody_was_faster() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut other = NftSocket::open().unwrap();
        let mut looks = 0;
        let done = socket.update(&[INET], |observed| {
            looks += 1;
            if looks == 1 {
                let mut meanwhile = Transaction::default();
                meanwhile.push(&INET, Change::AddTable { owned: false });
                meanwhile.push(&INET, Change::AddChain(ChainName::literal("theirs"), None));
                other.apply(&meanwhile).unwrap();
                assert!(observed.is_empty());
            }
            let mut transaction = Transaction::default();
            transaction.push(&INET, Change::AddTable { owned: false });
            if observed.is_empty() {
                transaction.push(&INET, Change::DeleteTable);
            }
            transaction
        });
        assert_eq!((done.unwrap().commands().len(), looks), (1, 2));
        assert!(socket.list(&[INET]).unwrap()[&INET].chains.contains_key(&ChainName::literal("theirs")));
    });
}
