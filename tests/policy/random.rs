//! Random clusters: what is judged is what becomes of real packets.
//!
//! Each cluster has a seed of its own; SELVEDGE_POLICY_SEED is the first (1), SELVEDGE_POLICY_CLUSTERS how many follow.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;
use std::{env, fs};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use selvedge_model::Transport;
use selvedge_policy::testing::{self, FIELDS};
use selvedge_policy::{Cluster, Flow, Protocol, judge};

use selvedge_tests::skipped;

use crate::ground::Attach;
use crate::probe::Site;

/// What was compared.
#[derive(Default)]
struct Counts {
    clusters: usize,
    flows: usize,
    allowed: usize,
    /// With an address that pods of several nodes are said to have: no kernel knows what to make of that.
    torn: usize,
    fields: BTreeMap<&'static str, usize>,
}

/// The second equality of the differential test: `judge` is the packet's trace, and the trace is what the kernel does.
#[test]
fn packets_fare_as_they_are_judged_on_random_clusters() {
    compare_many(Attach::Routed, 200);
}

/// The same where the node's hooks see all pods at one interface.
#[test]
fn packets_of_bridged_pods_fare_as_they_are_judged_on_random_clusters() {
    compare_many(Attach::Bridged, 60);
}

/// The same where bridged packets pass the node's IP hooks.
#[test]
fn packets_across_br_netfilter_fare_as_they_are_judged_on_random_clusters() {
    // Any new namespace has the switches where the module is there.
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    match fs::exists(switch).unwrap() {
        true => compare_many(Attach::BridgedAcrossHooks, 60),
        false => skipped("br_netfilter is not in this kernel"),
    }
}

/// Clusters from the first seed on, as many as are asked for, or so many.
fn compare_many(attach: Attach, by_default: u64) {
    let number = |name: &str, default: u64| env::var(name).map_or(default, |text| text.parse().unwrap());
    let first = number("SELVEDGE_POLICY_SEED", 1);
    let clusters = number("SELVEDGE_POLICY_CLUSTERS", by_default);
    let begun = Instant::now();
    let Some(site) = Site::new(attach) else { return };
    let site = RefCell::new(site);
    let counts = RefCell::new(Counts::default());
    for seed in first..first + clusters {
        let config = Config {
            cases: 1,
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            max_shrink_iters: 400,
            ..Config::default()
        };
        let counted = RefCell::new(false);
        let result = TestRunner::new(config).run(&testing::cluster(), |cluster| {
            let is_first = !counted.replace(true);
            compare(&mut site.borrow_mut(), &cluster, is_first.then_some(&counts))
        });
        result.unwrap_or_else(|why| {
            panic!("{why}\nagain: SELVEDGE_POLICY_SEED={seed} SELVEDGE_POLICY_CLUSTERS=1")
        });
    }
    let counts = counts.into_inner();
    counts.print();
    println!("{attach:?}, in {:.1} s", begun.elapsed().as_secs_f64());
    counts.must_be_worth_it();
}

/// Holds what packets do against what is judged, for every pair of ends and each kind of protocol.
fn compare(
    site: &mut Site,
    cluster: &Cluster,
    counts: Option<&RefCell<Counts>>,
) -> Result<(), TestCaseError> {
    site.bring_to(cluster);
    let (flows, torn): (Vec<Flow>, Vec<Flow>) = flows(cluster)
        .into_iter()
        .partition(|flow| !is_torn(cluster, flow.source.address()) && !is_torn(cluster, flow.destination));
    let judged: Vec<(Flow, bool)> = flows
        .into_iter()
        .map(|flow| {
            let is_allowed = judge(cluster, &flow).is_allowed();
            (flow, is_allowed)
        })
        .collect();
    let arrived = site.probe(&judged);
    let compared = || judged.iter().zip(&arrived).filter_map(|(judged, arrived)| Some((judged, (*arrived)?)));
    if let Some(counts) = counts {
        let mut counts = counts.borrow_mut();
        counts.clusters += 1;
        counts.flows += compared().count();
        counts.allowed += compared().filter(|((_, allowed), _)| *allowed).count();
        counts.torn += torn.len();
        for field in testing::fields(cluster) {
            *counts.fields.entry(field).or_default() += 1;
        }
    }
    let wrong: Vec<String> = compared()
        .filter(|((_, allowed), arrived)| allowed != arrived)
        .map(|((flow, _), arrived)| {
            let does = if arrived { "arrives" } else { "does not arrive" };
            format!("{flow:?} {does}, and is judged so: {}", judge(cluster, flow))
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    site.bring_anew_to(cluster);
    let again = site.probe(&judged) == arrived;
    let whose = if again { "with the table made anew too" } else { "not with the table made anew" };
    Err(TestCaseError::fail(format!("{} ({whose}):\n{}", wrong.len(), wrong.join("\n"))))
}

/// From everybody to everybody, one of each kind of protocol; ports go round.
fn flows(cluster: &Cluster) -> Vec<Flow> {
    let pairs: BTreeSet<_> =
        testing::flows(cluster).into_iter().map(|flow| (flow.source, flow.destination)).collect();
    let mut flows = Vec::new();
    for (index, (source, destination)) in pairs.into_iter().enumerate() {
        let icmp = if destination.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
        let protocols = [
            Protocol::Port(Transport::Tcp, [80, 8080, 53][index % 3]),
            Protocol::Port(Transport::Udp, [53, 8081][index % 2]),
            Protocol::Port(Transport::Sctp, 80),
            icmp,
        ];
        flows.extend(protocols.map(|protocol| Flow { source: source.clone(), destination, protocol }));
    }
    flows
}

fn is_torn(cluster: &Cluster, address: IpAddr) -> bool {
    let mut nodes = cluster.with_address(address).map(|pod| &pod.node);
    let first = nodes.next();
    nodes.any(|node| Some(node) != first)
}

impl Counts {
    fn print(&self) {
        for (field, count) in &self.fields {
            println!("{:5.1} %  {field}", *count as f64 * 100.0 / self.clusters as f64);
        }
        println!(
            "{} clusters, {} flows compared by real packets, {:.1} % of them allowed; {} with ends on several nodes",
            self.clusters,
            self.flows,
            self.allowed as f64 * 100.0 / self.flows as f64,
            self.torn
        );
    }

    /// A few clusters, as in another run of a seed, say nothing of how often something occurs.
    fn must_be_worth_it(&self) {
        if self.clusters < 200 {
            return;
        }
        let occurs = |field: &&str| self.fields.get(field).copied().unwrap_or_default();
        let rare: Vec<_> = FIELDS.into_iter().filter(|field| occurs(field) * 20 < self.clusters).collect();
        assert!(rare.is_empty(), "in less than a twentieth of the clusters: {rare:?}");
        let share = self.flows / 5..=self.flows * 4 / 5;
        assert!(share.contains(&self.allowed), "{} of {} flows are allowed", self.allowed, self.flows);
    }
}
