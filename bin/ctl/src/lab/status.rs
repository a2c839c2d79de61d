//! `lab status`: the lab that stands.

use std::process::ExitCode;

use selvedge_lab::session::{Session, StateDir};

use super::{Failure, print};

/// The flags of `lab status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the status as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints who is in the lab; exit code 1 if one of its agents has died.
pub(super) fn run(args: &Args, state: &StateDir) -> Result<ExitCode, Failure> {
    let status = Session::connect(state)?.status()?;
    let text = if args.json { serde_json::to_string_pretty(&status)? + "\n" } else { status.to_string() };
    print("the lab's status", &text)?;
    Ok(if status.dead_agents().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
