//! Namespaces and NetworkPolicies as they come, change and go.

use std::sync::Arc;

use selvedge_model::Log;
use selvedge_model::policy::{Mode, Policy, PolicyKey};

use super::*;

fn policy(port: i64) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": "web", "uid": "u"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": port}]}]}})
}

fn namespace(team: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"team": team}, "annotations": {"selvedge.dev/log": "denied"}}})
}

fn known(update: &Update) -> Option<Arc<Policy>> {
    let key = PolicyKey { namespace: "shop".to_owned(), name: "web".to_owned() };
    update.cluster.as_ref()?.policies().get(&key).cloned()
}

/// The port that the policy admits; nothing if it admits none.
fn admits(update: &Update) -> Option<String> {
    known(update).map(|policy| format!("{:?}", policy.ingress))
}

#[test]
fn a_policy_comes_changes_and_goes_by_old_and_new_servers() {
    for minor in [OLD, NEW] {
        let Some(mut followed) = Followed::new(minor, 1) else { return };
        followed.until_nodes(1);
        followed.server().put("networkpolicies", policy(80));
        let first = followed.until(SOON, "the policy", |update| known(update).is_some());
        assert!(first.whole && first.problems.is_empty(), "{:?}", brief(Some(&first)));
        followed.server().put("networkpolicies", policy(81));
        followed.until(SOON, "its change", |update| admits(update) != admits(&first));
        let mut shadow = policy(81);
        shadow["metadata"]["annotations"] = json!({"selvedge.dev/mode": "shadow"});
        followed.server().put("networkpolicies", shadow);
        let is_shadow = |update: &Update| known(update).is_some_and(|policy| policy.mode == Mode::Shadow);
        followed.until(SOON, "its mode", is_shadow);
        followed.server().delete("networkpolicies", "shop/web");
        followed.until(SOON, "its end", |update| known(update).is_none());
    }
}

#[test]
fn a_policy_that_is_no_good_is_named_and_what_it_selects_is_closed_or_as_before() {
    let Some(mut followed) = Followed::new(NEW, 1) else { return };
    followed.server().put("networkpolicies", policy(0));
    let closed = followed.until(SOON, "the fault", |update| !update.problems.is_empty());
    let expected = "NetworkPolicy shop/web: spec.ingress[0].ports[0].port: 0 is no port: 1 to 65535";
    assert_eq!(closed.problems, [format!("{expected} (the pods it selects are closed)")]);
    assert!(closed.whole);
    let policy_of = |update: &Update| known(update).expect("it is in force");
    assert_eq!(policy_of(&closed).ingress, Some(Vec::new()));
    followed.server().put("networkpolicies", policy(80));
    let good = followed.until(SOON, "it is mended", |update| update.problems.is_empty());
    assert!(policy_of(&good).refused.is_none());
    followed.server().put("networkpolicies", policy(65536));
    let kept = followed.until(SOON, "the other fault", |update| !update.problems.is_empty());
    assert!(kept.problems[0].ends_with("(its last good form stays in force)"), "{:?}", kept.problems);
    assert_eq!(policy_of(&kept), policy_of(&good));
}

#[test]
fn a_namespace_comes_with_its_labels_and_they_change() {
    let Some(mut followed) = Followed::new(NEW, 1) else { return };
    followed.server().put("namespaces", namespace("a"));
    let of = |update: &Update| {
        let namespace = update.cluster.as_ref()?.namespaces().get("shop")?.clone();
        Some((namespace.labels["team"].clone(), namespace.log))
    };
    followed.until(SOON, "its labels", |update| of(update) == Some(("a".to_owned(), Log::Denied)));
    followed.server().put("namespaces", namespace("b"));
    followed.until(SOON, "their change", |update| of(update) == Some(("b".to_owned(), Log::Denied)));
    followed.server().delete("namespaces", "shop");
    followed.until(SOON, "its end", |update| of(update).is_none());
}
