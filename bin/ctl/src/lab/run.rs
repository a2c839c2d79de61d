//! `lab run`: up, matrix, down.

use std::process::ExitCode;

use selvedge_lab::limits::probeable;
use selvedge_lab::session::Session;

use super::Build;
use super::matrix::render;
use super::screen::Progress;
use super::{Failure, print};

/// The flags of `lab run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    build: Build,
    /// Print the matrix as JSON.
    #[arg(long)]
    json: bool,
}

/// Builds a lab, probes it and takes it down. The lab goes with this process, whatever ends it.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let recipe = args.build.recipe()?;
    probeable(&recipe.shape)?;
    args.build.warn();
    let progress = Progress::new();
    let (mut session, status) = Session::run(recipe, |doing| progress.show(doing))?;
    if !args.json {
        progress.clear();
        print("the matrix", &format!("{}\n", status.headline()))?;
    }
    progress.show("probing every path");
    let matrix = session.matrix()?;
    progress.clear();
    print("the matrix", &render(&matrix, args.json)?)?;
    progress.show("taking it down");
    let mut complaints = session.status()?.dead_agents();
    complaints.extend(session.down()?);
    progress.clear();
    if !complaints.is_empty() {
        return Err(complaints.join("\n").into());
    }
    Ok(if matrix.failed().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
