//! The node agents: one real `selvedge-agent` in each node's namespace.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_model::NodeName;
use selvedge_netns::{Namespace, NetnsError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::patience::patience;

mod words;

/// The files of one node, all below one directory.
#[derive(Debug, Clone)]
pub(crate) struct NodeDirs {
    /// The directory.
    pub root: PathBuf,
}

impl NodeDirs {
    /// Where the agent writes the conflist.
    pub(crate) fn conf(&self) -> PathBuf {
        self.root.join("net.d")
    }

    /// Where the plugins are.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The agent's run directory, with its socket.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// What the agent printed.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    fn make(&self, plugins: &Path) -> io::Result<()> {
        for directory in [self.conf(), self.bin(), self.run()] {
            fs::create_dir_all(directory)?;
        }
        std::os::unix::fs::symlink(plugins.join("selvedge"), self.bin().join("selvedge"))
    }
}

/// What all agents of a lab are started with.
pub(crate) struct AgentFiles<'a> {
    /// Where the binaries are.
    pub bin_dir: &'a Path,
    /// The directory of manifests.
    pub manifests: &'a Path,
    /// The configuration file.
    pub config: &'a Path,
}

/// A running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    node: NodeName,
    dirs: NodeDirs,
    child: Child,
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    /// It runs.
    Running,
    /// It has ended.
    Dead {
        /// How: its exit status in words.
        status: String,
        /// The last lines that it printed.
        log: String,
    },
}

/// Why an agent is not at work.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its directories could not be made.
    #[error("make the directories of {node} below {path:?}")]
    Directories {
        /// The node.
        node: NodeName,
        /// The node's directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its namespace could not be entered.
    #[error("start the agent of {node}")]
    Namespace {
        /// The node.
        node: NodeName,
        /// Why.
        source: NetnsError,
    },
    /// The program could not be started.
    #[error("start {program:?} on {node} (--bin-dir says where the binaries are; `cargo build` makes them)")]
    Start {
        /// The node.
        node: NodeName,
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it had written its conflist.
    #[error("the agent of {node} ended ({status}) before it wrote a conflist; its last lines:\n{log}")]
    Ended {
        /// The node.
        node: NodeName,
        /// Its exit status in words.
        status: String,
        /// The last lines that it printed.
        log: String,
    },
    /// It runs, but something isn't there.
    #[error("the agent of {node} {failing} in {seconds} s; its last lines:\n{log}")]
    Late {
        /// The node.
        node: NodeName,
        /// What it didn't do.
        failing: &'static str,
        /// How long it was waited for.
        seconds: u64,
        /// The last lines that it printed.
        log: String,
    },
}

/// How long an agent may take to write its conflist.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it may take to say how it is, where only a person waits for that.
const ANSWER: Duration = Duration::from_secs(2);

impl Agent {
    /// Starts the agent of a node inside its namespace. It ends with the lab: its PID namespace does.
    pub(crate) fn start(
        node: &NodeName,
        namespace: &Namespace,
        dirs: NodeDirs,
        files: &AgentFiles<'_>,
    ) -> Result<Self, AgentError> {
        let dirs_failed =
            |source| AgentError::Directories { node: node.clone(), path: dirs.root.clone(), source };
        dirs.make(files.bin_dir).map_err(dirs_failed)?;
        let log = File::create(dirs.log()).map_err(dirs_failed)?;
        let errors = log.try_clone().map_err(dirs_failed)?;
        let program = files.bin_dir.join("selvedge-agent");
        let mut command = Command::new(&program);
        command
            .args(["--node", node.as_str()])
            .arg("--manifests")
            .arg(files.manifests)
            .arg("--config")
            .arg(files.config)
            .arg("--cni-conf-dir")
            .arg(dirs.conf())
            .arg("--cni-bin-dir")
            .arg(dirs.bin())
            .arg("--run-dir")
            .arg(dirs.run())
            .args(["--listen", LISTEN])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let spawned = namespace.run(|| command.spawn());
        let spawned = spawned.map_err(|source| AgentError::Namespace { node: node.clone(), source })?;
        let child = spawned.map_err(|source| AgentError::Start { node: node.clone(), program, source })?;
        Ok(Self { node: node.clone(), dirs, child })
    }

    /// Waits for the conflist and says where it is.
    pub(crate) fn await_conflist(&mut self) -> Result<PathBuf, AgentError> {
        let conf = self.dirs.conf();
        self.wait("wrote no conflist", || conflist_in(&conf))
    }

    /// Waits until everything is as it should be.
    pub(crate) fn await_ready(&mut self) -> Result<(), AgentError> {
        let socket = self.dirs.run().join("agent.sock");
        self.wait("was not ready", || is_ready(&socket).then_some(()))
    }

    /// What it says is amiss.
    pub(crate) fn words(&self) -> Vec<String> {
        words::told(&self.node, &ask(&self.dirs.run().join("agent.sock"), ANSWER))
    }

    /// Looks until something is there, while the agent runs; what it didn't do is told where that takes too long.
    fn wait<T>(&mut self, failing: &'static str, look: impl Fn() -> Option<T>) -> Result<T, AgentError> {
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            let node = self.node.clone();
            if let AgentState::Dead { status, log } = self.state() {
                return Err(AgentError::Ended { node, status, log });
            }
            if Instant::now() > deadline {
                let log = tail(&self.dirs.log());
                return Err(AgentError::Late { node, failing, seconds: patience(PATIENCE).as_secs(), log });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub(crate) fn state(&mut self) -> AgentState {
        match self.child.try_wait() {
            Ok(None) => AgentState::Running,
            Ok(Some(status)) => AgentState::Dead { status: status.to_string(), log: tail(&self.dirs.log()) },
            Err(error) => AgentState::Dead { status: error.to_string(), log: tail(&self.dirs.log()) },
        }
    }

    /// The files of its node.
    pub(crate) fn dirs(&self) -> &NodeDirs {
        &self.dirs
    }
}

/// Where each agent serves its health and metrics, in its own namespace.
const LISTEN: &str = "127.0.0.1:9763";

fn conflist_in(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|e| e == "conflist")).min()
}

/// True if the agent at that socket says of its node that everything is as it should be.
fn is_ready(socket: &Path) -> bool {
    ask(socket, PATIENCE).is_ok_and(|status| status["state"] == "ready")
}

/// The status that the agent at that socket tells, if it does in such a time.
fn ask(socket: &Path, within: Duration) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience(within)))?;
    stream.write_all(b"{\"get\":\"status\"}\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(15);
    lines
        .get(from..)
        .unwrap_or_default()
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
