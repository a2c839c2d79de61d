//! `selvedgectl lab`: a cluster out of network namespaces, for a test, a demonstration, or to look around in.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use selvedge_lab::limits::too_many_neighbours;
use selvedge_lab::session::{Recipe, StateDir};
use selvedge_lab::shape::{
    Attach, Blocked, FamilyChoice, LinkMtu, Loss, Network, NodeCount, PodCount, SegmentCount, Shape,
    ShapeError, Transport,
};
use selvedge_lab::supervisor;
use selvedge_model::chain;

mod down;
mod exec;
mod matrix;
mod run;
mod screen;
mod status;
mod up;

/// Run a whole cluster out of network namespaces on this machine
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct LabArgs {
    /// Where a standing lab keeps its socket and its log [default: /run/selvedge-lab, or one of the user's own]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build a lab, probe every path, print the matrix, take the lab down; exit code 1 if anything failed
    Run(run::Args),
    /// Build a lab and leave it standing
    Up(Build),
    /// Probe every path of the lab that stands
    Matrix(matrix::Args),
    /// Execute a command in a pod, a node, `router`, `outside`, `segment` or `segment-2` of the lab that stands
    Exec(exec::Args),
    /// Show the lab that stands
    Status(status::Args),
    /// Take the lab that stands down
    Down,
    /// What the lab's own processes are started as
    #[command(hide = true)]
    Supervise {
        /// Inside the lab's namespaces.
        #[arg(long)]
        inside: bool,
    },
}

/// What lab to build, and from which binaries.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// How many nodes, 1 to 50
    #[arg(long, value_name = "N", default_value = "3")]
    nodes: NodeCount,
    /// How many pods on each node, 0 to 100
    #[arg(long, value_name = "N", default_value = "2")]
    pods: PodCount,
    /// How pods are attached to their node
    #[arg(long, default_value = "routed", value_parser = word::<Attach>(&Attach::WORDS))]
    attach: Attach,
    /// Which IP families there are
    #[arg(long, default_value = "dual", value_parser = word::<FamilyChoice>(&FamilyChoice::WORDS))]
    family: FamilyChoice,
    /// How packets reach other nodes
    #[arg(long, default_value = "auto", value_parser = word::<Transport>(&Transport::WORDS))]
    transport: Transport,
    /// On how many routed segments the nodes are, 1 or 2: the first half on the first, the others on the second
    #[arg(long, value_name = "N", default_value = "1")]
    segments: SegmentCount,
    /// The MTU of the segments and of the links on them, 1280 to 9000
    #[arg(long, value_name = "BYTES", default_value = "1500")]
    mtu: LinkMtu,
    /// Ports that nothing gets through to, as udp/4789: between segments if there are two, else between nodes
    #[arg(long, value_name = "PROTOCOL/PORT", value_delimiter = ',')]
    block: Vec<Blocked>,
    /// How many packets of a hundred get lost there, 0 to 50
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    loss: Loss,
    /// Where the binaries `selvedge` and `selvedge-agent` are [default: beside this one]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

/// Reads one of the words, all of which the help shows.
fn word<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = ShapeError> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse())
}

impl Build {
    /// What to build, with the programs' directory as an absolute path: they are started from elsewhere.
    fn recipe(&self) -> Result<Recipe, Failure> {
        let bin_dir = match &self.bin_dir {
            Some(directory) => std::path::absolute(directory)?,
            None => env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default(),
        };
        Ok(Recipe { shape: self.shape(), bin_dir })
    }

    fn shape(&self) -> Shape {
        let Self { nodes, pods, attach, family, transport, segments, mtu, loss, .. } = *self;
        let network = Network { segments, mtu, blocked: self.block.iter().copied().collect(), loss };
        Shape { nodes, pods, attach, family, transport, network }
    }

    /// Says on standard error what may go wrong with such a lab on this machine.
    fn warn(&self) {
        if let Some(warning) = too_many_neighbours(&self.shape()) {
            writeln!(io::stderr(), "selvedgectl: warning: {warning}").ok();
        }
    }
}

/// Why a verb ended without doing what it is for.
type Failure = Box<dyn Error>;

/// Does what the verb says.
pub(crate) fn run(args: LabArgs) -> ExitCode {
    dispatch(args).unwrap_or_else(|failure| {
        // Whoever has closed standard error does not want to know.
        writeln!(io::stderr(), "selvedgectl: {}", chain(&*failure)).ok();
        ExitCode::FAILURE
    })
}

fn dispatch(args: LabArgs) -> Result<ExitCode, Failure> {
    let state = args.state_dir.map_or_else(StateDir::of_caller, StateDir::at);
    match args.verb {
        Verb::Run(args) => run::run(&args),
        Verb::Up(build) => up::run(&build, &state),
        Verb::Matrix(args) => matrix::run(&args, &state),
        Verb::Exec(args) => exec::run(&args, &state),
        Verb::Status(args) => status::run(&args, &state),
        Verb::Down => down::run(&state),
        Verb::Supervise { inside: false } => Ok(supervisor::outside()),
        Verb::Supervise { inside: true } => Ok(supervisor::inside()),
    }
}

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("write {what} to standard output")]
struct PrintError {
    what: &'static str,
    source: io::Error,
}

/// Prints a text, which is `what`, on standard output, as far as somebody reads.
fn print(what: &'static str, text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other.map_err(|source| PrintError { what, source })?),
    }
}
