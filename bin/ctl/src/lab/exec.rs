//! `lab exec`: a command inside the lab that stands.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use selvedge_lab::enter;
use selvedge_lab::session::{Session, StateDir};
use signal_hook::consts::{SIGINT, SIGQUIT};

use super::Failure;

/// The arguments of `lab exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A pod (namespace/name, or a name in the namespace `default`), a node, `router`, `outside`, `segment` or `segment-2`.
    place: String,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Executes the command and passes its exit code on.
pub(super) fn run(args: &Args, state: &StateDir) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = args.command.split_first() else { return Ok(ExitCode::FAILURE) };
    let session = Session::connect(state)?;
    // What is typed at the terminal is for the command: a handler keeps us, and is no longer there in the command.
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let status = enter::execute(session, &args.place, Command::new(program).args(arguments))?;
    Ok(ExitCode::from(code(status)))
}

/// The exit code as a shell would state it.
fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
