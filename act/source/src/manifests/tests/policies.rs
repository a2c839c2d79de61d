//! Namespaces and NetworkPolicies.

use selvedge_model::Log;
use selvedge_model::policy::{Policy, PolicyKey};

use super::*;

const DENY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/8}}]
    ports: [{port: 80, endPort: 90}]
";

fn policy<'a>(snapshot: &'a Snapshot, key: &str) -> Option<&'a Policy> {
    let (namespace, name) = key.split_once('/')?;
    let key = PolicyKey { namespace: namespace.to_owned(), name: name.to_owned() };
    snapshot.cluster.policies().get(&key).map(AsRef::as_ref)
}

/// The namespaces with their labels: `shop {team=a}`.
fn namespaces(snapshot: &Snapshot) -> Vec<String> {
    let namespaces = snapshot.cluster.namespaces().iter();
    namespaces.map(|(name, namespace)| format!("{name} {}", namespace.labels)).collect()
}

fn is_closed(policy: &Policy) -> bool {
    let rules = [&policy.ingress, &policy.egress].into_iter().flatten();
    rules.map(Vec::len).sum::<usize>() == 0 && policy.refused.is_some()
}

#[test]
fn a_policy_is_read_from_a_document_a_list_and_a_list_of_any_kind() {
    let item = DENY.split_once("metadata").unwrap().1;
    let indented = |text: &str| text.replace('\n', "\n  ");
    let list = |kind: &str, name: &str, head: &str| {
        let item = indented(&item.replace("name: deny", &format!("name: {name}")));
        format!("apiVersion: {kind}\nitems:\n- {}metadata{}\n", indented(head), item.trim_end())
    };
    let own = list("networking.k8s.io/v1\nkind: NetworkPolicyList", "own", "");
    let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n";
    let any = list("v1\nkind: List", "any", head);
    let snapshot = first(&[("a.yaml", DENY), ("b.yaml", &own), ("c.yaml", &any)]);
    assert_eq!(problems(&snapshot), [""; 0]);
    let deny = policy(&snapshot, "shop/deny").unwrap();
    assert_eq!(deny.selects.to_string(), "{app=web}");
    assert_eq!(deny.ingress.as_ref().map(Vec::len), Some(1));
    for name in ["shop/own", "shop/any"] {
        let other = policy(&snapshot, name).unwrap();
        assert_eq!((&other.selects, &other.ingress), (&deny.selects, &deny.ingress), "{name}");
    }
}

#[test]
fn a_policy_without_a_namespace_is_of_the_default_one() {
    let snapshot = first(&[("p.yaml", &DENY.replace(", namespace: shop", ""))]);
    assert!(policy(&snapshot, "default/deny").is_some());
}

#[test]
fn a_namespace_is_declared_or_there_because_something_is_in_it() {
    let shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}, annotations: \
                {selvedge.dev/log: all}}\n";
    let list = "apiVersion: v1\nkind: NamespaceList\nitems: [{metadata: {name: empty}}]\n";
    let other = DENY.replace("namespace: shop", "namespace: bank");
    let files =
        [("ns.yaml", shop), ("l.yaml", list), ("deny.yaml", DENY), ("pod.yaml", POD), ("o.yaml", &other)];
    let snapshot = first(&files);
    assert_eq!(problems(&snapshot), [""; 0]);
    assert_eq!(namespaces(&snapshot), ["bank {}", "empty {}", "shop {team=a}"]);
    assert_eq!(snapshot.cluster.namespaces()["shop"].log, Log::All);
    assert_eq!(namespaces(&first(&files[2..4])), ["shop {}"]);
}

#[test]
fn what_could_not_be_read_yet_may_declare_the_namespace_that_something_is_in() {
    let mut manifests = Manifests::default();
    assert_eq!(namespaces(&update(&mut manifests, &[("a.yaml", DENY), ("b.yaml", "[")])), [""; 0]);
    assert_eq!(namespaces(&update(&mut manifests, &[("a.yaml", DENY), ("b.yaml", "")])), ["shop {}"]);
    let snapshot = update(&mut manifests, &[("a.yaml", DENY), ("b.yaml", "["), ("c.yaml", "{")]);
    assert_eq!(namespaces(&snapshot), ["shop {}"], "what comes broken later changes nothing");
}

/// Each is a change to the policy that makes it no good, where that is, and what is said of it.
const BROKEN: [(&str, &str, &str, &str); 9] = [
    ("10.0.0.0/8", "10.0.0.0/33", "7:29", "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\" is no CIDR"),
    (
        "cidr: 10.0.0.0/8",
        "cidr: 10.0.0.0/8, except: [11.0.0.0/8]",
        "7:50",
        "spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/8 lies outside 10.0.0.0/8",
    ),
    ("port: 80", "port: 0", "8:20", "spec.ingress[0].ports[0].port: 0 is no port: 1 to 65535"),
    ("endPort: 90", "endPort: 79", "8:33", "spec.ingress[0].ports[0].endPort: 79 is below port 80"),
    (
        "matchLabels: {app: web}",
        "matchExpressions: [{key: app, operator: Is}]",
        "5:57",
        "spec.podSelector.matchExpressions[0].operator: \"Is\" is no operator: In, NotIn, Exists or DoesNotExist",
    ),
    ("app: web", "env: [web]", "5:36", "spec.podSelector.matchLabels.env: must be text, but is a boolean"),
    ("spec:", "spec: 7\nsp:", "4:7", "spec: must be a mapping, but is a number"),
    (
        "io/v1",
        "io/v1beta1",
        "1:13",
        "apiVersion: must be networking.k8s.io/v1 for a NetworkPolicy, but is networking.k8s.io/v1beta1",
    ),
    (
        "namespace: shop",
        "namespace: shop, annotations: {selvedge.dev/mode: shade}",
        "3:74",
        "metadata.annotations[\"selvedge.dev/mode\"]: \"shade\" is no mode: enforced or shadow",
    ),
];

#[test]
fn a_policy_that_was_never_good_is_closed_and_named_by_place_object_and_field() {
    for (good, bad, at, what) in BROKEN {
        let snapshot = first(&[("p.yaml", &DENY.replacen(good, bad, 1))]);
        let expected =
            format!("p.yaml:{at}: NetworkPolicy shop/deny: {what} (the pods it selects are closed)");
        assert_eq!(problems(&snapshot), [expected]);
        assert!(is_closed(policy(&snapshot, "shop/deny").unwrap()), "{bad}");
        assert!(snapshot.is_whole(), "something is in force in its place");
    }
}

#[test]
fn a_policy_that_was_good_stays_in_its_last_good_form() {
    for (good, bad, at, what) in BROKEN {
        let mut manifests = Manifests::default();
        let before = update(&mut manifests, &[("p.yaml", DENY)]);
        let after = update(&mut manifests, &[("p.yaml", &DENY.replacen(good, bad, 1))]);
        let expected =
            format!("p.yaml:{at}: NetworkPolicy shop/deny: {what} (the last good state stays in force)");
        assert_eq!(problems(&after), [expected]);
        assert_eq!(before.cluster, after.cluster);
        let mended = update(&mut manifests, &[("p.yaml", &DENY.replace("10.0.0.0/8", "10.0.0.0/9"))]);
        assert_eq!(problems(&mended), [""; 0]);
        assert_ne!(before.cluster, mended.cluster);
    }
}

#[test]
fn what_stands_in_for_a_policy_is_no_good_form_of_it() {
    let mut manifests = Manifests::default();
    let bad = DENY.replace("port: 80", "port: 0");
    update(&mut manifests, &[("p.yaml", &bad)]);
    let snapshot = update(&mut manifests, &[("p.yaml", &bad.replace("app: web", "app: db"))]);
    assert!(problems(&snapshot)[0].ends_with("(the pods it selects are closed)"), "{:?}", snapshot.problems);
    let closed = policy(&snapshot, "shop/deny").unwrap();
    assert!(is_closed(closed) && closed.selects.to_string() == "{app=db}", "{closed:?}");
    let gone = update(&mut manifests, &[]);
    assert!(policy(&gone, "shop/deny").is_none());
}

#[test]
fn a_policy_that_does_not_say_which_it_is_hides_an_object() {
    let snapshot = first(&[("p.yaml", &DENY.replace("name: deny", "name: Deny"))]);
    assert!(!snapshot.is_whole() && snapshot.cluster.policies().is_empty());
}

#[test]
fn a_shadow_is_read_and_one_that_is_no_good_closes_nothing() {
    let shadow = DENY.replace("namespace: shop", "namespace: shop, annotations: {selvedge.dev/mode: shadow}");
    let snapshot = first(&[("p.yaml", &shadow)]);
    assert_eq!(policy(&snapshot, "shop/deny").unwrap().mode, Mode::Shadow);
    let snapshot = first(&[("p.yaml", &shadow.replace("port: 80", "port: 0"))]);
    assert!(problems(&snapshot)[0].ends_with("0 is no port: 1 to 65535"), "{:?}", snapshot.problems);
    assert_eq!(policy(&snapshot, "shop/deny").unwrap().mode, Mode::Shadow);
}

#[test]
fn a_mirror_pod_has_its_static_pods_hash() {
    for name in selvedge_model::Pod::MIRRORS {
        let annotation = format!("namespace: shop\n  annotations: {{{name}: 5e1f}}");
        let snapshot = first(&[("p.yaml", &POD.replace("namespace: shop", &annotation))]);
        let pod = &snapshot.cluster.pods()[&"shop/web-0".parse().unwrap()];
        assert_eq!(pod.mirror.as_deref(), Some("5e1f"), "{name}");
    }
}
