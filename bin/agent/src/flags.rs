//! The command line.

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;

use clap::Parser;
use selvedge_model::NodeName;

/// The node agent of Selvedge: makes this node's routes, rules and interfaces what its cluster asks for, and keeps
/// them so.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "selvedge-agent", version)]
pub(crate) struct Flags {
    /// The Node object that this machine is
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: NodeName,

    /// A directory of Kubernetes manifests that describes the cluster, in place of the Kubernetes API; it is watched
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub(crate) manifests: Option<PathBuf>,

    /// A kubeconfig file, by whose current context the Kubernetes API is reached; by default as a pod reaches it
    #[arg(long, value_name = "FILE", value_parser = absolute, conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The agent's configuration, in YAML; without it everything is as the documentation's defaults say
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub(crate) config: Option<PathBuf>,

    /// Where the container runtime looks for network configurations
    #[arg(long, value_name = "DIR", value_parser = absolute, default_value = "/etc/cni/net.d")]
    pub(crate) cni_conf_dir: PathBuf,

    /// Where the container runtime looks for plugins
    #[arg(long, value_name = "DIR", value_parser = absolute, default_value = "/opt/cni/bin")]
    pub(crate) cni_bin_dir: PathBuf,

    /// The plugin that is to be in the plugins' directory, where the agent keeps it so; without it somebody else
    /// installs it
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub(crate) plugin: Option<PathBuf>,

    /// What stands for /proc/sys: below it the host's sysctls are written, which containers see read-only elsewhere
    #[arg(long, value_name = "DIR", value_parser = absolute, default_value = "/proc/sys")]
    pub(crate) sysctl_dir: PathBuf,

    /// Where the agent's socket and the leases are; a reboot must empty it
    #[arg(long, value_name = "DIR", value_parser = absolute, default_value = "/run/selvedge")]
    pub(crate) run_dir: PathBuf,

    /// The IP address and port for /healthz, /readyz and /metrics over HTTP; none by default
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,
}

/// The exit code of a command line that can't be followed (EX_USAGE of sysexits.h).
const USAGE: i32 = 64;

impl Flags {
    /// Reads the process's command line. Where help or the version is asked for it prints that and exits with 0; a
    /// line that can't be followed makes it say why and exit with 64.
    pub(crate) fn parse_or_exit() -> Self {
        Self::read(env::args_os()).unwrap_or_else(|instead| process::exit(leave(&instead)))
    }

    /// Reads a command line, the program's name first; fails with what to print instead of running.
    fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(line)
    }
}

/// Prints what stands in the way of running and gives the code to exit with.
fn leave(instead: &clap::Error) -> i32 {
    let printed = instead.print();
    match (instead.use_stderr(), printed) {
        (true, _) => USAGE,
        (false, Ok(())) => 0,
        (false, Err(_nobody_reads)) => 1,
    }
}

/// Takes absolute paths only: other programs are told them, and they run in other directories.
fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("the path must be absolute (begin with /)") }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_no_address| "it must be an IP address and a port, such as 127.0.0.1:9763 or [::1]:9763")
}

#[cfg(test)]
mod tests;
