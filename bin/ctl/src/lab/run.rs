//! `lab run`: up, matrix, down.

use std::process::ExitCode;

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
    let progress = Progress::new();
    let lab = (args.build.shape(), &*args.build.bin_dir()?);
    let (mut session, status) = Session::run(lab, |doing| progress.show(doing))?;
    progress.show("probing every path");
    let matrix = session.matrix()?;
    let mut complaints = session.status()?.dead_agents();
    progress.show("taking it down");
    complaints.extend(session.down()?);
    drop(progress);
    if !args.json {
        print(&format!("{}\n", status.headline()))?;
    }
    print(&render(&matrix, args.json)?)?;
    let sound = complaints.is_empty() && matrix.failed().next().is_none();
    if complaints.is_empty() {
        return Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Err(complaints.join("\n").into())
}
