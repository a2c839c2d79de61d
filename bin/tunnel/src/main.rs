//! `selvedge-tunnel`: forwards packets where the kernel can't, one process for each transport.

use std::fs;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};
use selvedge_forward::Options;
use selvedge_model::chain;

/// Forwards packets in user space, as the agent tells it over a socket in the run directory.
#[derive(Debug, Parser)]
#[command(name = "selvedge-tunnel", version)]
enum Task {
    /// The udp transport: packets of the device selvedge-udp, each in a UDP packet
    Udp(Place),

    /// WireGuard where the kernel has none: packets of the device selvedge-wg, encrypted. The key is read from the file
    /// wireguard.key in the run directory; the device is made when an agent first says that it is needed
    Wireguard(Place),
}

#[derive(Debug, Args)]
struct Place {
    /// The directory that the forwarder shares with the agent
    #[arg(long, value_name = "DIR", default_value = "/run/selvedge")]
    run_dir: PathBuf,

    /// How many queues the device gets; by default as many as there are processors
    #[arg(long, value_name = "NUMBER")]
    queues: Option<NonZero<usize>>,
}

fn main() -> ExitCode {
    let task = Task::parse();
    // Whoever started it may end: a terminal or a service that is stopped takes its own processes along. A process that
    // leads a group can't leave it, and need not.
    rustix::process::setsid().ok();
    match forward(task) {
        Ok(()) => {
            say("selvedge-tunnel ends; the device stays");
            ExitCode::SUCCESS
        }
        Err(why) => {
            say(&format!("selvedge-tunnel: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn forward(task: Task) -> Result<(), String> {
    let (Task::Udp(place) | Task::Wireguard(place)) = &task;
    let made = fs::create_dir_all(&place.run_dir);
    made.map_err(|why| format!("make the run directory {} (--run-dir): {why}", place.run_dir.display()))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let options = Options { run_dir: place.run_dir.clone(), version, queues: place.queues };
    let ready = |how: &str| say(&format!("selvedge-tunnel {} forwards {how}", options.version));
    let forwarded = match task {
        Task::Udp(_) => selvedge_forward::udp(&options, || ready("over UDP")),
        Task::Wireguard(_) => selvedge_forward::wireguard(&options, || ready("in WireGuard")),
    };
    forwarded.map_err(|why| chain(&why))
}

/// A line in the log. Nobody can be told that nobody reads it.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}
