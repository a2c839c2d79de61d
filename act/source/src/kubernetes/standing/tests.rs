use super::*;

fn standing(unavailable: Option<&str>, taints: &[&str]) -> Standing {
    let conditions: Vec<Condition> = [("Ready", Some("True")), (CONDITION, unavailable)]
        .into_iter()
        .filter_map(|(kind, status)| Some(Condition { kind: kind.to_owned(), status: status?.to_owned() }))
        .collect();
    let taints: Vec<Taint> = taints.iter().map(|key| Taint { key: (*key).to_owned() }).collect();
    Standing::of(&conditions, &taints)
}

#[test]
fn a_node_whose_network_is_not_said_to_be_there_is_told_so() {
    for unavailable in [None, Some("True"), Some("Unknown")] {
        assert_eq!(standing(unavailable, &[]).changes(true), [Change::Available]);
    }
    assert_eq!(standing(Some("False"), &[]).changes(true), []);
}

#[test]
fn the_taint_goes_where_it_is_asked_for_whatever_others_there_are() {
    let node = standing(Some("False"), &[TAINT, "node.kubernetes.io/not-ready", TAINT]);
    assert_eq!(node.changes(false), []);
    assert_eq!(node.changes(true), [Change::Untaint(vec![2, 0])]);
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
