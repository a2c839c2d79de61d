//! `lab matrix`: every path of the lab that stands.

use std::process::ExitCode;

use selvedge_lab::matrix::Matrix;
use selvedge_lab::session::{Session, StateDir};

use super::screen::{Progress, style};
use super::{Failure, print};

/// The flags of `lab matrix`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the matrix as JSON.
    #[arg(long)]
    json: bool,
}

/// Probes and prints.
pub(super) fn run(args: &Args, state: &StateDir) -> Result<ExitCode, Failure> {
    let mut session = Session::connect(state)?;
    let progress = Progress::new();
    progress.show("probing every path");
    let matrix = session.matrix()?;
    drop(progress);
    print("the matrix", &render(&matrix, args.json)?)?;
    Ok(if matrix.failed().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The matrix as text, or as JSON.
pub(super) fn render(matrix: &Matrix, json: bool) -> Result<String, Failure> {
    Ok(if json { serde_json::to_string_pretty(matrix)? + "\n" } else { matrix.render(style()) })
}
