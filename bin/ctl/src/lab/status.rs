//! `lab status`: the lab that stands.

use std::process::ExitCode;

use selvedge_lab::session::{Session, StateDir};

use super::{Failure, print};

/// Prints who is in the lab; exit code 1 if one of its agents has died.
pub(super) fn run(state: &StateDir) -> Result<ExitCode, Failure> {
    let status = Session::connect(state)?.status()?;
    print("the lab's status", &status.to_string())?;
    Ok(if status.dead_agents().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
