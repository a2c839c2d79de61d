//! `lab run`: up, matrix, down.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_lab::limits::probeable;
use selvedge_lab::matrix::Matrix;
use selvedge_lab::patience::patience;
use selvedge_lab::session::Session;

use super::Build;
use super::matrix::{is_whole, show};
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
    let matrix = settled(&mut session, &progress)?;
    progress.clear();
    show(&matrix, args.json, || Ok(session.words()?))?;
    progress.show("taking it down");
    let mut complaints = session.status()?.dead_agents();
    complaints.extend(session.down()?);
    progress.clear();
    if !complaints.is_empty() {
        return Err(complaints.join("\n").into());
    }
    Ok(if is_whole(&matrix) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How long agents may take to find another way where the first doesn't get through.
const SETTLING: Duration = Duration::from_secs(25);

/// How long they are left alone between two matrices.
const PAUSE: Duration = Duration::from_millis(500);

/// The matrix once every path is as expected, or as it is after as long as agents may take.
fn settled(session: &mut Session, progress: &Progress) -> Result<Matrix, Failure> {
    progress.show("probing every path");
    let deadline = Instant::now() + patience(SETTLING);
    let mut matrix = session.matrix()?;
    if is_whole(&matrix) {
        return Ok(matrix);
    }
    progress.clear();
    let (failed, all) = (matrix.failed().count(), matrix.cells.len());
    let seconds = patience(SETTLING).as_secs();
    let told = format!(
        "selvedgectl: {failed} of {all} paths are not as expected yet; trying for {seconds} s, in which agents may find \
         another way"
    );
    // Whoever has closed standard error does not want to know.
    writeln!(io::stderr(), "{told}").ok();
    progress.show("probing every path again");
    while !is_whole(&matrix) && Instant::now() < deadline && session.status()?.dead_agents().is_empty() {
        thread::sleep(PAUSE);
        matrix = session.matrix()?;
    }
    Ok(matrix)
}
