//! `selvedgectl`: asks the node's agent, and runs the lab.

mod lab;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use selvedge_lab::enter::RUN_DIR;

/// Looks at Selvedge on this node, and runs whole clusters in the lab
#[derive(Debug, Parser)]
#[command(name = "selvedgectl", version)]
struct Cli {
    /// The agent's run directory
    #[arg(long, global = true, value_name = "DIR", env = RUN_DIR, default_value = "/run/selvedge")]
    run_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Status(status::StatusArgs),
    Lab(lab::LabArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.verb {
        Verb::Status(args) => status::run(&cli.run_dir, &args),
        Verb::Lab(args) => lab::run(args),
    }
}
