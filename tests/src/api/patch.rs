//! Patches: what of JSON Patch (RFC 6902) and of strategic merges is sent here.

use std::sync::{Arc, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path as Segments, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::{Sent, Shared, json_of};

type Named = Segments<(String, String)>;

/// A patch of an object but for its status.
pub(super) async fn object(
    shared: State<Arc<Shared>>,
    Segments((plural, name)): Named,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&shared, (&plural, &name, "spec"), (&headers, &body))
}

/// A patch of an object's status.
pub(super) async fn status(
    shared: State<Arc<Shared>>,
    Segments((plural, name)): Named,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&shared, (&plural, &name, "status"), (&headers, &body))
}

fn answer(shared: &Shared, (plural, name, part): (&str, &str, &str), with: (&HeaderMap, &Bytes)) -> Response {
    let (headers, body) = with;
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.requests.push(format!("PATCH {plural}/{name} {part}"));
    if state.faults.forbids_patches {
        return super::status(StatusCode::FORBIDDEN, "Forbidden");
    }
    let key = (plural.to_owned(), name.to_owned());
    let Some(before) = state.objects.get(&key) else {
        return super::status(StatusCode::NOT_FOUND, "NotFound");
    };
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let Ok(patch) = serde_json::from_slice::<Value>(body) else {
        return super::status(StatusCode::BAD_REQUEST, "BadRequest");
    };
    let patched = match kind {
        "application/strategic-merge-patch+json" => merged(Value::clone(before), &patch),
        "application/json-patch+json" => changed(Value::clone(before), &patch),
        _ => return super::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
    };
    let Some(patched) = patched else {
        return super::status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
    };
    // Of a status the metadata besides, of which a server lets annotations be changed so, and of the rest no status.
    let mut object = Value::clone(before);
    object["metadata"] = patched["metadata"].clone();
    if let Some(patched) = patched.get(part) {
        object[part] = patched.clone();
    }
    if object == **before {
        return json_of(&object);
    }
    state.version += 1;
    object["metadata"]["resourceVersion"] = state.version.to_string().into();
    state.objects.insert(key, Arc::new(object.clone()));
    let line = json!({"type": "MODIFIED", "object": object}).to_string();
    let sent = Sent { plural: plural.to_owned(), node: None, line: Some(line) };
    let version = state.version;
    state.history.push((version, sent.clone()));
    // Nobody may be watching.
    shared.events.send(sent).ok();
    json_of(&object)
}

/// Merges annotations, of which null takes one away, and conditions by their types; nothing else is sent here that way.
fn merged(mut object: Value, patch: &Value) -> Option<Value> {
    let annotations = patch["metadata"]["annotations"].as_object();
    for (name, value) in annotations.into_iter().flatten() {
        let there = &mut object["metadata"]["annotations"];
        match value {
            Value::Null => drop(there.as_object_mut().and_then(|there| there.remove(name))),
            value => there[name] = value.clone(),
        }
    }
    let Some(conditions) = patch["status"]["conditions"].as_array() else {
        return annotations.map(|_| object);
    };
    let there = &mut object["status"]["conditions"];
    if there.is_null() {
        *there = json!([]);
    }
    for condition in conditions {
        let same = |other: &&mut Value| other["type"] == condition["type"];
        match there.as_array_mut()?.iter_mut().find(same) {
            Some(other) => *other = condition.clone(),
            None => there.as_array_mut()?.push(condition.clone()),
        }
    }
    Some(object)
}

/// `test` and `remove`; `None` if a test fails or a place isn't there.
fn changed(mut object: Value, patch: &Value) -> Option<Value> {
    for operation in patch.as_array()? {
        let path = operation["path"].as_str()?;
        match operation["op"].as_str()? {
            "test" if object.pointer(path)? == &operation["value"] => {}
            "remove" => {
                let (list, place) = path.rsplit_once('/')?;
                let list = object.pointer_mut(list)?.as_array_mut()?;
                let place: usize = place.parse().ok()?;
                (place < list.len()).then(|| list.remove(place))?;
            }
            _ => return None,
        }
    }
    Some(object)
}
