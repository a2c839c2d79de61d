//! The command line.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;
use std::str::FromStr;

use clap::{Args, Parser};
use ipnet::IpNet;
use selvedge_model::NodeName;

use crate::config::Config;

/// What else there is.
const AFTER_HELP: &str = "Also: selvedge-agent check --help, selvedge-agent uninstall --help";

/// Where the manifests let the agent listen, which a check looks at unless told otherwise.
const LISTEN: &str = "127.0.0.1:9763";

/// The node agent of Selvedge: makes this node's routes, rules and interfaces what its cluster asks for, and keeps
/// them so.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "selvedge-agent", version, after_help = AFTER_HELP)]
pub(crate) struct Flags {
    /// The Node object that this machine is
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: NodeName,

    #[command(flatten)]
    pub(crate) source: Source,

    #[command(flatten)]
    pub(crate) at: Places,

    /// The program that forwards over UDP where that is wanted, by default selvedge-tunnel beside this one; none: somebody
    /// else starts it with the same --run-dir
    #[arg(long, value_name = "FILE", default_value_t)]
    pub(crate) tunnel: Tunnel,

    /// The IP address and port for /healthz, /readyz and /metrics over HTTP; none by default
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,
}

/// Who starts what forwards over UDP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Tunnel {
    /// The agent, by the program beside its own.
    #[default]
    Beside,
    /// The agent, by that program.
    At(PathBuf),
    /// Somebody else.
    None,
}

impl Tunnel {
    /// The program to start, if there is one to start.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        match self {
            Self::Beside => Some(env::current_exe().ok()?.with_file_name("selvedge-tunnel")),
            Self::At(path) => Some(path.clone()),
            Self::None => None,
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beside => f.write_str("beside"),
            Self::At(path) => write!(f, "{}", path.display()),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Tunnel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "beside" => Ok(Self::Beside),
            "none" => Ok(Self::None),
            path => absolute(path).map(Self::At),
        }
    }
}

/// What tells of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Source {
    /// A directory of Kubernetes manifests that describes the cluster, in place of the Kubernetes API
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub(crate) manifests: Option<PathBuf>,

    /// A kubeconfig file, by whose current context the Kubernetes API is reached; by default as a pod reaches it
    #[arg(long, value_name = "FILE", value_parser = absolute, conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Where on this machine everything is, the same for all that the agent can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Places {
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
}

impl Places {
    /// What is there of a network with that configuration.
    pub(crate) fn of(&self, config: &Config) -> selvedge_reconcile::Places {
        selvedge_reconcile::Places {
            network: config.network.clone(),
            conflist: self.cni_conf_dir.join(config.conflist_name.as_str()),
            plugin: self.cni_bin_dir.join(crate::PLUGIN),
            run_dir: self.run_dir.clone(),
        }
    }
}

/// What the agent can be asked for besides running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// `selvedge-agent --node NAME …`
    Run(Flags),
    /// `selvedge-agent check`
    Check(CheckFlags),
    /// `selvedge-agent uninstall`
    Uninstall(UninstallFlags),
}

/// Whether this node could serve pods: what of the kernel is missing, which addresses overlap, who else is there. Changes
/// nothing; exits with 1 if something keeps it from working.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "selvedge-agent check", bin_name = "selvedge-agent check")]
pub(crate) struct CheckFlags {
    /// The Node object that this machine is to be: says so where the cluster has none of that name yet
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,

    /// Pod CIDRs of the cluster, in place of those that its Nodes have; may be given several times
    #[arg(long, value_name = "CIDR")]
    pub(crate) pod_cidr: Vec<IpNet>,

    #[command(flatten)]
    pub(crate) source: Source,

    #[command(flatten)]
    pub(crate) at: Places,

    /// The address that the agent is to listen on
    #[arg(long, value_name = "ADDR", value_parser = address, default_value = LISTEN)]
    pub(crate) listen: SocketAddr,

    /// Prints JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Takes from this node all that bears a mark of ours, and nothing else: configuration and plugin, links, routes, tables,
/// rules in other people's chains, leases. Sysctls stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "selvedge-agent uninstall", bin_name = "selvedge-agent uninstall")]
pub(crate) struct UninstallFlags {
    #[command(flatten)]
    pub(crate) at: Places,

    /// Although pods are attached, which lose their network
    #[arg(long)]
    pub(crate) with_pods: bool,

    /// Only prints what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The exit code of a command line that can't be followed (EX_USAGE of sysexits.h).
const USAGE: i32 = 64;

impl Task {
    /// Reads the process's command line. Where help or the version is asked for it prints that and exits with 0; a
    /// line that can't be followed makes it say why and exit with 64.
    pub(crate) fn parse_or_exit() -> Self {
        Self::read(env::args_os()).unwrap_or_else(|instead| process::exit(leave(&instead)))
    }

    /// Reads a command line, the program's name first; fails with what to print instead of running.
    fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut line: Vec<OsString> = line.into_iter().collect();
        // The variable for --node is set in the agent's container, where clap would take it for the wrong form.
        match line.get(1).and_then(|word| word.to_str()) {
            Some("check") => {
                line.remove(1);
                CheckFlags::try_parse_from(line).map(Self::Check)
            }
            Some("uninstall") => {
                line.remove(1);
                UninstallFlags::try_parse_from(line).map(Self::Uninstall)
            }
            _ => Flags::try_parse_from(line).map(Self::Run),
        }
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
