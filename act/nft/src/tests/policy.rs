//! The tables of policy, as random clusters make them.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use selvedge_policy::{compile, testing};
use selvedge_ruleset::show::Listing;
use selvedge_ruleset::{Family, Table, TableId};

use super::tables::lines;
use super::{in_namespace, installed, make, run, towards};
use crate::NftSocket;

const ID: TableId = TableId::literal(Family::Inet, "selvedge");

/// The tables of one node in clusters that have nothing to do with each other, the same ones each time.
fn tables(count: usize) -> impl Iterator<Item = BTreeMap<TableId, Table>> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let node = testing::NODES[0].parse().unwrap();
    (0..count).map(move |_| {
        let cluster = testing::cluster().new_tree(&mut runner).unwrap().current();
        BTreeMap::from([(ID, compile(&cluster, &testing::attached(&cluster, &node)))])
    })
}

/// From one cluster's table to the next one's in a single transaction each: whatever order its commands need.
#[test]
fn the_kernel_takes_the_tables_of_any_policies_and_goes_from_each_to_the_next() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        for desired in tables(60) {
            let listed = make(&mut socket, &desired);
            assert_eq!(listed[&ID].known(), desired[&ID]);
            assert_eq!(towards(&desired, &listed).to_string(), "");
        }
    });
}

#[test]
fn nft_lists_the_tables_of_policies_as_they_are_displayed() {
    if !installed("nft") {
        return;
    }
    // nft lists things in the order in which they were made.
    for desired in tables(5) {
        in_namespace(|| {
            make(&mut NftSocket::open().unwrap(), &desired);
            let listed = run(&format!("nft -s list table {ID}"), "");
            let ours = Listing(&ID, &desired[&ID]).to_string();
            assert_eq!(lines(&ours), lines(&listed));
        });
    }
}
