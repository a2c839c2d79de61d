mod net;
mod packets;
mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use selvedge_datapath::Prune;
use selvedge_datapath::converge::Desired;
use selvedge_datapath::plan::DesiredNetwork;
use selvedge_model::policy::PolicyKey;
use selvedge_model::tracked::{Detail, Tuple};
use selvedge_model::{Cluster, Labels, Listing, Pod};
use selvedge_policy::{LocalNode, LocalPod, Whose, compile, read};
use selvedge_ruleset::after::after;
use selvedge_ruleset::{Listed, Scope, Seen, diff};
use serde_json::{Value, json};

use selvedge_model::Tracked;

use super::*;
use crate::looping::tests::decision;
use crate::looping::tests::fake::Fake;
use crate::looping::{Decision, Reconciler, Trigger};
use crate::status::{State, Status, StepResult};

const WEB: &str = "10.244.1.2";
const DB: &str = "10.244.1.3";
const CLIENT: &str = "192.0.2.9";

/// The node's pods: name, host end, addresses.
const PODS: [(&str, &str, [&str; 2]); 2] =
    [("web", "slvweb", [WEB, "fd00:244:1::2"]), ("db", "slvdb", [DB, "fd00:244:1::3"])];

/// Two pods of x with these policies.
fn cluster(policies: &[(&str, Value)]) -> Trigger {
    let mut listing = Listing::default();
    Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
    listing.namespace("x", Labels::default());
    for (name, _, addresses) in PODS {
        listing.pod(Pod {
            key: format!("x/{name}").parse().unwrap(),
            uid: None,
            mirror: None,
            node: Some("node-1".parse().unwrap()),
            labels: Labels::from_iter([("app".to_owned(), name.to_owned())]),
            addresses: addresses.map(|text| text.parse().unwrap()).to_vec(),
            host_network: false,
            finished: false,
            ports: Vec::new(),
        });
    }
    for (name, spec) in policies {
        let key = PolicyKey { namespace: "x".to_owned(), name: (*name).to_owned() };
        listing.policy(read(key, spec).unwrap());
    }
    Trigger::Cluster(Arc::new(listing.finish().unwrap()), Prune::Nothing)
}

/// Isolates db for what it receives, and admits those rules.
fn admits(rules: Value) -> Vec<(&'static str, Value)> {
    vec![("db", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": rules}))]
}

fn decide(known: Option<(&Arc<Cluster>, Prune)>, observed: &Observed) -> Result<Decision, String> {
    let (cluster, prune) = known.ok_or("nothing is known yet")?;
    let pods = PODS.map(|(name, interface, addresses)| LocalPod {
        whose: Whose::Pod(format!("x/{name}").parse().unwrap()),
        interface: interface.parse().unwrap(),
        addresses: addresses.map(|text| text.parse().unwrap()).to_vec(),
    });
    let node = LocalNode { pods: pods.to_vec(), ..LocalNode::default() };
    let cluster = selvedge_policy::Cluster::new(cluster);
    let desired = Desired {
        forwarding: None,
        encryption: None,
        network: DesiredNetwork::default(),
        tables: BTreeMap::from([(AGENT, compile(&cluster, &node))]),
        accept: Vec::new(),
        plugin: false,
        conflist: None,
        superseded: BTreeSet::new(),
        prune,
    };
    Ok(decision(desired, Some(Revoker::new(cluster, &node, observed.network.addresses()))))
}

type Decide = fn(Option<(&Arc<Cluster>, Prune)>, &Observed) -> Result<Decision, String>;

fn reconciler<K: Kernel>(kernel: K) -> Reconciler<K, Decide> {
    let status = Arc::new(Mutex::new(Status::starting("node-1", "1.2.3")));
    Reconciler::new(kernel, decide, Duration::from_secs(3600), status)
}

fn flow(from: (&str, u16), to: (&str, u16)) -> Tracked {
    let tuple = |from: (&str, u16), to: (&str, u16)| Tuple {
        source: from.0.parse().unwrap(),
        destination: to.0.parse().unwrap(),
        detail: Detail::Ports { source: from.1, destination: to.1 },
    };
    Tracked { protocol: 6, original: tuple(from, to), reply: tuple(to, from), zone: 0, id: u32::from(from.1) }
}

/// The sources of what is in the set of revoked flows.
fn revoked(kernel: &Fake) -> Vec<IpAddr> {
    let set = kernel.observed.tables[&AGENT].sets.iter().find(|(name, _)| name.as_str() == "revoked4");
    let Some((_, Seen::Known(set))) = set else { panic!("{set:?}") };
    set.elements().keys().map(|key| key[0].to_string().parse().unwrap()).collect()
}

/// A settled loop, with a flow that will be denied and one that won't.
fn settled() -> (Reconciler<Fake, Decide>, [Tracked; 2]) {
    let mut reconciler = reconciler(Fake::new());
    let flows = [flow((WEB, 1), (DB, 81)), flow((WEB, 2), (DB, 80))];
    reconciler.kernel.flows = flows.to_vec();
    reconciler.pass(vec![cluster(&[])]);
    assert_eq!(reconciler.status().state, State::Ready);
    assert_eq!(reconciler.kernel.flows, flows);
    reconciler.kernel.tried.clear();
    reconciler.kernel.listings = 0;
    (reconciler, flows)
}

fn only_80() -> Trigger {
    cluster(&admits(json!([{"ports": [{"port": 80}]}])))
}

#[test]
fn what_a_change_denies_is_cut_and_forgotten_right_after_it() {
    let (mut reconciler, [denied, allowed]) = settled();
    reconciler.pass(vec![only_80()]);
    assert_eq!(reconciler.status().state, State::Ready);
    assert_eq!(reconciler.kernel.flows, [allowed]);
    assert_eq!(revoked(&reconciler.kernel), [WEB, DB].map(|text| text.parse::<IpAddr>().unwrap()));
    let [change, cut] = &reconciler.kernel.tried[..] else { panic!("{:?}", reconciler.kernel.tried) };
    assert!(change.contains("add rule") && !change.contains("revoked4"), "{change}");
    assert!(cut.contains("revoked4") && !cut.contains("rule"), "{cut}");
    let steps = reconciler.status().last_pass.clone().unwrap().steps;
    let told: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(told.len(), 2);
    assert!(
        !told[0].contains("add element inet selvedge revoked"),
        "flows are told by their number: {told:?}"
    );
    assert_eq!(told[1], "cut 1 flows that are no longer allowed");
    assert_ne!(denied, allowed);
}

#[test]
fn what_comes_up_while_flows_are_listed_is_cut_too() {
    let (mut reconciler, [_, allowed]) = settled();
    reconciler.kernel.late = Some(flow((CLIENT, 3), (DB, 22)));
    reconciler.pass(vec![only_80()]);
    assert_eq!(reconciler.kernel.flows, [allowed]);
    assert_eq!(revoked(&reconciler.kernel).len(), 4);
    assert_eq!(reconciler.kernel.listings, 3, "until there is nothing new");
}

#[test]
fn where_nothing_is_denied_that_was_allowed_flows_are_not_even_listed() {
    let (mut reconciler, _) = settled();
    reconciler.pass(vec![Trigger::Resync]);
    assert_eq!(reconciler.kernel.listings, 0);
    reconciler.pass(vec![only_80()]);
    let listings = reconciler.kernel.listings;
    reconciler.pass(vec![Trigger::Asked, only_80()]);
    assert_eq!(reconciler.kernel.listings, listings);
}

#[test]
fn a_node_that_leaves_denies_nobody_anything() {
    let of = |nodes: &[&str]| {
        let nodes = nodes.iter().map(|ip| ip.parse().unwrap()).collect();
        BTreeMap::from([(AGENT, firewall::tunnels(&nodes, &[4789], &[]))])
    };
    let made = diff(&of(&["172.30.0.11", "172.30.0.12"]), &Listed::new(), Scope::Whole);
    let there = after(&Listed::new(), &made).unwrap();
    let leaves = diff(&of(&["172.30.0.11"]), &there, Scope::Whole);
    assert_eq!(leaves.commands().len(), 1);
    assert!(!closes(&Step::Rules(AGENT, leaves), Unknown::Closed));
    let all = diff(&BTreeMap::new(), &there, Scope::Whole);
    assert!(closes(&Step::Rules(AGENT, all), Unknown::Closed));
}

#[test]
fn an_agent_judges_all_flows_when_it_starts_whatever_it_finds() {
    let (mut stopped, flows) = settled();
    stopped.pass(vec![only_80()]);
    // It was stopped after the change and before it had deleted the entry.
    let mut kernel = Fake::new();
    kernel.observed = stopped.kernel.observed.clone();
    kernel.flows = flows.to_vec();
    let mut started = reconciler(kernel);
    started.pass(vec![only_80()]);
    assert_eq!(started.kernel.flows, [flows[1]]);
    started.kernel.listings = 0;
    started.pass(vec![Trigger::Resync]);
    assert_eq!(started.kernel.listings, 0);
}

#[test]
fn what_is_allowed_again_is_released_by_the_change_that_allows_it() {
    let (mut reconciler, _) = settled();
    reconciler.pass(vec![only_80()]);
    reconciler.kernel.tried.clear();
    reconciler.pass(vec![cluster(&admits(json!([{"ports": [{"port": 80}, {"port": 81}]}])))]);
    assert_eq!(revoked(&reconciler.kernel), [""; 0].map(|text: &str| text.parse::<IpAddr>().unwrap()));
    assert_eq!(reconciler.kernel.tried.len(), 1, "one transaction: {:?}", reconciler.kernel.tried);
}

#[test]
fn a_change_that_fails_cuts_nothing_and_is_tried_again_whole() {
    let (mut reconciler, flows) = settled();
    reconciler.kernel.refused = ("add rule", 1);
    reconciler.pass(vec![only_80()]);
    assert!(matches!(reconciler.status().state, State::Failed { .. }));
    assert_eq!(reconciler.kernel.flows, flows);
    reconciler.pass(vec![Trigger::Retry]);
    assert_eq!(reconciler.status().state, State::Ready);
    assert_eq!(reconciler.kernel.flows, [flows[1]]);
}

#[test]
fn a_change_does_not_wait_for_flows_that_cannot_be_listed_and_they_are_judged_later() {
    let (mut reconciler, flows) = settled();
    reconciler.kernel.untold = 1;
    reconciler.pass(vec![only_80()]);
    assert_eq!(reconciler.status().state, State::Failed { reasons: vec!["can't list".to_owned()] });
    assert_eq!(reconciler.kernel.tried.len(), 1, "{:?}", reconciler.kernel.tried);
    reconciler.pass(vec![Trigger::Retry]);
    assert_eq!(reconciler.status().state, State::Ready);
    assert_eq!(reconciler.kernel.flows, [flows[1]]);
    assert_eq!(revoked(&reconciler.kernel).len(), 2, "by a transaction of its own");
    let steps = reconciler.status().last_pass.clone().unwrap().steps;
    assert_eq!(steps.iter().map(|step| &step.result).collect::<Vec<_>>(), [&StepResult::Done]);
}
