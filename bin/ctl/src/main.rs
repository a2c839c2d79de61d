//! `selvedgectl`: asks the node's agent or, through kubectl, those of a whole cluster; and runs the lab.

mod agent;
mod check;
mod explain;
mod ipam;
mod kubectl;
mod lab;
mod matrix;
mod pause;
mod policy;
mod probe;
mod status;
mod table;

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use selvedge_lab::enter::RUN_DIR;

/// Looks at Selvedge on this node or in a whole cluster, and runs clusters in the lab
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
    Ipam(ipam::IpamArgs),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Policy(policy::PolicyArgs),
    Matrix(matrix::MatrixArgs),
    Lab(lab::LabArgs),
    /// Print what makes a shell complete this program's command lines
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Do nothing until a signal asks for the end
    #[command(hide = true)]
    Pause,
    /// Be one end of a path that is tried
    #[command(hide = true, subcommand)]
    Probe(probe::Probe),
}

fn main() -> ExitCode {
    let plugin = is_kubectl_plugin(env::args_os().next().as_ref().map(Path::new));
    let mut command = Cli::command();
    if plugin {
        command = command.bin_name("kubectl selvedge");
    }
    let cli = Cli::from_arg_matches(&command.clone().get_matches()).unwrap_or_else(|error| error.exit());
    match cli.verb {
        Verb::Status(args) => status::run(&cli.run_dir, &args, plugin),
        Verb::Ipam(args) => ipam::run(&cli.run_dir, &args, plugin),
        Verb::Lab(args) => lab::run(args),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "selvedgectl", &mut script);
            print(&mut io::stdout().lock(), &String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
        Verb::Check(args) => check::run(&args),
        Verb::Explain(args) => explain::run(&cli.run_dir, &args, plugin),
        Verb::Policy(args) => policy::run(&cli.run_dir, &args, plugin),
        Verb::Matrix(args) => matrix::run(&cli.run_dir, &args, plugin),
        Verb::Probe(probe) => probe::run(&probe),
        Verb::Pause => pause::run(),
    }
}

/// Whether this was started as `kubectl selvedge`: kubectl looks for a program of that name.
fn is_kubectl_plugin(program: Option<&Path>) -> bool {
    program.and_then(Path::file_name).is_some_and(|name| name == "kubectl-selvedge")
}

/// Writes as far as somebody reads.
fn print(to: &mut impl Write, text: &str) {
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn kubectl_finds_it_by_name() {
        assert!(is_kubectl_plugin(Some(Path::new("/usr/local/bin/kubectl-selvedge"))));
        assert!(!is_kubectl_plugin(Some(Path::new("selvedgectl"))));
        assert!(!is_kubectl_plugin(None));
    }
}
