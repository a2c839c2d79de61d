//! `selvedge`, the CNI plugin: one process a call, synchronous, one JSON document on stdout.

mod add;
mod agent;
mod check;
mod del;
mod failure;
mod gc;
mod guard;
mod hostend;
mod ipam;
mod journal;
mod log;
mod node;
mod ports;
mod reap;
mod removal;
mod shaper;
mod status;
mod stdout;
mod termination;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use selvedge_cni::{CniError, Environment, MAX_STDIN, Request, Version, code, command, version};

use crate::log::Entry;

fn main() -> ExitCode {
    let environment = Environment::new(std::env::vars_os());
    if matches!(command(&environment), Ok(None)) {
        #[expect(clippy::print_stderr, reason = "a person called the plugin by hand")]
        {
            eprintln!("{}", version::about());
        }
        return ExitCode::SUCCESS;
    }
    let mut entry = Entry::begin(&environment);
    // A panic is answered like any other failure; its text goes into the answer, not onto stderr by itself.
    std::panic::set_hook(Box::new(|_| {}));
    let mut stdin = Vec::new();
    let answered = catch_unwind(AssertUnwindSafe(|| answer(&environment, &mut stdin, &mut entry)));
    let answered = answered.unwrap_or_else(|panic| Err(failure::of_panic(panic.as_ref())));
    if let Err(error) = &answered {
        // What can't be written is in the log, and in the exit code.
        stdout::write(&error.to_json(Version::of_answer(&stdin))).ok();
    }
    entry.end(answered.as_ref().err());
    if answered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does what is asked, and writes what the verb answers when it succeeds.
fn answer(environment: &Environment, stdin: &mut Vec<u8>, entry: &mut Entry) -> Result<(), CniError> {
    if !matches!(command(environment)?, Some(selvedge_cni::Command::Version)) {
        read_stdin(stdin)?;
    }
    match Request::parse(environment, stdin)? {
        Request::Add(request) => {
            entry.log_to(request.conf.log_file.as_deref());
            add::add(&request, entry)
        }
        Request::Del(request) => {
            entry.log_to(request.conf.log_file.as_deref());
            del::del(&request, entry).map_err(CniError::for_del)
        }
        Request::Check(request) => {
            entry.log_to(request.conf.log_file.as_deref());
            check::check(&request)
        }
        Request::Gc(request) => {
            entry.log_to(request.conf.log_file.as_deref());
            gc::gc(&request, entry)
        }
        Request::Status(request) => {
            entry.log_to(request.conf.log_file.as_deref());
            status::status(&request)
        }
        Request::Version(asked) => stdout::write(&version::reply(asked)),
    }
}

/// Reads the configuration, up to one byte more than is allowed, so that too long a one is noticed.
fn read_stdin(stdin: &mut Vec<u8>) -> Result<(), CniError> {
    let most = u64::try_from(MAX_STDIN).unwrap_or(u64::MAX).saturating_add(1);
    let read = std::io::stdin().lock().take(most).read_to_end(stdin);
    read.map(drop).map_err(|why| CniError::new(code::IO, format!("read the configuration from stdin: {why}")))
}
