use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

fn node(name: &str, cidr: &str) -> ApiNode {
    object(json!({"metadata": {"name": name}, "spec": {"podCIDRs": [cidr]}}))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn listed(nodes: impl IntoIterator<Item = ApiNode>) -> Known {
    let mut known = Known::default();
    known.pod(Event::Init);
    known.pod(Event::InitDone);
    list(&mut known, nodes);
    known
}

fn list(known: &mut Known, nodes: impl IntoIterator<Item = ApiNode>) {
    known.node(Event::Init);
    nodes.into_iter().for_each(|node| known.node(Event::InitApply(node)));
    known.node(Event::InitDone);
}

fn names(known: &Known) -> Vec<String> {
    known.complete().unwrap().cluster.nodes().keys().map(ToString::to_string).collect()
}

#[test]
fn there_is_no_cluster_before_every_kind_was_listed_to_its_end() {
    let mut known = Known::default();
    known.node(Event::Apply(node("a", "10.0.0.0/24")));
    known.node(Event::InitDone);
    known.node(Event::Init);
    known.node(Event::InitApply(node("a", "10.0.0.0/24")));
    known.node(Event::InitDone);
    assert_eq!(known.complete(), None);
    known.pod(Event::Init);
    assert_eq!(known.complete(), None);
    known.pod(Event::InitDone);
    assert_eq!(names(&known), ["a"]);
}

#[test]
fn a_new_listing_takes_the_place_of_the_old_one_as_a_whole() {
    let mut known = listed([node("a", "10.0.0.0/24"), node("b", "10.0.1.0/24")]);
    known.node(Event::Init);
    known.node(Event::InitApply(node("c", "10.0.2.0/24")));
    assert_eq!(names(&known), ["a", "b"]);
    // It breaks off, and begins anew.
    list(&mut known, [node("b", "10.0.1.0/24"), node("d", "10.0.3.0/24")]);
    assert_eq!(names(&known), ["b", "d"]);
    known.node(Event::Delete(node("b", "")));
    known.node(Event::Apply(node("e", "10.0.4.0/24")));
    assert_eq!(names(&known), ["d", "e"]);
}

#[test]
fn of_two_nodes_with_one_subnet_the_first_by_name_keeps_it_and_both_are_named() {
    let known = listed([node("b", "10.0.0.0/24"), node("a", "10.0.0.0/16")]);
    let complete = known.complete().unwrap();
    let cidrs = |name: &str| complete.cluster.nodes()[&name.parse().unwrap()].pod_cidrs.len();
    assert_eq!((cidrs("a"), cidrs("b")), (1, 0));
    let problem = "Node b: podCIDR 10.0.0.0/24 overlaps 10.0.0.0/16 of Node a, which keeps it";
    assert_eq!((complete.whole, complete.problems), (true, vec![problem.to_owned()]));
}

#[test]
fn what_cannot_be_read_keeps_its_last_good_form_also_through_a_new_listing() {
    let mut known = listed([node("a", "10.0.0.0/24")]);
    let before = known.complete().unwrap().cluster;
    known.node(Event::Apply(node("a", "10.0.0.0/x")));
    list(&mut known, [node("a", "10.0.0.0/y")]);
    let complete = known.complete().unwrap();
    assert_eq!((&complete.cluster, complete.whole), (&before, true));
    assert!(
        complete.problems[0].contains("Node a: spec.podCIDRs[0] \"10.0.0.0/y\""),
        "{:?}",
        complete.problems
    );
    known.node(Event::Apply(object(json!({"metadata": {"name": "No Name"}}))));
    assert!(!known.complete().unwrap().whole);
}
