//! `selvedgectl check --connectivity`: two pods on each node of a cluster, every path between them tried, and all of it
//! taken away again.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{process, thread};

use clap::Args;
use selvedge_model::chain;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::kubectl::{AgentPod, ClusterArgs, Kubectl, KubectlError, each, items};
use crate::print;
use crate::probe::{self, Outcome};

mod paths;

use paths::{Paths, Place, Target};

/// How long pods may take to start.
const START: Duration = Duration::from_secs(120);

/// Pods on each node.
const PODS: usize = 2;

/// Try every path of a cluster between pods and nodes
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Makes a namespace with two pods on each node, and deletes it at the end and when it is \
                        interrupted. Exits with 0 if every path is as expected, with 1 if one is not, and with 2 if \
                        they could not be tried."
)]
pub(crate) struct CheckArgs {
    /// Pods of its own on each node connect to each other, to all nodes and to themselves
    #[arg(long, required = true)]
    connectivity: bool,
    /// An address and port outside of the cluster that pods connect to as well
    #[arg(long, value_name = "ADDR")]
    outside: Option<std::net::SocketAddr>,
    /// Print every path, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Why the paths could not be tried.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error("no pod of the agent is there in this namespace; is Selvedge installed elsewhere (--namespace)?")]
    NoAgents,
    #[error("{pod} on {node} has no network after {} s: {why}", START.as_secs())]
    NotStarted { pod: String, node: String, why: String },
    #[error("interrupted")]
    Interrupted,
    #[error("handle signals")]
    Signals(#[source] io::Error),
}

/// Tries every path, and prints what became of each.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let Some(kubectl) = args.cluster.cluster(true) else { return ExitCode::from(2) };
    match tried(&kubectl, args) {
        Ok(paths) => {
            print(&mut io::stdout().lock(), &if args.json { paths.json() } else { paths.table() });
            if paths.faults() == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            print(&mut io::stderr().lock(), &format!("selvedgectl: {}\n", chain(&error)));
            ExitCode::from(2)
        }
    }
}

fn tried(kubectl: &Kubectl, args: &CheckArgs) -> Result<Paths, CheckError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(CheckError::Signals)?;
    }
    let agents = kubectl.agents()?;
    let image = agents.iter().find_map(|agent| agent.image.clone()).ok_or(CheckError::NoAgents)?;
    let nodes = kubectl.json(&["get", "nodes", "--output=json"])?;
    let stage = Stage::make(kubectl)?;
    let pods = stage.start(&agents, &image, &interrupted)?;
    let mut places: Vec<Place> = pods;
    for agent in agents {
        let node = items(&nodes).find(|node| node["metadata"]["name"] == agent.node.as_str());
        places.push(Place::node(agent, node.unwrap_or(&Value::Null)));
    }
    let answers = each(&places, |place| {
        let targets = place.targets(&places, args.outside);
        // Once it is interrupted the rest isn't worth asking.
        let outcomes = match interrupted.load(Ordering::Relaxed) {
            true => Vec::new(),
            false => asked(if place.is_pod() { &stage.kubectl } else { kubectl }, place, &targets),
        };
        (targets, outcomes)
    });
    if interrupted.load(Ordering::Relaxed) {
        return Err(CheckError::Interrupted);
    }
    Ok(Paths::of(&places, answers))
}

/// What a place is answered. If it can't be asked, that is what became of each of its paths.
fn asked(kubectl: &Kubectl, place: &Place, targets: &[Target]) -> Vec<Outcome> {
    if targets.is_empty() {
        return Vec::new();
    }
    let addresses: Vec<String> = targets.iter().map(|target| target.address.to_string()).collect();
    let words: Vec<&str> = ["probe", "ask"].into_iter().chain(addresses.iter().map(String::as_str)).collect();
    let container = if place.is_pod() { "probe" } else { "agent" };
    let kubectl = kubectl.with_patience(probe::patience(targets.len()));
    let told = kubectl.in_container(&place.pod, container, &words).map_err(|error| chain(&error));
    let told = told.and_then(|told| {
        serde_json::from_value::<Vec<(String, Outcome)>>(told).map_err(|error| format!("its answer: {error}"))
    });
    match told {
        Ok(told) => told.into_iter().map(|(_, outcome)| outcome).collect(),
        Err(why) => targets.iter().map(|_| Outcome::Failed(why.clone())).collect(),
    }
}

/// A namespace of the check's own. Dropped, it is deleted with all that is in it.
struct Stage {
    kubectl: Kubectl,
    name: String,
}

impl Stage {
    fn make(kubectl: &Kubectl) -> Result<Self, CheckError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("selvedge-check-{:x}-{:x}", now.as_secs(), process::id());
        let stage = Self { kubectl: kubectl.elsewhere(&name), name };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stage.name}});
        stage.kubectl.create(&namespace)?;
        Ok(stage)
    }

    /// Starts the pods, and waits until each has its addresses.
    fn start(
        &self,
        agents: &[AgentPod],
        image: &str,
        interrupted: &AtomicBool,
    ) -> Result<Vec<Place>, CheckError> {
        let until = Instant::now() + START;
        let pods: Vec<Value> =
            agents.iter().flat_map(|agent| (0..PODS).map(move |at| pod(&agent.node, at, image))).collect();
        // A namespace takes pods once its service account is there.
        while let Err(error) =
            self.kubectl.create(&json!({"apiVersion": "v1", "kind": "List", "items": pods}))
        {
            if Instant::now() > until || !error.to_string().contains("serviceaccount") {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(200));
        }
        loop {
            if interrupted.load(Ordering::Relaxed) {
                return Err(CheckError::Interrupted);
            }
            let listed = self.kubectl.json(&["get", "pods", "--output=json"])?;
            let waiting = items(&listed).find(|pod| !is_running(pod));
            let Some(waiting) = waiting.filter(|_| items(&listed).count() > 0) else {
                return Ok(items(&listed).map(Place::pod).collect());
            };
            if Instant::now() > until {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let state = &waiting["status"]["containerStatuses"][0]["state"]["waiting"];
                return Err(CheckError::NotStarted {
                    pod: text(&waiting["metadata"]["name"]),
                    node: text(&waiting["spec"]["nodeName"]),
                    why: format!("{} {}", text(&state["reason"]), text(&state["message"])).trim().to_owned(),
                });
            }
            thread::sleep(Duration::from_millis(500));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.kubectl.delete("namespace", &self.name) {
            let said =
                format!("selvedgectl: {}\ntry: kubectl delete namespace {}\n", chain(&error), self.name);
            print(&mut io::stderr().lock(), &said);
        }
    }
}

fn is_running(pod: &Value) -> bool {
    let ready = |status: &Value| status["ready"] == true;
    let has_address = pod["status"]["podIPs"].as_array().is_some_and(|ips| !ips.is_empty());
    has_address && pod["status"]["containerStatuses"].as_array().is_some_and(|all| all.iter().all(ready))
}

/// A pod that answers, with no right to anything.
fn pod(node: &str, at: usize, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("probe-{node}-{at}"), "labels": {"app.kubernetes.io/name": "selvedge-check"}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": [crate::kubectl::CTL, "probe", "answer"],
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                },
            }],
        },
    })
}
