//! `make bench`: Selvedge beside Debian's `bridge` + `host-local`, measured on this machine and printed as a table.
//!
//! Every side gets a node of its own, with its pods' namespaces made beforehand and its address store on tmpfs. The
//! sides take turns call by call, so that whatever else the machine does hits all of them; a time is the program's
//! own, from exec to exit. What the figures mean is written above the table; what they should be, in [`targets`].
//!
//! Everything happens in namespaces of this process and ends with it: nothing is left, also after a kill.

mod agent;
mod call;
mod crowd;
mod error;
mod lease;
mod node;
mod report;
mod rounds;
mod side;
mod spread;
mod table;
mod targets;
mod watch;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use clap::Parser;
use rustix::mount::{MountFlags, mount};
use selvedge_model::chain;

use crate::error::BenchError;
use crate::report::Report;
use crate::rounds::Effort;
use crate::side::Kind;

/// Where the private mount namespace has an empty tmpfs: every file that a side writes is below.
const STORE: &str = "/run";

/// Measures the release programs beside bridge + host-local.
#[derive(Debug, Parser)]
struct Flags {
    /// The folder of selvedge, selvedge-agent and selvedgectl.
    #[arg(long)]
    programs: PathBuf,
    /// The folder below which containernetworking-plugins is unpacked.
    #[arg(long)]
    reference: PathBuf,
    /// The file to write the table to, besides printing it.
    #[arg(long)]
    table: Option<PathBuf>,
    /// What to measure beside the reference.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["bridge", "routed", "agent"])]
    sides: Vec<Kind>,
    #[command(flatten)]
    effort: Effort,
    /// Set when this process already has its own mount and network namespace.
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let outcome = if flags.inside { bench(&flags) } else { Err(reenter()) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Becomes this program again, in a mount and a network namespace of its own. Returns only if that fails.
fn reenter() -> BenchError {
    let failed = |source| BenchError::system("run unshare (util-linux) for namespaces of our own", source);
    match env::current_exe() {
        Ok(program) => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--net", "--propagation", "private", "--"]).arg(program);
            failed(command.args(env::args_os().skip(1)).arg("--inside").exec())
        }
        Err(source) => failed(source),
    }
}

fn bench(flags: &Flags) -> Result<(), BenchError> {
    mount("tmpfs", STORE, "tmpfs", MountFlags::empty(), None)
        .map_err(|errno| BenchError::system(format!("mount a tmpfs on {STORE} (this needs root)"), errno))?;
    let report = Report::measure(flags)?;
    let text = report.to_string();
    print(&text)?;
    flags.table.as_deref().map_or(Ok(()), |path| write(path, &text))
}

fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = folder.and_then(|()| fs::write(path, text));
    written.map_err(|source| BenchError::file("write", path, source))
}

fn print(text: &str) -> Result<(), BenchError> {
    let printed = io::stdout().write_all(text.as_bytes());
    printed.map_err(|source| BenchError::System { what: "print the table".to_owned(), source })
}

/// A line for the person who waits.
fn say(line: &str) {
    // Where nobody listens, nobody is told.
    drop(writeln!(io::stderr(), "{line}"));
}
