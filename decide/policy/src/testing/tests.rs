use std::collections::BTreeMap;

use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::judge::judge;

/// Whatever is compared by these clusters is compared for every field.
#[test]
fn every_field_occurs_in_a_twentieth_of_the_clusters_and_flows_pass_and_fail() {
    const CLUSTERS: usize = 1_000;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut occurs: BTreeMap<&str, usize> = FIELDS.into_iter().map(|field| (field, 0)).collect();
    let (mut allowed, mut all) = (0, 0);
    for _ in 0..CLUSTERS {
        let cluster = cluster().new_tree(&mut runner).unwrap().current();
        for field in fields(&cluster) {
            *occurs.get_mut(field).unwrap() += 1;
        }
        let flows = flows(&cluster);
        all += flows.len();
        allowed += flows.iter().filter(|flow| judge(&cluster, flow).is_allowed()).count();
    }
    for (field, count) in &occurs {
        println!("{:5.1} %  {field}", *count as f64 * 100.0 / CLUSTERS as f64);
    }
    println!(
        "{CLUSTERS} clusters, {all} flows, {:.1} % of them allowed",
        allowed as f64 * 100.0 / all as f64
    );
    let rare: Vec<_> = occurs.iter().filter(|(_, count)| **count * 20 < CLUSTERS).collect();
    assert!(rare.is_empty(), "in less than a twentieth of the clusters: {rare:?}");
    assert!((all / 5..=all * 4 / 5).contains(&allowed), "{allowed} of {all} flows are allowed");
}
