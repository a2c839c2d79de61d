//! What is heard from the API, put together and handed over.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use futures_util::stream::{BoxStream, select_all};
use futures_util::{StreamExt, TryStreamExt};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use selvedge_model::{Kind, Listing, NodeName};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep_until, timeout};

use crate::kubernetes::Update;
use crate::kubernetes::failure::{code, is_refusal, why};
use crate::kubernetes::heard::Told;
use crate::kubernetes::known::Known;
use crate::kubernetes::object::{ApiNamespace, ApiNode, ApiPod, ApiPolicy, Followed};
use crate::kubernetes::standing::Standing;

/// How long the API must be quiet before what was heard is handed over, unless it was quiet before: then the first
/// word is handed over at once.
const QUIET: Duration = Duration::from_millis(20);

/// How long an API that never gets quiet is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// After what could not be understood all is listed again; the pause before doubles up to the most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_secs(30);

/// How long the server may take to say which it is.
const SOON: Duration = Duration::from_secs(10);

/// How long a list may stand still before it is asked for again: longer than the longest pause between two tries and the
/// time for a connection together, and any server takes to send a page.
const STALLED: Duration = Duration::from_secs(150);

/// The first server that streams lists without being told to (Kubernetes 1.34).
const STREAMS_LISTS: u32 = 34;

/// Something heard of one kind of objects.
enum Heard {
    Node(Event<ApiNode>),
    Pod(Event<ApiPod>),
    Namespace(Event<ApiNamespace>),
    Policy(Event<ApiPolicy>),
}

type Result<T> = std::result::Result<T, (Kind, watcher::Error)>;

/// Follows the API for a node until `deliver` breaks off.
pub(super) async fn follow(
    (client, mut answered): (&Client, UnboundedReceiver<Told>),
    (node, standing): (&NodeName, Sender<Option<Standing>>),
    deliver: impl FnMut(Update) -> ControlFlow<()>,
) {
    let own = (node.as_str(), standing);
    let mut following = Following {
        known: Known::new(node.clone()),
        own,
        lists: Lists::Unknown,
        refused: false,
        listing: BTreeMap::new(),
        lost: BTreeMap::new(),
        credentials: None,
        told: None,
        told_at: Instant::now(),
        deliver,
    };
    let mut pause = AGAIN;
    loop {
        let began = Instant::now();
        let paged = std::mem::take(&mut following.refused);
        following.lists = if paged { Lists::Paged } else { lists(client).await };
        following.listing = Listing::KINDS.map(|kind| (kind, Instant::now())).into();
        let mut events = events(client, following.lists);
        if following.listen(&mut events, &mut answered).await.is_break() {
            return;
        }
        if following.refused {
            continue;
        }
        pause = if began.elapsed() > AGAIN_MOST { AGAIN } else { (pause * 2).min(AGAIN_MOST) };
        tokio::time::sleep(pause).await;
    }
}

/// Everything that the API says of what is followed: listed, then watched, errors retried.
fn events(client: &Client, lists: Lists) -> BoxStream<'static, Result<Heard>> {
    select_all([
        followed(client, lists, (Kind::Node, Heard::Node)),
        followed(client, lists, (Kind::Pod, Heard::Pod)),
        followed(client, lists, (Kind::Namespace, Heard::Namespace)),
        followed(client, lists, (Kind::NetworkPolicy, Heard::Policy)),
    ])
    .boxed()
}

/// The same of one kind.
fn followed<K: Followed>(
    client: &Client,
    lists: Lists,
    (kind, heard): (Kind, fn(Event<K>) -> Heard),
) -> BoxStream<'static, Result<Heard>> {
    let config = match lists {
        Lists::Streamed => watch::Config::default().streaming_lists(),
        Lists::Paged | Lists::Unknown => watch::Config::default(),
    };
    let events = watch(Api::<K>::all(client.clone()), config).backoff(Patient::default());
    events.map_ok(heard).map_err(move |why| (kind, why)).boxed()
}

/// Pauses that grow from 1 to 30 seconds, until none was needed for two minutes. The client would begin anew with every
/// list that it only begins.
#[derive(Default)]
struct Patient(DefaultBackoff);

impl Iterator for Patient {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for Patient {
    fn reset(&mut self) {}
}

/// How a server sends lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// As streams, which are the beginning of a watch.
    Streamed,
    /// By pages.
    Paged,
    /// It has not said which server it is: by pages until it does.
    Unknown,
}

/// Asks the server whether it sends a list as a stream. Older ones take the request for one to watch and never end the
/// list.
async fn lists(client: &Client) -> Lists {
    let version = timeout(SOON, client.apiserver_version()).await;
    match version {
        Ok(Ok(version)) if is_new(&version.major, &version.minor) => Lists::Streamed,
        Ok(Ok(_) | Err(kube::Error::Api(_) | kube::Error::SerdeError(_))) => Lists::Paged,
        Ok(Err(_)) | Err(_) => Lists::Unknown,
    }
}

/// A server that does not tell its version, as some builds don't, is not taken for a new one.
fn is_new(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().ok();
    number(major).zip(number(minor)).is_some_and(|version| version >= (1, STREAMS_LISTS))
}

struct Following<'a, D> {
    known: Known,
    /// Our Node's name, and who wants to know how it stands.
    own: (&'a str, Sender<Option<Standing>>),
    /// How lists are asked for now.
    lists: Lists,
    /// The server refused to stream them: the next time it is asked for pages.
    refused: bool,
    /// The kinds of which a list is on its way, and when something of it came last.
    listing: BTreeMap<Kind, Instant>,
    /// Since when a kind isn't heard of, and why.
    lost: BTreeMap<Kind, (SystemTime, String)>,
    /// Why changed credentials can't be used.
    credentials: Option<String>,
    /// What was handed over last.
    told: Option<Update>,
    /// When anything was looked at to be handed over.
    told_at: Instant,
    deliver: D,
}

impl<D: FnMut(Update) -> ControlFlow<()>> Following<'_, D> {
    /// Listens until something was said that can't be understood, of which only a new listing tells what it was.
    async fn listen(
        &mut self,
        events: &mut BoxStream<'static, Result<Heard>>,
        answered: &mut UnboundedReceiver<Told>,
    ) -> ControlFlow<()> {
        let mut due: Option<(Instant, Instant)> = None;
        loop {
            let heard = tokio::select! {
                event = events.next() => match event {
                    Some(event) => {
                        // What was answered before an error is older than it.
                        while let Ok(told) = answered.try_recv() {
                            self.answered(told);
                        }
                        self.hear(event)
                    }
                    None => return ControlFlow::Continue(()),
                },
                Some(told) = answered.recv() => {
                    self.answered(told);
                    Understood::Yes
                }
                () = at(self.listing.values().min().map(|last| *last + STALLED)) => {
                    self.stalled();
                    Understood::No
                }
                () = at(due.map(|(quiet, _)| quiet)) => {
                    due = None;
                    self.tell()?;
                    continue;
                }
            };
            if heard == Understood::No {
                return self.tell();
            }
            let now = Instant::now();
            if due.is_none() && now >= self.told_at + QUIET {
                self.tell()?;
                continue;
            }
            let patience = due.map_or(now + PATIENCE, |(_, patience)| patience);
            due = Some(((now + QUIET).min(patience), patience));
        }
    }

    fn answered(&mut self, told: Told) {
        match told {
            Told::Watched(kind) => drop(self.lost.remove(&kind)),
            Told::Credentials(problem) => self.credentials = problem,
        }
    }

    fn hear(&mut self, event: Result<Heard>) -> Understood {
        match event {
            Ok(Heard::Node(event)) => {
                self.stand(&event);
                self.listed(Kind::Node, &event);
                self.known.node(event);
            }
            Ok(Heard::Pod(event)) => {
                self.listed(Kind::Pod, &event);
                self.known.pod(event);
            }
            Ok(Heard::Namespace(event)) => {
                self.listed(Kind::Namespace, &event);
                self.known.namespace(event);
            }
            Ok(Heard::Policy(event)) => {
                self.listed(Kind::NetworkPolicy, &event);
                self.known.policy(event);
            }
            Err((kind, error)) if self.streams(kind) && is_refusal(&error) => {
                self.refused = true;
                return Understood::No;
            }
            Err((kind, error)) => return self.fail(kind, &error),
        }
        Understood::Yes
    }

    /// True while a list of that kind is on its way, as a stream.
    fn streams(&self, kind: Kind) -> bool {
        self.lists == Lists::Streamed && self.listing.contains_key(&kind)
    }

    fn fail(&mut self, kind: Kind, error: &watcher::Error) -> Understood {
        self.lose(kind, why(error));
        if let Some(last) = self.listing.get_mut(&kind) {
            *last = Instant::now();
        }
        let understood = match error {
            // What is too old is listed anew by a server that is well: there is nothing to wait for.
            _ if code(error) == Some(410) => false,
            // A line that is neither an event nor an error comes as an error without a word.
            watcher::Error::WatchFailed(kube::Error::SerdeError(_) | kube::Error::Api(_)) => false,
            // Which server it is can be asked again.
            _ => self.lists != Lists::Unknown,
        };
        if understood { Understood::Yes } else { Understood::No }
    }

    fn lose(&mut self, kind: Kind, why: String) {
        let lost = self.lost.entry(kind).or_insert_with(|| (SystemTime::now(), String::new()));
        lost.1 = why;
    }

    /// Gives up the lists of which nothing has come for long.
    fn stalled(&mut self) {
        let late = self.listing.iter().filter(|(_, last)| last.elapsed() >= STALLED);
        let late: Vec<Kind> = late.map(|(kind, _)| *kind).collect();
        late.into_iter().for_each(|kind| {
            self.lose(kind, format!("list: nothing more has come for {} s", STALLED.as_secs()));
        });
    }

    /// A kind that was listed to the end is heard of again.
    fn listed<K>(&mut self, kind: Kind, event: &Event<K>) {
        match event {
            Event::Init | Event::InitApply(_) => drop(self.listing.insert(kind, Instant::now())),
            Event::InitDone => {
                self.listing.remove(&kind);
                self.lost.remove(&kind);
            }
            Event::Apply(_) | Event::Delete(_) => {}
        }
    }

    /// Tells how our Node stands, if the event is about it.
    fn stand(&self, event: &Event<ApiNode>) {
        let (name, told) = &self.own;
        let now = match event {
            Event::Apply(node) | Event::InitApply(node) if node.is_named(name) => Some(node.standing()),
            Event::Delete(node) if node.is_named(name) => None,
            Event::Apply(_) | Event::InitApply(_) | Event::Delete(_) | Event::Init | Event::InitDone => {
                return;
            }
        };
        told.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }

    /// Hands over how things stand, if it is not what was handed over last.
    fn tell(&mut self) -> ControlFlow<()> {
        self.told_at = Instant::now();
        let complete = self.known.complete();
        let lost = self.lost.iter();
        let lost = lost.map(|(kind, (_, why))| format!("Kubernetes API, {}: {why}", plural(*kind)));
        let mut problems: Vec<String> = lost.collect();
        problems.extend(self.credentials.iter().map(|why| {
            format!(
                "Kubernetes API: the changed credentials can't be used, the earlier ones stay in use: {why}"
            )
        }));
        let (cluster, whole) = match complete {
            Some(complete) => {
                problems.extend(complete.problems);
                (Some(complete.cluster), complete.whole)
            }
            None => (None, false),
        };
        let lost = self.lost.values().map(|(since, _)| *since).min();
        let update = Update { cluster, whole, problems, lost };
        if self.told.as_ref() == Some(&update) {
            return ControlFlow::Continue(());
        }
        self.told = Some(update.clone());
        (self.deliver)(update)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Understood {
    Yes,
    No,
}

/// A kind's objects, as they are called.
fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Node => "Nodes",
        Kind::Pod => "Pods",
        Kind::Namespace => "Namespaces",
        Kind::NetworkPolicy => "NetworkPolicies",
    }
}

/// Waits for a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
