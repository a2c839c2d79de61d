//! `make bench`: Selvedge measured on this machine, as tables: the plugin beside Debian's `bridge` + `host-local`, and
//! what NetworkPolicy costs.
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
mod page;
mod policy;
mod process;
mod report;
mod rounds;
mod side;
mod spread;
mod table;
mod targets;
mod transport;
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
use crate::page::{Part, page};
use crate::policy::{control, packets};
use crate::report::{Report, machine};
use crate::rounds::Effort;
use crate::side::Kind;

/// Where the private mount namespace has an empty tmpfs: every file that a side writes is below.
const STORE: &str = "/run";

/// Measures the release programs.
#[derive(Debug, Parser)]
struct Flags {
    /// The folder of selvedge, selvedge-agent and selvedgectl.
    #[arg(long)]
    programs: PathBuf,
    /// The folder below which containernetworking-plugins is unpacked; the part `attach` needs it.
    #[arg(long, default_value = "/nonexistent")]
    reference: PathBuf,
    /// The page to write what was measured to, besides printing it; of other parts it keeps what it says.
    #[arg(long)]
    table: Option<PathBuf>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["attach", "control", "packets", "transports", "peers"])]
    parts: Vec<Part>,
    /// What to measure beside the reference.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["bridge", "routed", "agent"])]
    sides: Vec<Kind>,
    #[command(flatten)]
    effort: Effort,
    #[command(flatten)]
    control: control::Scale,
    #[command(flatten)]
    packets: packets::Passes,
    #[command(flatten)]
    transports: transport::packets::Journeys,
    #[command(flatten)]
    peers: transport::peers::Crowd,
    /// Set when this process already has its own mount and network namespace.
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let outcome = if flags.inside { bench(&flags) } else { Err(reenter(&flags)) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Becomes this program again, in namespaces of its own, with which everything ends that it has started. Returns only if
/// that fails.
fn reenter(flags: &Flags) -> BenchError {
    let failed = |source| BenchError::system("run unshare (util-linux) for namespaces of our own", source);
    match env::current_exe() {
        Ok(program) => {
            let mut command = Command::new("unshare");
            command.args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--propagation",
            ]);
            command.args(["private", "--"]).arg(program);
            // Where clusters' programs are looked for, and where their files go.
            command.env("SELVEDGE_BIN_DIR", &flags.programs).env("TMPDIR", STORE);
            failed(command.args(env::args_os().skip(1)).arg("--inside").exec())
        }
        Err(source) => failed(source),
    }
}

fn bench(flags: &Flags) -> Result<(), BenchError> {
    mount("tmpfs", STORE, "tmpfs", MountFlags::empty(), None)
        .map_err(|errno| BenchError::system(format!("mount a tmpfs on {STORE} (this needs root)"), errno))?;
    let mut measured = Vec::new();
    for part in &flags.parts {
        let text = match part {
            Part::Attach => Report::measure(flags)?.to_string(),
            Part::Control => control::Control::measure(&flags.control)?.to_string(),
            Part::Packets => packets::Packets::measure(&flags.packets)?.to_string(),
            Part::Peers => transport::peers::Peers::measure(&flags.peers)?.to_string(),
            Part::Transports => transport::packets::Packets::measure(&flags.transports)?.to_string(),
        };
        print(&text)?;
        measured.push((*part, text));
    }
    let Some(path) = &flags.table else { return Ok(()) };
    let old = fs::read_to_string(path).unwrap_or_default();
    write(path, &page(&old, &machine(), &measured))
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
