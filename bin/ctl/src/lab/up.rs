//! `lab up`: a lab that stands until `lab down`.

use std::process::ExitCode;

use selvedge_lab::session::{Session, StateDir};

use super::Build;
use super::screen::Progress;
use super::{Failure, print};

/// Builds a lab and says what can be done with it.
pub(super) fn run(build: &Build, state: &StateDir) -> Result<ExitCode, Failure> {
    build.warn();
    let progress = Progress::new();
    let status = Session::up(build.recipe()?, state, |doing| progress.show(doing))?;
    drop(progress);
    let place = status.pods.first().map_or_else(|| "router".to_owned(), |pod| pod.pod.name.clone());
    let next = format!("try: selvedgectl lab matrix | lab status | lab exec {place} -- COMMAND | lab down\n");
    print("the lab's status", &format!("{status}{next}"))?;
    Ok(ExitCode::SUCCESS)
}
