//! The requests that the socket takes, and their answers: one JSON document each.

use std::time::Duration;

use selvedge_explain::{Filter, Query};
use selvedge_reconcile::Standing;
use selvedge_reconcile::status::State;
use selvedge_whatif::Proposal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Admit, Callback, Explain, Reach, Shared, Try, reason};

/// What is understood, for clients that asked for something else.
const UNDERSTOOD: &str = r#"{"get":"status"}, {"get":"ready"}, {"do":"reap"}, {"do":"reconcile"}, {"explain":{"from":…,"to":…}}, {"try":{"manifests":[…]}}, {"matrix":{}} and {"admit":{"host":…,"owner":…}} are understood"#;

/// All that it takes to answer.
pub(super) struct Answers {
    pub(super) status: Shared,
    pub(super) on_reap: Callback,
    pub(super) on_explain: Explain,
    pub(super) on_try: Try,
    pub(super) on_matrix: Reach,
    pub(super) on_admit: Admit,
    pub(super) on_reconcile: Callback,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Request {
    Get(Document),
    Do(Deed),
    Admit(Attachment),
    Explain(Query),
    Try(Proposal),
    Matrix(Filter),
}

/// The attachment that an ADD has made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attachment {
    host: String,
    owner: String,
    /// How long the ADD has waited before, in milliseconds.
    #[serde(default)]
    waited: u64,
}

/// What can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Document {
    Status,
    Ready,
}

/// What can be asked to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Deed {
    Reap,
    Reconcile,
}

/// Whether pods are served, and what is amiss.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    reason: Option<String>,
}

impl Answers {
    /// The answer to one request, without a line's end.
    pub(super) fn to(&self, request: &[u8]) -> String {
        match serde_json::from_slice(request) {
            Ok(Request::Get(Document::Status)) => self.status.read(written),
            Ok(Request::Get(Document::Ready)) => {
                written(&self.status.read(|status| readiness(&status.state)))
            }
            Ok(Request::Do(deed)) => {
                match deed {
                    Deed::Reap => (self.on_reap)(),
                    Deed::Reconcile => (self.on_reconcile)(),
                }
                json!({ "ok": true }).to_string()
            }
            Ok(Request::Admit(attachment)) => self.admit(&attachment),
            Ok(Request::Explain(query)) => answered((self.on_explain)(&query)),
            Ok(Request::Matrix(filter)) => answered((self.on_matrix)(&filter)),
            Ok(Request::Try(proposal)) => answered((self.on_try)(&proposal)),
            Err(error) => refused(&error),
        }
    }

    fn admit(&self, attachment: &Attachment) -> String {
        let host = match attachment.host.parse() {
            Ok(host) => host,
            Err(why) => return refused(&format_args!("admit.host: {why}")),
        };
        let Some(standing) =
            (self.on_admit)(&host, &attachment.owner, Duration::from_millis(attachment.waited))
        else {
            let state = self.status.read(|status| reason(&status.state));
            let why =
                state.unwrap_or_else(|| format!("{host} is not in force, or its Pod is yet to be shown"));
            return json!({ "error": why }).to_string();
        };
        if standing == Standing::Isolated {
            let (host, owner) = (host.as_str(), &attachment.owner);
            tracing::warn!(host, owner, "a pod that no source has shown is let in isolated");
        }
        json!({ "ok": true }).to_string()
    }
}

/// The answer to what is no request.
pub(super) fn refused(why: &dyn std::fmt::Display) -> String {
    json!({ "error": format!("{why}: {UNDERSTOOD}") }).to_string()
}

fn readiness(state: &State) -> Readiness {
    Readiness { ready: state.serves(), reason: reason(state) }
}

/// An answer, or why there is none.
fn answered(answer: Result<impl Serialize, String>) -> String {
    match answer {
        Ok(answer) => written(&answer),
        Err(why) => json!({ "error": why }).to_string(),
    }
}

fn written(document: &impl Serialize) -> String {
    serde_json::to_string(document).unwrap_or_else(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use selvedge_reconcile::status::Status;
    use selvedge_whatif::Tried;
    use serde_json::Value;

    use super::*;

    fn answers(state: State) -> (Answers, Arc<[AtomicUsize; 2]>) {
        let called = Arc::new([const { AtomicUsize::new(0) }; 2]);
        let counting = |which: usize| -> Callback {
            let called = Arc::clone(&called);
            Box::new(move || {
                called[which].fetch_add(1, Ordering::SeqCst);
            })
        };
        let status = Status { state, ..Status::starting("node-a", "1.2.3") };
        let status = Shared(Arc::new(Mutex::new(status)));
        let on_admit: Admit = Box::new(|host, _, _| (host.as_str() == "slv1").then_some(Standing::Known));
        let answers = Answers {
            status,
            on_reap: counting(0),
            on_explain: Box::new(|query| Err(query.to.clone())),
            on_matrix: Box::new(|_| Err("no pods".to_owned())),
            on_try: Box::new(|proposal| Ok(Tried::Refused(proposal.delete.clone()))),
            on_admit,
            on_reconcile: counting(1),
        };
        (answers, called)
    }

    fn answer(answers: &Answers, request: &str) -> Value {
        serde_json::from_str(&answers.to(request.as_bytes())).unwrap()
    }

    #[test]
    fn the_status_is_the_loops_own() {
        let (answers, _) = answers(State::Ready);
        let status: Status = serde_json::from_value(answer(&answers, r#"{"get":"status"}"#)).unwrap();
        assert_eq!(status, answers.status.read(Status::clone));
    }

    #[test]
    fn readiness_comes_with_what_is_amiss() {
        let reasons = || vec!["no route".to_owned(), "no rule".to_owned()];
        for (state, expected) in [
            (State::Ready, json!({ "ready": true, "reason": null })),
            (State::Waiting { reason: "no Node".into() }, json!({ "ready": false, "reason": "no Node" })),
            (State::Degraded { reasons: reasons() }, json!({ "ready": true, "reason": "no route; no rule" })),
            (State::Failed { reasons: reasons() }, json!({ "ready": false, "reason": "no route; no rule" })),
        ] {
            assert_eq!(answer(&answers(state).0, r#"{"get":"ready"}"#), expected);
        }
    }

    #[test]
    fn a_deed_is_passed_on_once_and_no_other_with_it() {
        let (answers, called) = answers(State::Ready);
        let count = || [called[0].load(Ordering::SeqCst), called[1].load(Ordering::SeqCst)];
        assert_eq!(answer(&answers, " {\"do\": \"reap\"} \r\n"), json!({ "ok": true }));
        assert_eq!(count(), [1, 0]);
        assert_eq!(answer(&answers, r#"{"do":"reconcile"}"#), json!({ "ok": true }));
        assert_eq!(count(), [1, 1]);
    }

    #[test]
    fn an_attachment_is_let_in_once_it_is_in_force() {
        let (answers, _) = answers(State::Waiting { reason: "no Node".to_owned() });
        let admit =
            |host: &str| answer(&answers, &json!({"admit": {"host": host, "owner": "o"}}).to_string());
        assert_eq!(admit("slv1"), json!({ "ok": true }));
        assert_eq!(admit("slv2"), json!({ "error": "no Node" }));
        assert!(admit("a/b")["error"].as_str().unwrap().starts_with("admit.host: "));
    }

    #[test]
    fn what_cannot_be_explained_is_said() {
        let (answers, _) = answers(State::Ready);
        let request = json!({"explain": {"from": "a", "to": "b", "port": 80, "protocol": "TCP"}}).to_string();
        assert_eq!(answer(&answers, &request), json!({ "error": "b" }));
    }

    #[test]
    fn what_is_tried_is_passed_on_and_answered() {
        let (answers, called) = answers(State::Ready);
        let request = json!({"try": {"manifests": [], "delete": ["x/deny"]}}).to_string();
        assert_eq!(answer(&answers, &request), json!({ "refused": ["x/deny"] }));
        assert_eq!(called[1].load(Ordering::SeqCst), 0, "nothing is changed by it");
        let request = json!({"matrix": {"namespace": "x", "port": 80}}).to_string();
        assert_eq!(answer(&answers, &request), json!({ "error": "no pods" }));
    }

    #[test]
    fn anything_else_is_answered_with_what_is_understood_and_does_nothing() {
        let (answers, called) = answers(State::Ready);
        for wrong in [
            "",
            "reap",
            "{}",
            r#"{"get":"reap"}"#,
            r#"{"do":"reap","get":"status"}"#,
            r#"{"do":"reap"} {"do":"reap"}"#,
            r#"["do","reap"]"#,
            "\u{0}",
        ] {
            let answer = answer(&answers, wrong);
            let error = answer["error"].as_str().unwrap();
            assert!(error.ends_with(UNDERSTOOD), "{wrong}: {error}");
        }
        assert_eq!(called[0].load(Ordering::SeqCst) + called[1].load(Ordering::SeqCst), 0);
    }
}
