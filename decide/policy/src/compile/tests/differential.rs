use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use super::*;
use crate::judge::{Ends, judge};
use crate::testing::{self, interface};

/// A cluster, and the tables of its nodes.
struct Nodes<'a> {
    cluster: &'a Cluster,
    tables: BTreeMap<&'a NodeName, Table>,
}

impl<'a> Nodes<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        let table = |node: &'a NodeName| (node, compile(cluster, &attached(cluster, node)));
        Self { cluster, tables: cluster.nodes().keys().map(table).collect() }
    }

    /// The pod that really has an address: the first of those that are said to.
    fn pod(&self, address: IpAddr) -> Option<&'a Pod> {
        self.cluster.with_address(address).next()
    }

    /// True if pods of different nodes are said to have the address: no kernel knows what to make of that.
    fn is_torn(&self, address: IpAddr) -> bool {
        let mut nodes = self.cluster.with_address(address).map(|pod| &pod.node);
        let first = nodes.next();
        nodes.any(|node| Some(node) != first)
    }

    /// Whether a flow passes all hooks on its way, on the node of its source and on that of its destination; and in
    /// which directions a shadow was found to deny it.
    fn pass(&self, flow: &Flow) -> (bool, BTreeSet<Direction>) {
        let uplink: IfName = "eth0".parse().unwrap();
        let destination = self.pod(flow.destination);
        let there = match destination {
            Some(pod) => pod.node.as_ref(),
            None => self
                .cluster
                .nodes()
                .iter()
                .find(|(_, own)| own.addresses.contains(&flow.destination))
                .map(|(node, _)| node),
        };
        let sender = self.pod(flow.source.address());
        let (here, iif) = match (&flow.source, sender) {
            (Source::Host(node, _), _) => (Some(node), None),
            (Source::Address(_), Some(pod)) => (pod.node.as_ref(), Some(interface(pod))),
            (Source::Address(_), None) => (None, Some(uplink.clone())),
        };
        // Everywhere it goes, with the interfaces by which it comes in and leaves.
        let arrives = |node| (node, destination.map(interface));
        let mut ways: Vec<(&NodeName, Option<IfName>, Option<IfName>)> = Vec::new();
        match (here, there) {
            (Some(here), Some(there)) if here == there => ways.push((here, iif, arrives(there).1)),
            (here, there) => {
                ways.extend(here.map(|here| (here, iif, Some(uplink.clone()))));
                ways.extend(there.map(|there| (there, Some(uplink), arrives(there).1)));
            }
        }
        let mut shadows = BTreeSet::new();
        let passes =
            ways.into_iter().all(|(node, iif, oif)| self.pass_at(node, (flow, &mut shadows), (iif, oif)));
        (passes, shadows)
    }

    /// Whether it passes the hooks of one node: what comes from no interface is the node's own, what leaves by none is
    /// for it.
    fn pass_at(
        &self,
        node: &NodeName,
        (flow, shadows): (&Flow, &mut BTreeSet<Direction>),
        (iif, oif): (Option<IfName>, Option<IfName>),
    ) -> bool {
        let hooks = match (&iif, &oif) {
            (None, _) => vec![Hook::Output],
            (Some(_), None) => vec![Hook::Prerouting, Hook::Input],
            (Some(_), Some(_)) => vec![Hook::Prerouting, Hook::Forward],
        };
        let mut passes = |hook: Hook| {
            let oif = oif.clone().filter(|_| hook != Hook::Prerouting);
            let packet = Packet { iif: iif.clone(), oif, ..packet(flow) };
            let traced = trace(&self.tables[node], hook, &packet).unwrap();
            shadows.extend(traced.rules.iter().filter_map(|rule| shadow(&self.tables[node], rule)));
            traced.verdict == selvedge_ruleset::Policy::Accept
        };
        hooks.into_iter().all(&mut passes)
    }
}

/// The direction of a rule by which a shadow denies.
fn shadow(table: &Table, (chain, index): &(ChainName, usize)) -> Option<Direction> {
    let comment = table.chains[chain].rules[*index].comment_text()?.as_str();
    let is_of = |way: &Direction| chain.as_str().starts_with(&format!("{way}-"));
    comment.starts_with("would not be admitted by").then(|| Direction::ALL.into_iter().find(is_of))?
}

/// What is judged is what the kernel would do, on thousands of random clusters.
#[test]
fn a_packets_way_through_the_compiled_tables_ends_as_it_is_judged() {
    let counts = RefCell::new((0_usize, 0_usize, 0_usize, 0_usize));
    let shadowed = Cell::new(0_usize);
    // The same clusters each time; others, and more, by PROPTEST_RNG_SEED and PROPTEST_CASES.
    let given = ProptestConfig::default();
    let rng_seed = if given.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { given.rng_seed };
    let cases = given.cases.max(5_000);
    let config = ProptestConfig { cases, rng_seed, failure_persistence: None, ..given };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&testing::cluster(), |cluster| {
        let nodes = Nodes::of(&cluster);
        for table in nodes.tables.values() {
            shape::check(&ID, table).map_err(|why| TestCaseError::fail(why.to_string()))?;
            prop_assert!(table.sets.keys().all(|set| table.uses(set)), "every set is looked into");
        }
        let mut counts = counts.borrow_mut();
        counts.0 += 1;
        for flow in testing::flows(&cluster) {
            if nodes.is_torn(flow.source.address()) || nodes.is_torn(flow.destination) {
                counts.3 += 1;
                continue;
            }
            let verdict = judge(&cluster, &flow);
            let (passes, shadows) = nodes.pass(&flow);
            prop_assert_eq!(verdict.is_allowed(), passes, "{:?}: {}", flow, verdict);
            if passes {
                let ends = Ends::of(&cluster, &flow);
                let would = Direction::ALL.into_iter().filter(|way| ends.would_deny(*way).is_some());
                prop_assert_eq!(would.collect::<BTreeSet<_>>(), shadows.clone(), "shadows of {:?}", flow);
                shadowed.set(shadowed.get() + usize::from(!shadows.is_empty()));
            }
            counts.1 += 1;
            counts.2 += usize::from(verdict.is_allowed());
        }
        Ok(())
    });
    let (clusters, flows, allowed, torn) = *counts.borrow();
    println!(
        "{clusters} clusters, {flows} flows compared, {allowed} of them allowed; {torn} with ends on several nodes"
    );
    println!("{} of those that passed would be denied by shadows", shadowed.get());
    result.unwrap_or_else(|why| panic!("{why}"));
    assert!(shadowed.get() > flows / 500, "shadows are tried");
    assert!((flows / 5..=flows * 4 / 5).contains(&allowed), "{allowed} of {flows} are allowed");
}
