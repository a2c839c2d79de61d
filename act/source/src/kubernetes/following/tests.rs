use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch::channel;
use tower::BoxError;

use super::*;

#[test]
fn only_a_server_that_says_that_it_is_new_is_asked_for_a_list_as_a_stream() {
    let new = [("1", "34"), ("1", "35+"), ("2", "0")];
    let old = [("1", "20"), ("1", "33+"), ("", ""), ("1", ""), ("", "34")];
    assert!(new.iter().all(|(major, minor)| is_new(major, minor)));
    assert!(!old.iter().any(|(major, minor)| is_new(major, minor)));
}

/// What a server does with a request, of which it sees path and query.
enum Answer {
    Json(StatusCode, Value),
    Lines(Vec<Value>),
    Nothing,
    Breaks,
}

/// Follows a server until there is an update of which something is true, on a clock that waits for nothing; the
/// requests that were made until then.
fn followed(
    answer: impl Fn(&str, usize) -> Answer + Send + 'static,
    is: impl Fn(&Update) -> bool,
) -> Vec<String> {
    let asked = Arc::new(Mutex::new(Vec::<String>::new()));
    let (seen, answer) = (Arc::clone(&asked), Arc::new(Mutex::new(answer)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let what = request.uri().to_string();
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|earlier| **earlier == what).count();
        let answer = answer.lock().unwrap()(&what, before);
        seen.push(what);
        async move {
            let (status, text) = match answer {
                Answer::Json(status, body) => (status, body.to_string()),
                Answer::Lines(lines) => {
                    (StatusCode::OK, lines.iter().map(|line| format!("{line}\n")).collect())
                }
                Answer::Nothing => std::future::pending().await,
                Answer::Breaks => return Err(BoxError::from("connection reset")),
            };
            Ok::<_, BoxError>(Response::builder().status(status).body(Body::from(text.into_bytes())).unwrap())
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let client = Client::new(service, "default");
        let (told, answered) = unbounded_channel();
        // Whatever else happens.
        told.send(Told::Credentials(Some("the token /t can't be read".to_owned()))).unwrap();
        let (standing, _known) = channel(None);
        let node = "node-0".parse().unwrap();
        let deliver = |update| if is(&update) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let following = follow((&client, answered), (&node, standing), deliver);
        timeout(Duration::from_secs(3600), following).await.expect("within an hour of that clock");
    });
    let asked = asked.lock().unwrap();
    asked.clone()
}

fn version(minor: &str) -> Answer {
    let text = ["gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
    let mut version = json!({"major": "1", "minor": minor});
    text.iter().for_each(|field| version[*field] = "".into());
    Answer::Json(StatusCode::OK, version)
}

fn list(names: &[&str], more: Option<&str>) -> Answer {
    let items: Vec<Value> = names.iter().map(|name| json!({"metadata": {"name": name}})).collect();
    let metadata = json!({"resourceVersion": "7", "continue": more.unwrap_or_default()});
    Answer::Json(StatusCode::OK, json!({"metadata": metadata, "items": items}))
}

fn streamed(names: &[&str]) -> Answer {
    let added = |name: &&str| json!({"type": "ADDED", "object": {"metadata": {"name": name, "resourceVersion": "7"}}});
    let end = json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Node",
        "metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}});
    Answer::Lines(names.iter().map(added).chain([end]).collect())
}

fn refused(code: u16) -> Answer {
    let status = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "x", "code": code});
    Answer::Json(StatusCode::from_u16(code).unwrap(), status)
}

fn has_nodes(update: &Update, count: usize) -> bool {
    update.cluster.as_ref().is_some_and(|cluster| cluster.nodes().len() == count)
}

#[test]
fn a_list_that_never_ends_is_asked_for_again() {
    let begun = std::time::Instant::now();
    let told = Mutex::new(false);
    let answer = |what: &str, before: usize| match what {
        "/version" => version("30"),
        _ if what.contains("watch=true") => Answer::Nothing,
        _ if !what.contains("/nodes") => list(&[], None),
        _ if what.contains("continue=") && before == 0 => Answer::Nothing,
        _ if what.contains("continue=") => list(&["node-1"], None),
        _ => list(&["node-0"], Some("there")),
    };
    let asked = followed(answer, |update| {
        *told.lock().unwrap() |= update.problems.iter().any(|why| why.contains("nothing more has come"));
        has_nodes(update, 2)
    });
    assert!(*told.lock().unwrap(), "{asked:?}");
    assert!(begun.elapsed() < STALLED, "the clock waited");
}

#[test]
fn a_server_that_did_not_say_which_it_is_is_asked_again() {
    let answer = |what: &str, before: usize| match what {
        "/version" if before == 0 => Answer::Nothing,
        "/version" => version("36"),
        _ if what.contains("sendInitialEvents=true") && what.contains("/nodes") => streamed(&["node-0"]),
        _ if what.contains("sendInitialEvents=true") => streamed(&[]),
        _ if what.contains("watch=true") => Answer::Nothing,
        _ => Answer::Breaks,
    };
    let asked = followed(answer, |update| has_nodes(update, 1));
    assert_eq!(asked.iter().filter(|what| *what == "/version").count(), 2, "{asked:?}");
}

#[test]
fn a_new_server_that_refuses_to_stream_lists_is_asked_for_pages() {
    let answer = |what: &str, _: usize| match what {
        "/version" => version("36"),
        _ if what.contains("sendInitialEvents=true") => refused(422),
        _ if what.contains("watch=true") => Answer::Nothing,
        _ if what.contains("/nodes") => list(&["node-0"], None),
        _ => list(&[], None),
    };
    let told =
        "Kubernetes API: the changed credentials can't be used, the earlier ones stay in use: the token /t";
    followed(answer, |update| {
        let is_told = update.problems.iter().any(|problem| problem.starts_with(told));
        has_nodes(update, 1) && update.lost.is_none() && is_told
    });
}

#[test]
fn an_error_of_a_watch_that_was_good_is_no_reason_to_list_all_again() {
    let added = json!({"type": "ADDED", "object": {"metadata": {"name": "node-1", "resourceVersion": "8"}}});
    let answer = move |what: &str, before: usize| match what {
        "/version" => version("36"),
        _ if what.contains("sendInitialEvents=true") && what.contains("/nodes") => streamed(&["node-0"]),
        _ if what.contains("sendInitialEvents=true") => streamed(&[]),
        _ if what.contains("/nodes") && what.contains("resourceVersion=7") => match before {
            0 => refused(500),
            1 => Answer::Lines(vec![added.clone()]),
            _ => Answer::Nothing,
        },
        _ => Answer::Nothing,
    };
    let asked = followed(answer, |update| has_nodes(update, 2));
    assert!(!asked.iter().any(|what| what.contains("limit=")), "{asked:?}");
    assert_eq!(asked.iter().filter(|what| what.contains("sendInitialEvents=true")).count(), 4, "{asked:?}");
}

#[test]
fn what_is_too_old_to_start_a_watch_from_is_listed_again() {
    let answer = |what: &str, before: usize| match what {
        "/version" => version("30"),
        _ if what.contains("watch=true") && what.contains("/nodes") && before == 0 => refused(410),
        _ if what.contains("watch=true") => Answer::Nothing,
        _ if what.contains("/nodes") && before == 0 => list(&["node-0"], None),
        _ if what.contains("/nodes") => list(&["node-0", "node-1"], None),
        _ => list(&[], None),
    };
    followed(answer, |update| has_nodes(update, 2) && update.lost.is_none());
}
