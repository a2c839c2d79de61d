//! `selvedgectl status`: what the agent of this node, or every agent of a cluster, says of itself.

use std::io::{self, ErrorKind, IsTerminal, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, error::Error, iter};

use clap::Args;
use selvedge_reconcile::status::{State, Status};
use serde::Deserialize;
use serde_json::Value;

mod cluster;
mod screen;

use screen::{Paint, Screen};

pub(crate) use screen::printable;

use crate::kubectl::ClusterArgs;
use crate::print;

/// The agent's socket in its run directory.
const SOCKET: &str = "agent.sock";

/// How long the agent may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nothing is amiss.
const READY: u8 = 0;

/// The agent says that something is amiss.
const AMISS: u8 = 1;

/// The agent can't be asked.
const SILENT: u8 = 2;

const EXIT_CODES: &str = "Exits with 0 if the node (or every node) is ready, with 1 if one is waiting, degraded or \
                          failed, and with 2 if no agent can be asked.";

/// Show what the agent wants of this node, what it did last and what it had to repair
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct StatusArgs {
    /// Print everything, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Asks the agent whose run directory this is and prints its answer, or on stderr why there is none.
pub(crate) fn run(run_dir: &Path, args: &StatusArgs, cluster_by_default: bool) -> ExitCode {
    if let Some(kubectl) = args.cluster.cluster(cluster_by_default) {
        return cluster::run(&kubectl, args.json);
    }
    match ask(&run_dir.join(SOCKET)) {
        Ok((status, whole)) => {
            let text = if args.json { format!("{whole:#}\n") } else { on_screen(&status) };
            print(&mut io::stdout().lock(), &text);
            ExitCode::from(if status.state == State::Ready { READY } else { AMISS })
        }
        Err(error) => {
            print(&mut io::stderr().lock(), &error.told(run_dir));
            ExitCode::from(SILENT)
        }
    }
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("no agent answers at {path:?}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("ask the agent at {path:?}")]
    Exchange { path: PathBuf, source: io::Error },
    #[error("the agent at {path:?} answers what is no status; it may be of another version")]
    Answer { path: PathBuf, source: serde_json::Error },
}

impl AskError {
    /// The error, its causes and what to do, for a terminal.
    fn told(&self, run_dir: &Path) -> String {
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
            Self::Exchange { .. } | Self::Answer { .. } => String::new(),
        };
        format!("selvedgectl: {}\n{advice}", causes.join(": "))
    }
}

/// The agent's status, and all that it answered.
fn ask(socket: &Path) -> Result<(Status, Value), AskError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).map_err(|source| AskError::Connect { path: path(), source })?;
    let answer = exchange(&stream).map_err(|source| AskError::Exchange { path: path(), source })?;
    let unlike = |source| AskError::Answer { path: path(), source };
    let whole: Value = serde_json::from_slice(&answer).map_err(unlike)?;
    let status = Status::deserialize(&whole).map_err(unlike)?;
    Ok((status, whole))
}

fn exchange(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"{\"get\":\"status\"}\n")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn on_screen(status: &Status) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !io::stdout().is_terminal();
    let paint = if plain { Paint::Plain } else { Paint::Coloured };
    Screen::of(status, now, paint)
}

#[cfg(test)]
mod tests;
