//! A cluster, through the kubectl that its user has: it authenticates as the user does, and reaches the agents by
//! executing this same program in their pods.

use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

/// How long one call of kubectl may take, beside what is done in a pod.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How many calls there are at a time.
pub(crate) const AT_ONCE: usize = 8;

/// Where it is installed unless somebody says otherwise.
const NAMESPACE: &str = "kube-system";

/// This program in the image.
pub(crate) const CTL: &str = "/opt/selvedge/bin/selvedgectl";

/// Which cluster is asked, if any.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "A whole cluster, through kubectl")]
pub(crate) struct ClusterArgs {
    /// Ask every node of the cluster; as `kubectl selvedge` that is the default
    #[arg(long)]
    cluster: bool,
    /// The kubeconfig's context, in place of the current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig file
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The namespace that Selvedge is installed in [default: kube-system]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
}

impl ClusterArgs {
    /// The cluster that is meant, if it isn't the node.
    pub(crate) fn cluster(&self, by_default: bool) -> Option<Kubectl> {
        let of_a_cluster = [&self.context, &self.namespace].into_iter().any(Option::is_some);
        let named = self.cluster || of_a_cluster || self.kubeconfig.is_some();
        (named || by_default).then(|| {
            let mut flags = Vec::new();
            if let Some(file) = &self.kubeconfig {
                flags.extend([OsString::from("--kubeconfig"), file.into()]);
            }
            if let Some(context) = &self.context {
                flags.extend(["--context".into(), context.into()]);
            }
            let namespace = self.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
            Kubectl { flags, namespace, patience: PATIENCE }
        })
    }
}

/// kubectl, as it is called for one cluster.
#[derive(Debug)]
pub(crate) struct Kubectl {
    flags: Vec<OsString>,
    namespace: String,
    patience: Duration,
}

/// kubectl gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubectlError {
    /// It can't be started.
    #[error("start kubectl, which has to be in the PATH")]
    Start {
        /// The cause.
        source: io::Error,
    },
    /// It took too long.
    #[error("kubectl {what} has not ended within {} s", patience.as_secs())]
    Silent {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// It failed.
    #[error("kubectl {what}: {said}")]
    Failed {
        /// What was asked.
        what: String,
        /// Its last words.
        said: String,
    },
    /// It answered something else than was asked for.
    #[error("kubectl {what} answers what can't be read")]
    Unlike {
        /// What was asked.
        what: String,
        /// The cause.
        source: serde_json::Error,
    },
}

/// What one call of kubectl left.
#[derive(Debug)]
struct Ran {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// A pod that the agent of a node runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentPod {
    /// The pod's name.
    pub(crate) name: String,
    /// The node's name.
    pub(crate) node: String,
    /// The image it was made of.
    pub(crate) image: Option<String>,
}

impl Kubectl {
    /// What kubectl answers as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value, KubectlError> {
        let ran = self.run(arguments)?;
        if !ran.status.success() {
            return Err(failed(arguments, &ran));
        }
        serde_json::from_slice(&ran.stdout)
            .map_err(|source| KubectlError::Unlike { what: what(arguments), source })
    }

    /// The agents' pods, in the order of their nodes' names.
    pub(crate) fn agents(&self) -> Result<Vec<AgentPod>, KubectlError> {
        let listed =
            self.json(&["get", "pods", "--selector=app.kubernetes.io/name=selvedge", "--output=json"])?;
        let mut agents: Vec<AgentPod> = items(&listed).filter_map(agent).collect();
        agents.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(agents)
    }

    /// The JSON that this program prints in an agent's pod; its exit code says nothing of whether it could be asked.
    pub(crate) fn in_agent(&self, pod: &AgentPod, arguments: &[&str]) -> Result<Value, KubectlError> {
        self.in_container(&pod.name, "agent", arguments)
    }

    /// The same in any container that has it.
    pub(crate) fn in_container(
        &self,
        pod: &str,
        container: &str,
        arguments: &[&str],
    ) -> Result<Value, KubectlError> {
        let place = ["exec", pod, "--container", container, "--", CTL];
        let arguments = [&place, arguments].concat();
        read(&arguments, &self.run(&arguments)?)
    }

    /// The same in an agent's pod, with something to read.
    pub(crate) fn in_agent_fed(
        &self,
        pod: &AgentPod,
        arguments: &[&str],
        input: String,
    ) -> Result<Value, KubectlError> {
        let place = ["exec", &pod.name, "--stdin", "--container", "agent", "--", CTL];
        let arguments = [&place, arguments].concat();
        read(&arguments, &self.fed(&arguments, input)?)
    }

    /// The same cluster in another namespace.
    pub(crate) fn elsewhere(&self, namespace: &str) -> Self {
        Self { flags: self.flags.clone(), namespace: namespace.to_owned(), patience: self.patience }
    }

    /// The same cluster, where what is done takes so long.
    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.elsewhere(&self.namespace) }
    }

    /// Makes objects, or leaves those that are there as they are wanted.
    pub(crate) fn create(&self, object: &Value) -> Result<(), KubectlError> {
        self.must(&["apply", "--filename=-"], object.to_string())
    }

    /// Has an object deleted, without waiting for its end.
    pub(crate) fn delete(&self, kind: &str, name: &str) -> Result<(), KubectlError> {
        self.must(&["delete", kind, name, "--wait=false"], String::new())
    }

    fn must(&self, arguments: &[&str], input: String) -> Result<(), KubectlError> {
        let ran = self.fed(arguments, input)?;
        if ran.status.success() { Ok(()) } else { Err(failed(arguments, &ran)) }
    }

    fn run(&self, arguments: &[&str]) -> Result<Ran, KubectlError> {
        self.fed(arguments, String::new())
    }

    fn fed(&self, arguments: &[&str], input: String) -> Result<Ran, KubectlError> {
        let mut command = Command::new("kubectl");
        command.args(&self.flags).args(["--namespace", &self.namespace]).args(arguments);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|source| KubectlError::Start { source })?;
        if let Some(mut stdin) = child.stdin.take() {
            // What doesn't read it fails in its own words.
            thread::spawn(move || stdin.write_all(input.as_bytes()));
        }
        let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let status = wait(&mut child, Instant::now() + self.patience);
        let status =
            status.ok_or_else(|| KubectlError::Silent { what: what(arguments), patience: self.patience })?;
        Ok(Ran {
            status,
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        })
    }
}

/// What was printed as JSON, whatever the exit code.
fn read(arguments: &[&str], ran: &Ran) -> Result<Value, KubectlError> {
    match serde_json::from_slice(&ran.stdout) {
        Ok(answer) => Ok(answer),
        Err(_) if !ran.status.success() => Err(failed(arguments, ran)),
        Err(source) => Err(KubectlError::Unlike { what: what(arguments), source }),
    }
}

/// Does something for each, a few at a time, and gives what came of it in the order of the items.
pub(crate) fn each<I: Sync, T: Send>(items: &[I], of: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(|| {
                while let Some((at, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
                {
                    let result = of(item);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The objects of a list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn agent(pod: &Value) -> Option<AgentPod> {
    let name = pod["metadata"]["name"].as_str()?.to_owned();
    let image = pod["spec"]["containers"][0]["image"].as_str().map(str::to_owned);
    Some(AgentPod { name, node: pod["spec"]["nodeName"].as_str()?.to_owned(), image })
}

fn what(arguments: &[&str]) -> String {
    arguments.join(" ")
}

fn failed(arguments: &[&str], ran: &Ran) -> KubectlError {
    let said = String::from_utf8_lossy(&ran.stderr);
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let said = last.map_or_else(|| ran.status.to_string(), str::to_owned);
    KubectlError::Failed { what: what(arguments), said }
}

/// Reads to the end, so that the program is never kept waiting.
fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        bytes
    })
}

/// Waits for the end, and kills what has none in time.
fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                child.kill().ok();
                child.wait().ok();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_done_for_each_comes_back_in_order() {
        let numbers: Vec<u32> = (0..100).collect();
        assert_eq!(each(&numbers, |n| n * 2), numbers.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert!(each(&[] as &[u32], |n| *n).is_empty());
    }

    #[test]
    fn a_pod_that_has_no_node_yet_is_no_agent() {
        let placed = json!({"metadata": {"name": "selvedge-x"}, "spec": {"nodeName": "node-a"}});
        let placed = agent(&placed).map(|pod| (pod.name, pod.node));
        assert_eq!(placed, Some(("selvedge-x".to_owned(), "node-a".to_owned())));
        assert_eq!(agent(&json!({"metadata": {"name": "selvedge-y"}, "spec": {}})), None);
    }
}
