//! `selvedgectl status`: what the agent of this node, or every agent of a cluster, says of itself.

use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use selvedge_reconcile::status::{State, Status};
use serde_json::{Value, json};

mod cluster;
mod screen;

use screen::{Paint, Screen};

pub(crate) use screen::printable;

use crate::agent::AskError;
use crate::kubectl::ClusterArgs;
use crate::{agent, print};

/// Nothing is amiss.
const READY: u8 = 0;

/// The agent says that something is amiss.
const AMISS: u8 = 1;

/// The agent can't be asked.
pub(crate) const SILENT: u8 = 2;

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
    match ask(run_dir) {
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

/// The agent's status, and all that it answered.
fn ask(run_dir: &Path) -> Result<(Status, Value), AskError> {
    let whole = agent::ask(run_dir, &json!({"get": "status"}))?;
    Ok((agent::read(run_dir, &whole)?, whole))
}

fn on_screen(status: &Status) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !io::stdout().is_terminal();
    let paint = if plain { Paint::Plain } else { Paint::Coloured };
    Screen::of(status, now, paint)
}

#[cfg(test)]
mod tests;
