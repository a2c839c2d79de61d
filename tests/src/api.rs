//! A Kubernetes API server for what a real one can't be made to do on demand: list, watch, bookmarks and resource
//! versions as the documentation defines them ("Kubernetes API Concepts"), of Nodes, Pods, Namespaces and
//! NetworkPolicies; and patches of these.

mod patch;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Segment, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::unfold;
use selvedge_datapath::step::{LinkChange, NetStep};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use serde_json::{Value, json};
use tokio::runtime;
use tokio::sync::{broadcast, oneshot};

/// The objects that there are: their plural, apiVersion and kind.
const KINDS: [(&str, &str, &str); 4] = [
    ("nodes", "v1", "Node"),
    ("pods", "v1", "Pod"),
    ("namespaces", "v1", "Namespace"),
    ("networkpolicies", "networking.k8s.io/v1", "NetworkPolicy"),
];

/// How many events a watch may lag behind.
const BACKLOG: usize = 1024;

/// A server, ended when dropped. What it stores is kept by whoever starts another with [`ApiServer::stop`]'s objects.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a server does wrong, until told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Lists fail after their first page.
    pub half_lists: bool,
    /// Lists are answered well, with what is no list.
    pub garbled_lists: bool,
    /// Every resource version is too old to watch from.
    pub gone: bool,
    /// No list comes as a stream.
    pub refuses_streams: bool,
    /// Whoever changes an object may not.
    pub forbids_patches: bool,
    /// Whoever asks is refused with this status: 401, or 403.
    pub refuses: Option<u16>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Stored>,
    events: broadcast::Sender<Sent>,
    /// The minor version that it says it has.
    minor: u32,
}

#[derive(Debug, Default)]
struct Stored {
    version: u64,
    objects: BTreeMap<(String, String), Arc<Value>>,
    history: Vec<(u64, Sent)>,
    faults: Faults,
    requests: Vec<String>,
}

/// Something on its way to whoever watches a kind of objects; nothing ends the watch.
#[derive(Debug, Clone)]
struct Sent {
    plural: String,
    /// The node of a pod: who watches another's doesn't hear of it.
    node: Option<String>,
    line: Option<String>,
}

/// What somebody watches.
#[derive(Debug)]
struct Watched {
    plural: String,
    node: Option<String>,
}

impl Watched {
    fn hears(&self, sent: &Sent) -> bool {
        let of_other = || self.node.as_ref().zip(sent.node.as_ref()).is_some_and(|(ours, its)| ours != its);
        self.plural == sent.plural && !of_other()
    }
}

impl ApiServer {
    /// A server at 127.0.0.1 of a namespace, which says that it is Kubernetes 1.`minor`.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(place: &Namespace, minor: u32) -> Self {
        let up =
            NetStep::SetLink { name: "lo".parse().unwrap_or_else(|e| panic!("{e}")), change: LinkChange::Up };
        let mut socket = RouteSocket::open_in(place).unwrap_or_else(|error| panic!("{error}"));
        socket.apply_until_failure(&[up], None).unwrap_or_else(|error| panic!("{error}"));
        let listen = place.run(|| TcpListener::bind("127.0.0.1:0")).unwrap_or_else(|error| panic!("{error}"));
        let listener = listen.unwrap_or_else(|error| panic!("listen: {error}"));
        let state = Mutex::new(Stored { version: 1, ..Stored::default() });
        let shared = Arc::new(Shared { state, events: broadcast::Sender::new(BACKLOG), minor });
        Self::serve(listener, shared)
    }

    fn serve(listener: TcpListener, shared: Arc<Shared>) -> Self {
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new()
            .route("/version", get(version))
            .route("/api/v1/{plural}", get(objects))
            .route("/apis/networking.k8s.io/v1/{plural}", get(objects))
            .route("/api/v1/{plural}/{name}", axum::routing::patch(patch::object))
            .route("/api/v1/{plural}/{name}/status", axum::routing::patch(patch::status))
            .with_state(Arc::clone(&shared));
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap_or_else(|error| panic!("{error}"));
                let listener = tokio::net::TcpListener::from_std(listener).unwrap_or_else(|e| panic!("{e}"));
                tokio::select! {
                    _ = axum::serve(listener, router).into_future() => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends the server and all its connections; another that [`resume`](Stopped::resume)s has its objects and address.
    pub fn stop(mut self) -> Stopped {
        self.end();
        Stopped { address: self.address, shared: Arc::clone(&self.shared) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, file: &Path) {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "double",
            "clusters": [{"name": "double", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "double", "user": {"token": "t0ken"}}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "double"}}],
        });
        std::fs::write(file, text.to_string()).unwrap_or_else(|error| panic!("write {file:?}: {error}"));
    }

    /// Stores an object of the kind that the plural names, and tells who watches.
    pub fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let key = (plural.to_owned(), key(&object));
        let known = state.objects.insert(key, Arc::new(object.clone())).is_some();
        let event = json!({"type": if known { "MODIFIED" } else { "ADDED" }, "object": object});
        self.announce(state, plural, &event);
    }

    /// Stores many that were there before anybody asked.
    pub fn load(&self, plural: &str, objects: impl IntoIterator<Item = Value>) {
        let mut state = self.state();
        for mut object in objects {
            object["metadata"]["resourceVersion"] = "1".into();
            state.objects.insert((plural.to_owned(), key(&object)), Arc::new(object));
        }
    }

    /// An object as it is stored, by its name, with its namespace if it has one: `shop/web-0`.
    pub fn object(&self, plural: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(plural.to_owned(), name.to_owned())).map(|object| Value::clone(object))
    }

    /// Deletes an object by its name, with its namespace if it has one: `shop/web-0`.
    pub fn delete(&self, plural: &str, name: &str) {
        let mut state = self.state();
        state.version += 1;
        let object = state.objects.remove(&(plural.to_owned(), name.to_owned()));
        let mut object = Arc::unwrap_or_clone(object.unwrap_or_else(|| panic!("no {plural} {name}")));
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        self.announce(state, plural, &json!({"type": "DELETED", "object": object}));
    }

    /// Sends a line to whoever watches, whatever it says, and stores nothing.
    pub fn send(&self, plural: &str, line: &str) {
        // Nobody may be watching.
        self.shared
            .events
            .send(Sent { plural: plural.to_owned(), node: None, line: Some(line.to_owned()) })
            .ok();
    }

    /// Ends every watch, as a server does from time to time.
    pub fn end_watches(&self) {
        for (plural, ..) in KINDS {
            self.shared.events.send(Sent { plural: plural.to_owned(), node: None, line: None }).ok();
        }
    }

    /// From now on does these things wrong.
    pub fn fail(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The requests so far, as `PATH?QUERY`.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn announce(&self, mut state: MutexGuard<'_, Stored>, plural: &str, event: &Value) {
        let node = event["object"]["spec"]["nodeName"].as_str().map(str::to_owned);
        let sent = Sent { plural: plural.to_owned(), node, line: Some(event.to_string()) };
        let version = state.version;
        state.history.push((version, sent.clone()));
        // Nobody may be watching.
        self.shared.events.send(sent).ok();
    }

    fn state(&self) -> MutexGuard<'_, Stored> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A server that is away.
#[derive(Debug)]
pub struct Stopped {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Stopped {
    /// Stores an object meanwhile.
    pub fn put(&self, plural: &str, object: Value) {
        let server =
            ApiServer { address: self.address, shared: Arc::clone(&self.shared), stop: None, thread: None };
        server.put(plural, object);
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn resume(self, place: &Namespace) -> ApiServer {
        let listen = place.run(|| TcpListener::bind(self.address)).unwrap_or_else(|error| panic!("{error}"));
        ApiServer::serve(listen.unwrap_or_else(|error| panic!("listen: {error}")), self.shared)
    }
}

fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    let name = text("name").unwrap_or_default();
    match text("namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    }
}

async fn version(State(shared): State<Arc<Shared>>) -> Response {
    json_of(
        &json!({"major": "1", "minor": shared.minor.to_string(), "gitVersion": format!("v1.{}.0", shared.minor),
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
    )
}

type Asked = BTreeMap<String, String>;

async fn objects(
    State(shared): State<Arc<Shared>>,
    Segment(plural): Segment<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let query: Vec<String> = asked.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.requests.push(format!("{plural}?{}", query.join("&")));
    if let Some(code) = state.faults.refuses.and_then(|code| StatusCode::from_u16(code).ok()) {
        return status(code, code.canonical_reason().unwrap_or_default());
    }
    if asked.get("watch").is_some_and(|watch| watch == "true") {
        return watch(&shared, &state, &plural, &asked);
    }
    list(&state, &plural, &asked)
}

fn list(state: &Stored, plural: &str, asked: &Asked) -> Response {
    if state.faults.garbled_lists {
        return "<html>We will be back soon.</html>".into_response();
    }
    let from = asked.get("continue").and_then(|from| from.parse().ok()).unwrap_or(0);
    if from > 0 && state.faults.half_lists {
        return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    }
    let limit = asked.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let all = chosen(state, plural, asked);
    let items: Vec<&Value> = all.iter().skip(from).take(limit).map(|object| &***object).collect();
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    if from + items.len() < all.len() {
        metadata["continue"] = (from + items.len()).to_string().into();
    }
    json_of(&json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

/// The objects of a kind that the field selector chooses: all, or the pods of a node.
fn chosen<'a>(state: &'a Stored, plural: &str, asked: &Asked) -> Vec<&'a Arc<Value>> {
    let node = chosen_node(asked);
    let of_kind = state.objects.iter().filter(|((of, _), _)| of == plural).map(|(_, object)| object);
    of_kind.filter(|object| node.is_none_or(|node| object["spec"]["nodeName"] == node)).collect()
}

fn chosen_node(asked: &Asked) -> Option<&str> {
    asked.get("fieldSelector").and_then(|selector| selector.strip_prefix("spec.nodeName="))
}

fn watch(shared: &Arc<Shared>, state: &Stored, plural: &str, asked: &Asked) -> Response {
    let (mut there, mut first) = (Vec::new(), Vec::new());
    let watched = Watched { plural: plural.to_owned(), node: chosen_node(asked).map(str::to_owned) };
    if asked.get("sendInitialEvents").is_some_and(|send| send == "true") {
        if state.faults.refuses_streams {
            let why = "a watch stream was requested by the client but a required storage feature is disabled";
            first.push(error_event(500, "InternalError", why));
        }
        there = chosen(state, plural, asked).into_iter().cloned().collect();
        first.push(bookmark(plural, state.version, &json!({"k8s.io/initial-events-end": "true"})));
    } else {
        let since: u64 = asked.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        if state.faults.gone {
            first.push(error_event(410, "Expired", &format!("too old resource version: {since}")));
        }
        let missed = state.history.iter().filter(|(at, sent)| *at > since && watched.hears(sent));
        first.extend(missed.filter_map(|(_, sent)| sent.line.clone()));
    }
    let events = shared.events.subscribe();
    // Written out one by one, so that the first is under way while the last is still none.
    let there = there.into_iter().map(|object| format!("{{\"type\":\"ADDED\",\"object\":{object}}}"));
    let first = there.chain(first);
    let stream = unfold((first, events, watched), |(mut first, mut events, watched)| async move {
        loop {
            let line = match first.next() {
                Some(line) => line,
                None => match events.recv().await.ok()? {
                    sent if !watched.hears(&sent) => continue,
                    sent => sent.line?,
                },
            };
            let line = Bytes::from(line + "\n");
            return Some((Ok::<_, Infallible>(line), (first, events, watched)));
        }
    });
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response()
}

fn bookmark(plural: &str, version: u64, annotations: &Value) -> String {
    let known = KINDS.iter().find(|(known, ..)| *known == plural);
    let (_, version_of_kind, kind) = known.unwrap_or_else(|| panic!("{plural} are no objects of ours"));
    let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
    let object = json!({"kind": kind, "apiVersion": version_of_kind, "metadata": metadata});
    json!({"type": "BOOKMARK", "object": object}).to_string()
}

fn error_event(code: u16, reason: &str, message: &str) -> String {
    json!({"type": "ERROR", "object": failure(code, reason, message)}).to_string()
}

fn status(code: StatusCode, reason: &str) -> Response {
    (code, json_of(&failure(code.as_u16(), reason, reason))).into_response()
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code})
}

fn json_of(body: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
