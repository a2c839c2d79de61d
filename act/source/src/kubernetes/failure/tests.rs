use super::*;

#[test]
fn what_a_server_refuses_is_told_once_and_in_its_words() {
    let text =
        r#"{"status": "Failure", "message": "nodes is forbidden", "reason": "Forbidden", "code": 403}"#;
    let status: Status = serde_json::from_str(text).unwrap();
    let error = watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status)));
    assert_eq!(why(&error), "start to watch: nodes is forbidden (403 Forbidden)");
}
