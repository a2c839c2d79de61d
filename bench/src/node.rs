//! A node and its pods, as namespaces made before anything is timed.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_netns::Namespace;
use serde_json::Value;

use crate::STORE;
use crate::call::{Call, Container, Plugin, Verb, container_id};
use crate::error::BenchError;

/// The node's address on its uplink; the segment is 172.30.0.0/16.
pub(crate) const ADDRESS: &str = "172.30.0.11";

/// What gives a node an uplink: a link with an address and a default route.
const UPLINK: &[&str] = &[
    "link set lo up",
    "link add eth0 type veth peer name segment",
    "link set segment up",
    "link set eth0 up",
    "address add 172.30.0.11/16 dev eth0",
    "route add default via 172.30.0.1",
];

/// A node, and the pods that are attached to it and detached again.
#[derive(Debug)]
pub(crate) struct Node {
    namespace: Namespace,
    folder: PathBuf,
    pods: Vec<Container>,
}

/// What a call took, and what it printed.
pub(crate) struct Timed {
    pub(crate) took: Duration,
    pub(crate) output: String,
}

impl Timed {
    /// The document that ADD printed.
    pub(crate) fn result(&self) -> Result<Value, BenchError> {
        serde_json::from_str(&self.output)
            .map_err(|source| BenchError::system("read a plugin's result", source))
    }
}

impl Node {
    /// A node with an uplink and so many pods. Its files are in a folder of its name on tmpfs.
    pub(crate) fn new(name: &str, pods: usize) -> Result<Self, BenchError> {
        let folder = Path::new(STORE).join(name);
        fs::create_dir_all(&folder).map_err(|source| BenchError::file("create", &folder, source))?;
        let namespace = Namespace::create()?;
        namespace.run(|| UPLINK.iter().try_for_each(|arguments| ip(arguments)))??;
        let pods = (0..).take(pods).map(|number| pod(&folder, number)).collect::<Result<_, _>>()?;
        Ok(Self { namespace, folder, pods })
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Where this node's programs keep their files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Calls a plugin for one pod.
    pub(crate) fn call(&self, plugin: &Plugin, verb: Verb<'_>, pod: usize) -> Result<Timed, BenchError> {
        let call = Call::prepare(plugin, verb, &self.pods[pod], &self.folder)?;
        self.namespace.run(|| {
            let began = Instant::now();
            let (ended, output) = call.run()?;
            Ok(Timed { took: ended - began, output })
        })?
    }

    /// Calls a plugin for one pod, and reads its memory when it is about to answer.
    pub(crate) fn peak_memory(
        &self,
        plugin: &Plugin,
        verb: Verb<'_>,
        pod: usize,
    ) -> Result<(u64, Timed), BenchError> {
        let call = Call::prepare(plugin, verb, &self.pods[pod], &self.folder)?;
        self.namespace.run(|| {
            let began = Instant::now();
            let (bytes, output) = call.peak_memory()?;
            Ok((bytes, Timed { took: began.elapsed(), output }))
        })?
    }

    /// Calls a plugin for the first pods, one verb each, all at the same moment, each from a thread of its own. Every
    /// time counts from that moment.
    pub(crate) fn call_at_once<'a>(
        &self,
        plugin: &Plugin,
        verbs: impl IntoIterator<Item = Verb<'a>>,
    ) -> Result<Vec<Timed>, BenchError> {
        let prepare = |(verb, pod)| Call::prepare(plugin, verb, pod, &self.folder);
        let calls = verbs.into_iter().zip(&self.pods).map(prepare).collect::<Result<Vec<_>, _>>()?;
        self.namespace.run(|| at_once(calls))?
    }
}

fn at_once(calls: Vec<Call>) -> Result<Vec<Timed>, BenchError> {
    let gate = Barrier::new(calls.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let gate = &gate;
                scope.spawn(move || {
                    gate.wait();
                    call.run()
                })
            })
            .collect();
        let began = Instant::now();
        gate.wait();
        let ended =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.map(|call| call.map(|(ended, output)| Timed { took: ended - began, output })).collect()
    })
}

fn pod(folder: &Path, number: u64) -> Result<Container, BenchError> {
    let netns = folder.join(format!("netns-{number}"));
    Namespace::create()?.bind(&netns)?;
    Ok(Container { id: container_id(number), netns })
}

/// Runs `ip` in the caller's namespace.
fn ip(arguments: &str) -> Result<(), BenchError> {
    let command = format!("ip {arguments}");
    let status = Command::new("ip").args(arguments.split(' ')).status();
    let status = status.map_err(|source| BenchError::system(format!("run `{command}`"), source))?;
    if status.success() { Ok(()) } else { Err(BenchError::Setup { command, status }) }
}
