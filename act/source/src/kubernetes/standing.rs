//! What the cluster is told of our Node: that its network is there, once pods can be served; and its WireGuard key.

use std::time::Duration;

use http::{Request, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Error};
use selvedge_model::{NodeName, PublicKey, chain};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, timeout};

use crate::keys::Announced;

/// The taint that keeps pods away from a Node until its agent serves them.
pub const TAINT: &str = "selvedge.dev/agent-not-ready";

/// The condition that cloud installations wait for.
const CONDITION: &str = "NetworkUnavailable";

/// How often it is looked whether the node serves pods.
const LOOK: Duration = Duration::from_secs(1);

/// What was changed comes back as an event of the watch, within this; then it is looked at again.
const ECHO: Duration = Duration::from_secs(10);

/// After a refusal, the next try; it doubles up to the most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// An answer that doesn't come is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a Node's agent owes the cluster.
pub struct Duties {
    /// True while pods are served.
    pub serves: Box<dyn Fn() -> bool + Send>,
    /// Whether the taint is taken away.
    pub taint: bool,
    /// The key that the Node's annotation [`PublicKey::ANNOTATION`] is to say, whether pods are served or not. It is
    /// patched as soon as that changes.
    pub key: Announced,
    /// Is told why the Node can't be changed, and nothing once it can.
    pub told: Box<dyn Fn(Option<String>) + Send>,
}

impl std::fmt::Debug for Duties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duties").field("taint", &self.taint).finish_non_exhaustive()
    }
}

/// How our Node stands in the API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// The condition's status: `True`, `False` or `Unknown`; `None` without the condition.
    pub(super) unavailable: Option<String>,
    /// The keys of its taints.
    pub(super) taints: Vec<String>,
    /// What it says to be its WireGuard key.
    pub(super) key: Option<String>,
}

/// How our Node is to stand.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    serves: bool,
    taint: bool,
    /// The key that it is to say, if any; `None` while that isn't known.
    key: Option<Option<PublicKey>>,
}

/// A condition of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// A taint of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Taint {
    key: String,
}

/// A change to a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It says this key, or none.
    Key(Option<PublicKey>),
    /// Its network is there.
    Available,
    /// The taints at these places, the last first, go, if they are still what they were.
    Untaint(Vec<usize>),
}

impl Standing {
    pub(super) fn of((conditions, taints): (&[Condition], &[Taint]), key: Option<&str>) -> Self {
        let condition = conditions.iter().find(|condition| condition.kind == CONDITION);
        Self {
            unavailable: condition.map(|condition| condition.status.clone()),
            taints: taints.iter().map(|taint| taint.key.clone()).collect(),
            key: key.map(str::to_owned),
        }
    }

    /// What there is to change. The key comes first: until it is there nobody can send to us.
    fn changes(&self, wanted: Wanted) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(key) = wanted.key.filter(|key| self.key != key.map(String::from)) {
            changes.push(Change::Key(key));
        }
        if wanted.serves && self.unavailable.as_deref() != Some("False") {
            changes.push(Change::Available);
        }
        let ours = self.taints.iter().enumerate().filter(|(_, key)| *key == TAINT);
        let ours: Vec<usize> = ours.map(|(place, _)| place).rev().collect();
        if wanted.serves && wanted.taint && !ours.is_empty() {
            changes.push(Change::Untaint(ours));
        }
        changes
    }
}

impl Change {
    /// That it can't be made, for people.
    fn failed(&self, node: &NodeName, why: &str) -> String {
        match self {
            Self::Key(_) => format!("Node {node} can't be told its WireGuard key: {why}"),
            Self::Available | Self::Untaint(_) => format!("Node {node} can't be told to be served: {why}"),
        }
    }

    /// The request's path, its content's type and its content.
    fn request(&self, node: &NodeName, now: Timestamp) -> (String, &'static str, Value) {
        let path = format!("/api/v1/nodes/{node}");
        match self {
            // By the path of the status too, of which an agent may change more than of the rest.
            Self::Key(key) => {
                let patch = json!({"metadata": {"annotations": {PublicKey::ANNOTATION: key}}});
                (path + "/status", "application/strategic-merge-patch+json", patch)
            }
            Self::Available => {
                let condition = json!({
                    "type": CONDITION, "status": "False", "reason": "SelvedgeIsReady",
                    "message": "Selvedge serves pods on this node",
                    "lastHeartbeatTime": Time(now), "lastTransitionTime": Time(now),
                });
                // Conditions are merged by their types.
                let patch = json!({"status": {"conditions": [condition]}});
                (path + "/status", "application/strategic-merge-patch+json", patch)
            }
            Self::Untaint(places) => {
                let remove = |place: &usize| {
                    let at = format!("/spec/taints/{place}");
                    // Somebody else may have changed the list since.
                    [
                        json!({"op": "test", "path": format!("{at}/key"), "value": TAINT}),
                        json!({"op": "remove", "path": at}),
                    ]
                };
                (path, "application/json-patch+json", places.iter().flat_map(remove).collect())
            }
        }
    }
}

/// Keeps our Node's standing as it should be, for ever. Nothing waits for it.
pub(super) async fn keep(
    client: Client,
    (node, duties): (NodeName, Duties),
    mut known: Receiver<Option<Standing>>,
) {
    let mut key = duties.key.hear();
    let (mut due, mut retry, mut failing) = (Instant::now(), RETRY, false);
    loop {
        // Looked at when it changes, when another key is to be said, and when the node may have come to serve pods.
        tokio::select! {
            changed = known.changed() => if changed.is_err() {
                sleep(LOOK).await;
            },
            _ = key.changed() => due = Instant::now(),
            () = sleep(LOOK) => {}
        }
        let wanted = Wanted { serves: (duties.serves)(), taint: duties.taint, key: *key.borrow_and_update() };
        let changes = known.borrow_and_update().as_ref().map(|standing| standing.changes(wanted));
        // Once nothing is to be changed, the next change need not wait.
        let Some(changes) = changes.filter(|changes| changes.is_empty() || Instant::now() >= due) else {
            continue;
        };
        let mut refused = None;
        for change in &changes {
            if let Err(why) = make(&client, &node, change).await {
                refused.get_or_insert_with(|| change.failed(&node, &why));
            }
        }
        match refused {
            Some(why) => {
                (duties.told)(Some(why));
                (due, retry, failing) = (Instant::now() + retry, (retry * 2).min(RETRY_MOST), true);
            }
            None => {
                if failing {
                    (duties.told)(None);
                }
                let pause = if changes.is_empty() { Duration::ZERO } else { ECHO };
                (due, retry, failing) = (Instant::now() + pause, RETRY, false);
            }
        }
    }
}

async fn make(client: &Client, node: &NodeName, change: &Change) -> Result<(), String> {
    let (path, kind, patch) = change.request(node, Timestamp::now());
    let request = Request::patch(path).header(header::CONTENT_TYPE, kind);
    let request = request.body(patch.to_string().into_bytes()).map_err(|why| why.to_string())?;
    match timeout(PATIENCE, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        // Somebody else was quicker: what the list of taints is now will be heard.
        Ok(Err(Error::Api(status))) if status.code == 422 || status.code == 409 => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_late) => Err("the API doesn't answer".to_owned()),
    }
}

#[cfg(test)]
mod tests;
