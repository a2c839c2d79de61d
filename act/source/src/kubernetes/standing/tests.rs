use super::*;

fn standing(unavailable: Option<&str>, taints: &[&str]) -> Standing {
    let conditions: Vec<Condition> = [("Ready", Some("True")), (CONDITION, unavailable)]
        .into_iter()
        .filter_map(|(kind, status)| Some(Condition { kind: kind.to_owned(), status: status?.to_owned() }))
        .collect();
    let taints: Vec<Taint> = taints.iter().map(|key| Taint { key: (*key).to_owned() }).collect();
    Standing::of((&conditions, &taints), None)
}

const SERVES: Wanted = Wanted { serves: true, taint: false, key: None };
const WITHOUT_TAINT: Wanted = Wanted { taint: true, ..SERVES };

#[test]
fn a_node_whose_network_is_not_said_to_be_there_is_told_so() {
    for unavailable in [None, Some("True"), Some("Unknown")] {
        let node = standing(unavailable, &[TAINT]);
        assert_eq!(node.changes(SERVES), [Change::Available]);
        assert_eq!(node.changes(Wanted { serves: false, ..WITHOUT_TAINT }), [], "not before it serves");
    }
    assert_eq!(standing(Some("False"), &[]).changes(WITHOUT_TAINT), []);
}

#[test]
fn the_taint_goes_where_it_is_asked_for_whatever_others_there_are() {
    let node = standing(Some("False"), &[TAINT, "node.kubernetes.io/not-ready", TAINT]);
    assert_eq!(node.changes(SERVES), []);
    assert_eq!(node.changes(WITHOUT_TAINT), [Change::Untaint(vec![2, 0])]);
    let (path, kind, patch) = Change::Untaint(vec![2]).request(&"a".parse().unwrap(), Timestamp::UNIX_EPOCH);
    assert_eq!((path.as_str(), kind), ("/api/v1/nodes/a", "application/json-patch+json"));
    let expected = json!([
        {"op": "test", "path": "/spec/taints/2/key", "value": "selvedge.dev/agent-not-ready"},
        {"op": "remove", "path": "/spec/taints/2"},
    ]);
    assert_eq!(patch, expected);
}

#[test]
fn the_condition_bears_times_as_the_api_writes_them() {
    let (path, _, patch) = Change::Available.request(&"a".parse().unwrap(), Timestamp::UNIX_EPOCH);
    assert_eq!(path, "/api/v1/nodes/a/status");
    let condition = &patch["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("NetworkUnavailable"), &json!("False")));
    assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z");
}

#[test]
fn the_key_is_said_whether_pods_are_served_or_not_once_it_is_known() {
    let key = PublicKey([7; 32]);
    let text = key.to_string();
    let says = |said: Option<&str>| Standing { key: said.map(str::to_owned), ..standing(Some("False"), &[]) };
    for serves in [true, false] {
        let wanted = |key| Wanted { serves, taint: true, key };
        for said in [None, Some("nonsense"), Some(&*text)] {
            assert_eq!(says(said).changes(wanted(None)), [], "nothing is known, nothing is changed");
        }
        assert_eq!(says(None).changes(wanted(Some(None))), []);
        assert_eq!(says(Some(&text)).changes(wanted(Some(None))), [Change::Key(None)]);
        assert_eq!(says(Some(&text)).changes(wanted(Some(Some(key)))), []);
        for said in [None, Some("nonsense"), Some(&*PublicKey([8; 32]).to_string())] {
            assert_eq!(says(said).changes(wanted(Some(Some(key)))), [Change::Key(Some(key))]);
        }
    }
}

#[test]
fn a_key_is_patched_as_an_annotation_and_none_takes_it_away() {
    let patch = |key| Change::Key(key).request(&"a".parse().unwrap(), Timestamp::UNIX_EPOCH);
    let (path, kind, said) = patch(Some(PublicKey([0; 32])));
    assert_eq!((&*path, kind), ("/api/v1/nodes/a/status", "application/strategic-merge-patch+json"));
    let zeros = format!("{}=", "A".repeat(43));
    let expected = |key| json!({"metadata": {"annotations": {"selvedge.dev/wireguard-public-key": key}}});
    assert_eq!((said, patch(None).2), (expected(json!(zeros)), expected(Value::Null)));
}
