//! `lab down`: the end of the lab that stands.

use std::process::ExitCode;

use selvedge_lab::session::{Session, StateDir};

use super::{Failure, print};

/// Takes the lab down and waits until it is gone; a failure if the pods left anything on their nodes.
pub(super) fn run(state: &StateDir) -> Result<ExitCode, Failure> {
    let left = Session::connect(state)?.down()?;
    if !left.is_empty() {
        return Err(format!(
            "the lab is gone, but its pods were not taken down cleanly:\n{}",
            left.join("\n")
        )
        .into());
    }
    print("that the lab is down", "lab: down\n")?;
    Ok(ExitCode::SUCCESS)
}
