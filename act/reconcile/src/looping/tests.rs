use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;

use selvedge_datapath::announced::Announced;
use selvedge_datapath::converge::Plugin;
use selvedge_datapath::firewall::{AGENT, PodNetwork, agent};
use selvedge_datapath::foreign::{Accept, accepting};
use selvedge_datapath::plan::DesiredNetwork;
use selvedge_datapath::state::{Route, RouteProtocol, Sysctl};
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::{Listing, Node as NodeObject};

use super::*;

pub(super) mod fake;
mod gathering;
mod seen;

use fake::Fake;

/// Wants a route to every node's pods, forwarding, a table, rules in a foreign chain and a conflist.
fn decide(known: Option<(&Arc<Cluster>, Prune)>, _: &Observed) -> Result<Decision, String> {
    let (cluster, prune) = known.ok_or("nothing is known yet")?;
    let nodes: Vec<&NodeObject> = cluster.nodes().values().collect();
    let Some(first) = nodes.first() else { return Err("there is no Node yet".to_owned()) };
    let network = DesiredNetwork {
        routes: nodes.iter().map(|node| route(node)).collect(),
        sysctls: BTreeMap::from([(Sysctl::Ipv4Forward, "1")]),
        ..DesiredNetwork::default()
    };
    let pods =
        PodNetwork { subnets: &first.pod_cidrs, direct: &first.pod_cidrs, masquerade: true, bridge: None };
    let desired = Desired {
        forwarding: None,
        encryption: None,
        network,
        tables: BTreeMap::from([(AGENT, agent(pods, true))]),
        accept: accept(first),
        plugin: true,
        conflist: Some("a conflist".to_owned()),
        superseded: BTreeSet::new(),
        prune,
    };
    Ok(decision(desired, None))
}

/// That this is wanted, and nothing is to be said about it.
pub(super) fn decision(desired: Desired, revoker: Option<Revoker>) -> Decision {
    Decision {
        desired,
        revoker,
        wanted: Deferred::default(),
        problems: Vec::new(),
        notes: Vec::new(),
        without_pod: Vec::new(),
        admitted: BTreeMap::new(),
        blocked: None,
    }
}

type Decide = fn(Option<(&Arc<Cluster>, Prune)>, &Observed) -> Result<Decision, String>;

fn reconciler(kernel: Fake) -> Reconciler<Fake, Decide> {
    deciding(kernel, decide)
}

fn deciding(kernel: Fake, decide: Decide) -> Reconciler<Fake, Decide> {
    let status = Arc::new(Mutex::new(Status::starting("node-a", "1.2.3")));
    Reconciler::new(kernel, decide, Duration::from_secs(3600), status)
}

/// A loop that has brought the node where the cluster wants it.
fn settled() -> Reconciler<Fake, Decide> {
    let mut reconciler = reconciler(Fake::new());
    reconciler.pass(vec![cluster(&[1, 2], Prune::Marked)]);
    assert_eq!(reconciler.status().state, State::Ready);
    reconciler.kernel.tried.clear();
    reconciler
}

/// The cluster of the nodes with these numbers, of which the first is ours.
fn cluster(numbers: &[u8], prune: Prune) -> Trigger {
    let mut listing = Listing::default();
    numbers.iter().for_each(|number| listing.node(node(*number)));
    Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
    Trigger::Cluster(Arc::new(listing.finish().unwrap()), prune)
}

fn node(number: u8) -> NodeObject {
    NodeObject::new(
        format!("node-{number}").parse().unwrap(),
        vec![format!("10.244.{number}.0/24").parse().unwrap()],
        vec![format!("172.30.0.{number}").parse().unwrap()],
    )
}

fn route(node: &NodeObject) -> Route {
    Route {
        destination: node.pod_cidrs[0],
        via: node.addresses.first().copied(),
        device: "eth0".parse().unwrap(),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(ROUTE_PROTOCOL),
    }
}

fn accept(node: &NodeObject) -> Vec<Accept> {
    accepting(&node.pod_cidrs)
}

fn kernel(what: &str) -> Trigger {
    Trigger::Kernel(what.to_owned())
}

#[test]
fn without_a_cluster_it_waits_for_as_long_as_nothing_can_be_decided() {
    let mut reconciler = reconciler(Fake::new());
    reconciler.pass(vec![Trigger::Asked, kernel("link eth0 changed")]);
    assert_eq!(reconciler.status().state, State::Waiting { reason: "nothing is known yet".to_owned() });
    assert_eq!(reconciler.kernel.tried, Vec::<String>::new());
    assert_eq!(reconciler.status().passes, 1);
}

#[test]
fn while_nothing_can_be_decided_it_says_what_is_missing_and_changes_nothing() {
    let mut reconciler = reconciler(Fake::new());
    reconciler.pass(vec![cluster(&[], Prune::Marked)]);
    assert_eq!(reconciler.status().state, State::Waiting { reason: "there is no Node yet".to_owned() });
    assert_eq!(reconciler.kernel.tried, Vec::<String>::new());
    assert_eq!(reconciler.kernel.served, 0);
    assert_eq!(reconciler.retry, None, "waiting is no failure: what is missing announces itself");
}

#[test]
fn the_first_pass_brings_the_node_where_the_cluster_wants_it_and_the_second_finds_nothing_to_do() {
    let mut reconciler = settled();
    let observed = &reconciler.kernel.observed;
    assert!(reconciler.kernel.has_route("10.244.1.0/24") && reconciler.kernel.has_route("10.244.2.0/24"));
    assert_eq!(observed.sysctls[&Sysctl::Ipv4Forward], "1");
    assert!(observed.tables.contains_key(&AGENT));
    assert_eq!(observed.forward[0].ours, accept(&node(1)));
    assert_eq!(observed.conflist.as_deref(), Some("a conflist"));
    assert_eq!(reconciler.kernel.served, 1);
    reconciler.pass(vec![Trigger::Resync]);
    assert_eq!(reconciler.kernel.tried, Vec::<String>::new());
    assert_eq!(reconciler.status().repaired, BTreeMap::new());
}

#[test]
fn the_conflist_is_written_last() {
    let mut reconciler = reconciler(Fake::new());
    reconciler.pass(vec![cluster(&[1], Prune::Marked)]);
    assert_eq!(reconciler.kernel.tried.last().unwrap(), "write the conflist");
    assert_eq!(reconciler.kernel.tried[4], "install the plugin");
    assert_eq!(reconciler.kernel.tried.len(), 6);
}

#[test]
fn while_a_step_fails_all_others_are_made_but_pods_are_not_invited() {
    let mut fake = Fake::new();
    fake.refused = ("sysctl", 1);
    let mut reconciler = reconciler(fake);
    reconciler.pass(vec![cluster(&[1, 2], Prune::Marked)]);
    let status = reconciler.status().clone();
    assert_eq!(status.state, State::Failed { reasons: vec!["refused".to_owned()] });
    let results: Vec<(String, StepResult)> =
        status.last_pass.unwrap().steps.into_iter().map(|step| (step.object, step.result)).collect();
    let named = |object: &str, result| (object.to_owned(), result);
    assert_eq!(
        results,
        [
            named("sysctl", StepResult::Failed("refused".to_owned())),
            named("route", StepResult::Done),
            named("route", StepResult::Done),
            named("table", StepResult::Done),
            named("forward-chain", StepResult::Done),
            named("plugin", StepResult::Done),
            named("conflist", StepResult::Skipped),
        ]
    );
    assert_eq!(reconciler.kernel.observed.conflist, None);
    assert_eq!(reconciler.kernel.served, 0);
}

#[test]
fn a_failure_is_followed_by_readiness_once_the_step_succeeds_and_that_is_no_drift() {
    let mut fake = Fake::new();
    fake.refused = ("sysctl", 1);
    let mut reconciler = reconciler(fake);
    reconciler.pass(vec![cluster(&[1], Prune::Marked)]);
    reconciler.pass(vec![Trigger::Retry]);
    assert_eq!(reconciler.status().state, State::Ready);
    assert_eq!(reconciler.kernel.observed.conflist.as_deref(), Some("a conflist"));
    assert_eq!(reconciler.status().repaired, BTreeMap::new());
    assert_eq!(reconciler.retry, None);
}

#[test]
fn failures_are_retried_at_growing_intervals_up_to_ten_seconds() {
    let mut fake = Fake::new();
    fake.blind = 9;
    let mut reconciler = reconciler(fake);
    reconciler.pass(vec![cluster(&[1], Prune::Marked)]);
    assert_eq!(reconciler.status().state, State::Failed { reasons: vec!["can't see".to_owned()] });
    let mut intervals = vec![reconciler.retry.unwrap().as_millis()];
    for _ in 0..8 {
        reconciler.pass(vec![Trigger::Retry]);
        intervals.extend(reconciler.retry.map(|after| after.as_millis()));
    }
    assert_eq!(intervals, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    reconciler.pass(vec![Trigger::Retry]);
    assert_eq!(reconciler.retry, None, "the tenth look succeeds");
}

#[test]
fn the_running_loop_retries_by_itself_until_the_node_is_ready() {
    let (sender, triggers) = channel();
    sender.send(cluster(&[1], Prune::Marked)).unwrap();
    let mut fake = Fake::new();
    fake.refused = ("add table", 2);
    fake.until_served = Some((1, sender));
    let mut reconciler = reconciler(fake);
    let begun = Instant::now();
    reconciler.run(&triggers);
    assert_eq!(reconciler.status().state, State::Ready);
    assert_eq!(reconciler.status().last_pass.as_ref().unwrap().because, ["retry"]);
    assert_eq!(reconciler.kernel.observations, 3);
    assert!(begun.elapsed() >= RETRY + 2 * RETRY, "it waited between the tries");
}

#[test]
fn what_somebody_else_changed_is_repaired_counted_and_named() {
    let mut reconciler = settled();
    reconciler.kernel.lose_route("10.244.2.0/24");
    reconciler.kernel.observed.sysctls.insert(Sysctl::Ipv4Forward, "0".to_owned());
    reconciler.kernel.observed.tables = Arc::default();
    reconciler.kernel.observed.forward[0].ours.clear();
    reconciler.kernel.observed.plugin = Plugin::Missing;
    reconciler.kernel.observed.conflist = Some("altered".to_owned());
    reconciler.pass(vec![kernel("route 10.244.2.0/24 gone")]);
    let status = reconciler.status().clone();
    assert_eq!(status.state, State::Ready);
    let one_each =
        ["conflist", "forward-chain", "plugin", "route", "sysctl", "table"].map(|what| (what.to_owned(), 1));
    assert_eq!(status.repaired, BTreeMap::from(one_each));
    let repairs: Vec<String> = status.repairs.into_iter().map(|repair| repair.step).collect();
    assert_eq!(repairs, reconciler.kernel.tried);
    assert!(repairs.iter().any(|step| step.starts_with("ip route add 10.244.2.0/24 via 172.30.0.2")));
    assert_eq!(status.last_change.unwrap().because, ["kernel: route 10.244.2.0/24 gone"]);
}

#[test]
fn the_latest_repairs_are_remembered_and_all_are_counted() {
    let mut reconciler = settled();
    for _ in 0..30 {
        reconciler.kernel.lose_route("10.244.2.0/24");
        reconciler.pass(vec![Trigger::Resync]);
    }
    assert_eq!(reconciler.status().repaired["route"], 30);
    assert_eq!(reconciler.status().repairs.len(), 20);
}

#[test]
fn a_repair_that_fails_is_not_counted() {
    let mut reconciler = settled();
    reconciler.kernel.lose_route("10.244.2.0/24");
    reconciler.kernel.refused = ("ip route", 1);
    reconciler.pass(vec![Trigger::Resync]);
    assert_eq!(reconciler.status().state, State::Failed { reasons: vec!["refused".to_owned()] });
    assert_eq!(reconciler.status().repaired, BTreeMap::new());
}

#[test]
fn a_changed_cluster_is_no_drift() {
    let mut reconciler = settled();
    reconciler.pass(vec![cluster(&[1, 3], Prune::Marked)]);
    assert!(reconciler.kernel.has_route("10.244.3.0/24"), "a node that came has its route");
    assert!(!reconciler.kernel.has_route("10.244.2.0/24"), "a node that left has lost its route");
    assert_eq!(reconciler.status().repaired, BTreeMap::new());
    reconciler.pass(vec![cluster(&[1, 3], Prune::Marked)]);
    reconciler.kernel.lose_route("10.244.3.0/24");
    reconciler.pass(vec![Trigger::Resync]);
    assert_eq!(reconciler.status().repaired["route"], 1, "from then on it is");
}

#[test]
fn on_account_of_a_listing_that_may_lack_something_nothing_is_pruned() {
    let mut reconciler = settled();
    reconciler.pass(vec![cluster(&[1, 3], Prune::Nothing)]);
    assert!(
        reconciler.kernel.has_route("10.244.2.0/24"),
        "the node may be in the manifest that can't be read"
    );
    assert!(reconciler.kernel.has_route("10.244.3.0/24"));
    reconciler.pass(vec![cluster(&[1, 3], Prune::Marked)]);
    assert!(!reconciler.kernel.has_route("10.244.2.0/24"));
}

#[test]
fn of_several_clusters_that_came_together_the_last_counts() {
    let mut reconciler = reconciler(Fake::new());
    reconciler.pass(vec![cluster(&[1, 2], Prune::Marked), cluster(&[1, 3], Prune::Marked)]);
    assert!(reconciler.kernel.has_route("10.244.3.0/24"));
    assert!(!reconciler.kernel.has_route("10.244.2.0/24"));
}

#[test]
fn what_the_kernel_does_not_announce_is_found_by_a_glance() {
    let (sender, triggers) = channel();
    sender.send(cluster(&[1], Prune::Marked)).unwrap();
    let mut fake = Fake::new();
    fake.found = Some("the conflist changed".to_owned());
    fake.until_served = Some((2, sender));
    let mut reconciler = reconciler(fake);
    reconciler.run(&triggers);
    let status = reconciler.status().clone();
    assert_eq!(status.last_pass.unwrap().because, ["found: the conflist changed"]);
    assert_eq!(status.passes, 2);
}

#[test]
fn a_glance_waits_for_no_trigger() {
    let (sender, triggers) = channel();
    let mut reconciler = reconciler(Fake::new());
    reconciler.kernel.found = Some("the conflist changed".to_owned());
    let status = Arc::clone(&reconciler.status);
    let sending = std::thread::spawn(move || {
        sender.send(cluster(&[1], Prune::Marked)).unwrap();
        std::thread::sleep(GLANCE * 9 / 10);
        sender.send(Trigger::Measured("a way".to_owned())).unwrap();
        std::thread::sleep(GLANCE * 9 / 10);
        status.lock().unwrap().last_pass.clone().unwrap().because
    });
    reconciler.run(&triggers);
    assert_eq!(sending.join().unwrap(), ["found: the conflist changed"]);
}

#[test]
fn triggers_that_come_together_make_one_pass() {
    let (sender, triggers) = channel();
    let because = [Trigger::Start, cluster(&[1], Prune::Marked), kernel("a"), kernel("b"), kernel("a")];
    because.into_iter().for_each(|trigger| sender.send(trigger).unwrap());
    drop(sender);
    let mut reconciler = reconciler(Fake::new());
    reconciler.run(&triggers);
    let status = reconciler.status().clone();
    assert_eq!(status.passes, 1);
    assert_eq!(status.last_pass.unwrap().because, ["start", "the cluster changed", "kernel: a", "kernel: b"]);
}

#[test]
fn told_to_end_it_makes_no_further_pass() {
    let (sender, triggers) = channel();
    [cluster(&[1], Prune::Marked), Trigger::End]
        .into_iter()
        .for_each(|trigger| sender.send(trigger).unwrap());
    let mut reconciler = reconciler(Fake::new());
    reconciler.run(&triggers);
    assert_eq!(reconciler.status().passes, 0);
    assert_eq!(reconciler.kernel.tried, Vec::<String>::new());
    drop(sender);
}

#[test]
fn a_problem_degrades_the_node_which_still_serves() {
    let decide: Decide = |cluster, observed| {
        let decision = decide(cluster, observed)?;
        Ok(Decision { problems: vec!["no route to node-9".to_owned()], ..decision })
    };
    let mut reconciler = deciding(Fake::new(), decide);
    reconciler.pass(vec![cluster(&[1], Prune::Marked)]);
    let reasons = vec!["no route to node-9".to_owned()];
    assert_eq!(reconciler.status().state, State::Degraded { reasons });
    assert_eq!(reconciler.kernel.served, 1);
    assert_eq!(reconciler.retry, None, "no step failed that could be tried again");
}

#[test]
fn what_keeps_pods_from_being_served_is_looked_at_again() {
    let decide: Decide = |cluster, observed| {
        let mut decision = decide(cluster, observed)?;
        decision.desired.conflist = None;
        Ok(Decision { blocked: Some("the plugin isn't there".to_owned()), ..decision })
    };
    let mut reconciler = deciding(Fake::new(), decide);
    reconciler.pass(vec![cluster(&[1], Prune::Marked)]);
    let reasons = vec!["the plugin isn't there".to_owned()];
    assert_eq!(reconciler.status().state, State::Failed { reasons });
    assert_eq!(reconciler.kernel.served, 0);
    assert_eq!(reconciler.retry, Some(RETRY));
    assert!(reconciler.kernel.has_route("10.244.1.0/24"), "the rest is in place");
}
