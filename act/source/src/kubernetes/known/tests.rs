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
    let mut known = unlisted();
    list_rest(&mut known);
    list(&mut known, nodes);
    known
}

fn unlisted() -> Known {
    Known::new("node-1".parse().unwrap())
}

/// There is none of the other kinds.
fn list_rest(known: &mut Known) {
    known.pod(Event::Init);
    known.pod(Event::InitDone);
    known.namespace(Event::Init);
    known.namespace(Event::InitDone);
    known.policy(Event::Init);
    known.policy(Event::InitDone);
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
    let mut known = unlisted();
    known.node(Event::Apply(node("a", "10.0.0.0/24")));
    known.node(Event::InitDone);
    known.node(Event::Init);
    known.node(Event::InitApply(node("a", "10.0.0.0/24")));
    known.node(Event::InitDone);
    assert_eq!(known.complete(), None);
    known.pod(Event::Init);
    assert_eq!(known.complete(), None);
    known.pod(Event::InitDone);
    known.namespace(Event::Init);
    known.namespace(Event::InitDone);
    known.policy(Event::Init);
    assert_eq!(known.complete(), None);
    known.policy(Event::InitDone);
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
    let cidrs = |name: &str| complete.cluster.nodes().get(&name.parse().unwrap()).unwrap().pod_cidrs.len();
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

fn policy(spec: Value) -> Event<ApiPolicy> {
    Event::Apply(object(json!({"metadata": {"namespace": "shop", "name": "deny"}, "spec": spec})))
}

#[test]
fn a_policy_that_was_never_good_is_closed_and_one_that_was_stays_as_it_was() {
    let mut known = listed([]);
    let one = |known: &Known| known.complete().unwrap().cluster.policies().values().next().cloned();
    let bad = |selected: &str| {
        let selector = json!({"matchLabels": {"app": selected}});
        json!({"podSelector": selector, "ingress": [{"ports": [{"port": 0}]}]})
    };
    for selected in ["web", "db"] {
        known.policy(policy(bad(selected)));
        let closed = one(&known).unwrap();
        let complete = known.complete().unwrap();
        assert!(
            closed.refused.is_some() && closed.ingress == Some(Vec::new()) && complete.whole,
            "{closed:?}"
        );
        assert_eq!(closed.selects.to_string(), format!("{{app={selected}}}"), "it was no good form");
        let problem = "NetworkPolicy shop/deny: spec.ingress[0].ports[0].port: 0 is no port: 1 to 65535 \
                       (the pods it selects are closed)";
        assert_eq!(complete.problems, [problem]);
    }
    known.policy(policy(json!({"ingress": [{"ports": [{"port": 80}]}]})));
    let good = one(&known).unwrap();
    assert!(good.refused.is_none() && known.complete().unwrap().problems.is_empty());
    known.policy(policy(bad("web")));
    assert_eq!(one(&known), Some(good));
    let problems = known.complete().unwrap().problems;
    assert!(problems[0].ends_with("(its last good form stays in force)"), "{problems:?}");
    let Event::Apply(gone) = policy(json!({})) else { panic!("an event") };
    known.policy(Event::Delete(gone));
    assert_eq!((one(&known), known.complete().unwrap().problems), (None, Vec::new()));
}

#[test]
fn a_policy_that_does_not_say_which_it_is_hides_an_object() {
    let mut known = listed([]);
    known.policy(Event::Apply(object(json!({"metadata": {"namespace": "Shop", "name": "deny"}}))));
    assert!(!known.complete().unwrap().whole);
}

#[test]
fn what_is_listed_again_and_is_the_same_is_not_kept_twice() {
    let mut known = listed([]);
    let pod = || object(json!({"metadata": {"namespace": "shop", "name": "web"}}));
    let kept =
        |known: &Known| Arc::as_ptr(&known.complete().unwrap().cluster.pods()[&"shop/web".parse().unwrap()]);
    known.pod(Event::Apply(pod()));
    let before = kept(&known);
    known.pod(Event::Init);
    known.pod(Event::InitApply(pod()));
    known.pod(Event::InitDone);
    assert_eq!(kept(&known), before);
}

#[test]
fn a_pod_of_another_node_goes_when_it_has_ended() {
    let mut known = listed([]);
    let pod = |node: &str, phase: &str| {
        let metadata = json!({"namespace": "shop", "name": "web"});
        Event::Apply(object(
            json!({"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}),
        ))
    };
    for (node, phase, expected) in [
        ("node-2", "Running", 1),
        ("node-2", "Succeeded", 0),
        ("node-1", "Running", 1),
        ("node-1", "Succeeded", 1),
    ] {
        known.pod(pod(node, phase));
        assert_eq!(known.complete().unwrap().cluster.pods().len(), expected, "{node} {phase}");
    }
}
