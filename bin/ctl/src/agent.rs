//! The agent of this node, asked at its socket.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::iter;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Its socket in its run directory.
const SOCKET: &str = "agent.sock";

/// How long it may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no agent answers at {path:?}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("ask the agent at {path:?}")]
    Exchange { path: PathBuf, source: io::Error },
    #[error("the agent at {path:?} answers what is not understood; it may be of another version")]
    Answer { path: PathBuf, source: serde_json::Error },
    #[error("the agent at {path:?}: {said}")]
    Refused { path: PathBuf, said: String },
}

impl AskError {
    /// The error, its causes and what to do, for a terminal.
    pub(crate) fn told(&self, run_dir: &Path) -> String {
        let causes = iter::successors(Some(self as &dyn Error), |error| (*error).source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        let denied = |source: &io::Error| source.kind() == ErrorKind::PermissionDenied;
        let advice = match self {
            Self::Connect { source, .. } if denied(source) => "try: as root\n".to_owned(),
            Self::Connect { .. } => format!(
                "try: start it with `selvedge-agent --node NAME --manifests DIR --run-dir {}`, or say with --run-dir \
                 where the agent runs; of a whole cluster, --cluster\n",
                run_dir.display()
            ),
            Self::Exchange { .. } | Self::Answer { .. } | Self::Refused { .. } => String::new(),
        };
        format!("selvedgectl: {}\n{advice}", causes.join(": "))
    }
}

/// What the agent with this run directory answers to a request.
pub(crate) fn ask(run_dir: &Path, request: &Value) -> Result<Value, AskError> {
    ask_within(run_dir, request, PATIENCE)
}

/// The same where the agent may take so long to answer.
pub(crate) fn ask_within(run_dir: &Path, request: &Value, patience: Duration) -> Result<Value, AskError> {
    let path = || run_dir.join(SOCKET);
    let stream = UnixStream::connect(path()).map_err(|source| AskError::Connect { path: path(), source })?;
    let answer =
        exchange(&stream, request, patience).map_err(|source| AskError::Exchange { path: path(), source })?;
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|source| AskError::Answer { path: path(), source })?;
    match answer.get("error").and_then(Value::as_str) {
        Some(said) => Err(AskError::Refused { path: path(), said: said.to_owned() }),
        None => Ok(answer),
    }
}

/// Reads an answer as what it is to be.
pub(crate) fn read<T: DeserializeOwned>(run_dir: &Path, answer: &Value) -> Result<T, AskError> {
    T::deserialize(answer).map_err(|source| AskError::Answer { path: run_dir.join(SOCKET), source })
}

fn exchange(mut stream: &UnixStream, request: &Value, patience: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
