//! `lab matrix`: every path of the lab that stands.

use std::io::{self, Write};
use std::process::ExitCode;

use selvedge_lab::matrix::Matrix;
use selvedge_lab::session::{Session, StateDir};

use super::screen::{Progress, style};
use super::{Failure, print};
use crate::status::printable;

/// The flags of `lab matrix`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the matrix as JSON.
    #[arg(long)]
    json: bool,
}

/// The most lines of what agents say that are printed.
const MOST_WORDS: usize = 40;

/// Probes and prints.
pub(super) fn run(args: &Args, state: &StateDir) -> Result<ExitCode, Failure> {
    let mut session = Session::connect(state)?;
    let progress = Progress::new();
    progress.show("probing every path");
    let matrix = session.matrix()?;
    drop(progress);
    // A lab that stands answers one question a connection.
    show(&matrix, args.json, || Ok(Session::connect(state)?.words()?))?;
    Ok(if is_whole(&matrix) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True if every path is as expected.
pub(super) fn is_whole(matrix: &Matrix) -> bool {
    matrix.failed().next().is_none()
}

/// Prints the matrix; where a path failed also what the agents say, beside JSON on standard error.
pub(super) fn show(
    matrix: &Matrix,
    json: bool,
    words: impl FnOnce() -> Result<Vec<String>, Failure>,
) -> Result<(), Failure> {
    let text = if json { serde_json::to_string_pretty(matrix)? + "\n" } else { matrix.render(style()) };
    print("the matrix", &text)?;
    if is_whole(matrix) {
        return Ok(());
    }
    let cause = cause(&words()?);
    if json {
        // Whoever has closed standard error does not want to know.
        io::stderr().write_all(cause.as_bytes()).ok();
        return Ok(());
    }
    print("what the agents say", &cause)
}

/// What the agents say, as text.
fn cause(words: &[String]) -> String {
    if words.is_empty() {
        return "The agents know of no cause.\n".to_owned();
    }
    let told = words.iter().take(MOST_WORDS).map(|line| format!("  {}\n", printable(line)));
    let rest = words.len().saturating_sub(MOST_WORDS);
    let more = (rest > 0).then(|| format!("  and {rest} lines more\n"));
    ["The agents say:\n".to_owned()].into_iter().chain(told).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_say_is_told_up_to_a_length() {
        let words: Vec<String> = (0..MOST_WORDS + 2).map(|n| format!("node-a: note {n}")).collect();
        assert_eq!(cause(&words[..1]), "The agents say:\n  node-a: note 0\n");
        assert!(cause(&words).ends_with("  and 2 lines more\n"));
        assert_eq!(cause(&[]), "The agents know of no cause.\n");
    }
}
