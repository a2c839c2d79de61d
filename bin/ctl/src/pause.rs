//! `selvedgectl pause`: a container that has nothing to do.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::print;

/// Sleeps until it is asked to end.
pub(crate) fn run() -> ExitCode {
    match sleep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&mut io::stderr().lock(), &format!("selvedgectl: wait for a signal: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn sleep() -> io::Result<()> {
    // The first process of a container gets no signal that it doesn't handle.
    let (mut asked, note) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        pipe::register(signal, note.try_clone()?)?;
    }
    asked.read_exact(&mut [0])
}
