//! `selvedgectl policy try`: what manifests would change, before they are applied.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use selvedge_model::chain;
use selvedge_whatif::{Preview, Proposal, Text, Tried};
use serde::Deserialize;
use serde_json::json;

use crate::kubectl::{AgentPod, ClusterArgs, Kubectl, KubectlError, each};
use crate::status::SILENT;
use crate::{agent, print};

mod screen;

const EXIT_CODES: &str = "Nothing is changed. Exits with 0 if nothing that passes now would be closed, with 1 if \
    something would, and with 2 if that can't be said: the manifests are no good, or no agent answers.";

/// How long an agent may compare clusters.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest request that agents take, in bytes.
const LONGEST: usize = (1 << 20) - 1;

/// See what NetworkPolicies would do before they are applied
#[derive(Debug, Clone, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    Try(TryArgs),
}

/// Show which flows manifests would open, close and cut, without changing anything
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
struct TryArgs {
    /// Manifests of NetworkPolicies, and of Namespaces and Pods with other labels; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["delete", "proposal"])]
    files: Vec<String>,
    /// As if that NetworkPolicy went; may be given several times
    #[arg(long, value_name = "NAMESPACE/NAME")]
    delete: Vec<String>,
    /// Print every line, and every name in it
    #[arg(long)]
    all: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Read what is tried from standard input, as agents are asked it
    #[arg(long, hide = true, conflicts_with_all = ["files", "delete"])]
    proposal: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs a verb.
pub(crate) fn run(run_dir: &Path, args: &PolicyArgs, cluster_by_default: bool) -> ExitCode {
    let Verb::Try(args) = &args.verb;
    match tried(run_dir, args, cluster_by_default) {
        // Whoever asked for a proposal to be tried reads that it was refused.
        Ok(Tried::Refused(why)) if args.proposal => {
            print(&mut io::stdout().lock(), &format!("{}\n", json!({ "refused": why })));
            ExitCode::from(SILENT)
        }
        Ok(Tried::Refused(why)) => {
            let lines: Vec<String> = why.iter().map(|why| format!("selvedgectl: {why}\n")).collect();
            print(&mut io::stderr().lock(), &lines.concat());
            ExitCode::from(SILENT)
        }
        Ok(Tried::Preview(preview)) => {
            print(&mut io::stdout().lock(), &shown(&preview, args));
            match (preview.closes(), preview.complete) {
                (true, _) => ExitCode::FAILURE,
                (false, true) => ExitCode::SUCCESS,
                (false, false) => ExitCode::from(SILENT),
            }
        }
        Err(why) => {
            print(&mut io::stderr().lock(), &why);
            ExitCode::from(SILENT)
        }
    }
}

fn shown(preview: &Preview, args: &TryArgs) -> String {
    if args.proposal {
        return format!("{}\n", json!({ "preview": preview }));
    }
    if args.json { format!("{:#}\n", json!(preview)) } else { screen::text(preview, args.all) }
}

/// Asks the agent of this node, or all of them.
fn tried(run_dir: &Path, args: &TryArgs, cluster_by_default: bool) -> Result<Tried, String> {
    let failed = |why: &dyn std::error::Error| format!("selvedgectl: {}\n", chain(why));
    let proposal = proposal(args).map_err(|why| format!("selvedgectl: {why}\n"))?;
    match args.cluster.cluster(cluster_by_default) {
        Some(kubectl) => across(&kubectl, &proposal).map_err(|why| failed(&why)),
        None => {
            let answer = agent::ask_within(run_dir, &json!({ "try": proposal }), PATIENCE);
            answer.and_then(|answer| agent::read(run_dir, &answer)).map_err(|why| why.told(run_dir))
        }
    }
}

/// What the files and flags say.
fn proposal(args: &TryArgs) -> Result<Proposal, String> {
    let stdin = || {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map_err(|why| format!("read standard input: {why}"))?;
        Ok::<String, String>(text)
    };
    let proposal = match args.proposal {
        true => serde_json::from_str(&stdin()?).map_err(|why| format!("read the proposal: {why}"))?,
        false => {
            let text = |file: &String| {
                let text = match file.as_str() {
                    "-" => stdin()?,
                    file => fs::read_to_string(file).map_err(|why| format!("read {file}: {why}"))?,
                };
                let name = if file == "-" { "standard input".to_owned() } else { file.clone() };
                Ok(Text { name, text })
            };
            let manifests = args.files.iter().map(text).collect::<Result<_, String>>()?;
            Proposal { manifests, delete: args.delete.clone() }
        }
    };
    if json!({ "try": proposal }).to_string().len() > LONGEST {
        return Err("that is too much to be tried at once: up to 1 MiB".to_owned());
    }
    Ok(proposal)
}

/// Why no agent of a cluster says what would be.
#[derive(Debug, thiserror::Error)]
enum AcrossError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error("an agent answers what is not understood; it may be of another version")]
    Answer(#[from] serde_json::Error),
    #[error("the cluster has no agent")]
    NoAgent,
}

/// Asks every agent: what changes is the same for all, what would be cut is each node's own.
fn across(kubectl: &Kubectl, proposal: &Proposal) -> Result<Tried, AcrossError> {
    let agents = kubectl.agents()?;
    let patient = kubectl.with_patience(PATIENCE * 2);
    let input = json!(proposal).to_string();
    let ask = |agent: &AgentPod| -> Result<Tried, AcrossError> {
        let answer = patient.in_agent_fed(agent, &["policy", "try", "--proposal"], input.clone())?;
        Ok(Tried::deserialize(&answer)?)
    };
    let answers = each(&agents, ask);
    let mut together: Option<Preview> = None;
    let mut last = AcrossError::NoAgent;
    let mut silent = Vec::new();
    for (agent, answer) in agents.iter().zip(answers) {
        match answer {
            Ok(Tried::Refused(why)) => return Ok(Tried::Refused(why)),
            Ok(Tried::Preview(preview)) => match &mut together {
                None => together = Some(preview),
                Some(first) => first.tracked.extend(preview.tracked),
            },
            Err(why) => {
                silent.push(format!("{}: its flows are not known: {}", agent.node, chain(&why)));
                last = why;
            }
        }
    }
    let Some(mut preview) = together else { return Err(last) };
    preview.notes.extend(silent);
    Ok(Tried::Preview(preview))
}
