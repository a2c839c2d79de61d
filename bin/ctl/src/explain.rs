//! `selvedgectl explain`: what becomes of what one end sends to another, hop by hop.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use selvedge_explain::{Explanation, Hop, Kernel, Outcome, Query, Stage};
use selvedge_model::chain;
use serde::Deserialize;
use serde_json::{json, to_value};

use crate::kubectl::{ClusterArgs, Kubectl, KubectlError};
use crate::status::{SILENT, printable};
use crate::table::columns;
use crate::{agent, print};

const EXIT_CODES: &str =
    "Exits with 0 if it passes, with 1 if it is denied, and with 2 if nothing can be said.";

/// Explain what becomes of what one end sends to another, and why
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ExplainArgs {
    /// Who sends: a pod as namespace/name, a node, or an address
    source: String,
    /// Who it is for, with the port and the protocol: `shop/web-0:8080`, `10.244.1.7:53/UDP`, `[fd00::7]:80`. Without a
    /// port it is about ICMP echo
    #[arg(value_name = "DST[:PORT[/PROTO]]", value_parser = target)]
    destination: Target,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Who is sent to, and what is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    to: String,
    port: Option<u16>,
    protocol: Option<String>,
}

/// Asks the agent of this node, or those of both ends' nodes, and prints the answer.
pub(crate) fn run(run_dir: &Path, args: &ExplainArgs, cluster_by_default: bool) -> ExitCode {
    let Target { to, port, protocol } = args.destination.clone();
    let query = Query { from: args.source.clone(), to, port, protocol };
    let explained = match args.cluster.cluster(cluster_by_default) {
        Some(kubectl) => across(&kubectl, args).map_err(|why| format!("selvedgectl: {}\n", chain(&why))),
        None => {
            let answer = agent::ask(run_dir, &json!({ "explain": query }));
            answer.and_then(|answer| agent::read(run_dir, &answer)).map_err(|why| why.told(run_dir))
        }
    };
    match explained {
        Ok(explanation) => {
            let text = match args.json {
                true => format!("{:#}\n", to_value(&explanation).unwrap_or_default()),
                false => on_screen(&explanation),
            };
            print(&mut io::stdout().lock(), &text);
            if explanation.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            print(&mut io::stderr().lock(), &why);
            ExitCode::from(SILENT)
        }
    }
}

/// Splits `DST[:PORT[/PROTO]]`; an IPv6 address with a port is in brackets.
fn target(text: &str) -> Result<Target, String> {
    let whole = |to: &str| Target { to: to.to_owned(), port: None, protocol: None };
    let (to, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, "")) => return Ok(whole(address)),
        Some((address, rest)) => (address, rest.strip_prefix(':').ok_or("behind ] comes :PORT")?),
        None if text.matches(':').count() > 1 => return Ok(whole(text)),
        None => match text.split_once(':') {
            Some(split) => split,
            None => return Ok(whole(text)),
        },
    };
    let (port, protocol) =
        rest.split_once('/').map_or((rest, None), |(port, protocol)| (port, Some(protocol)));
    let port = port.parse().map_err(|_why| format!("{port:?} is no port: 0 to 65535"))?;
    Ok(Target { to: to.to_owned(), port: Some(port), protocol: protocol.map(str::to_owned) })
}

/// Asks any agent, and then those of the ends' nodes what their kernels hold.
fn across(kubectl: &Kubectl, args: &ExplainArgs) -> Result<Explanation, AcrossError> {
    let Target { to, port, protocol } = &args.destination;
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let protocol = protocol.as_ref().map_or_else(String::new, |protocol| format!("/{protocol}"));
    let to =
        if to.contains(':') { format!("[{to}]{port}{protocol}") } else { format!("{to}{port}{protocol}") };
    let agents = kubectl.agents()?;
    let ask = |agent| -> Result<Explanation, AcrossError> {
        let answer = kubectl.in_agent(agent, &["explain", &args.source, &to, "--json"])?;
        Ok(Explanation::deserialize(&answer)?)
    };
    let mut last = Err(AcrossError::NoAgent);
    for agent in &agents {
        last = ask(agent);
        if last.is_ok() {
            break;
        }
    }
    let first = last?;
    let of = |node: &Option<String>| agents.iter().find(|agent| Some(&agent.node) == node.as_ref());
    let mut explanation = of(&first.source.node).map_or(Ok(first), ask)?;
    if let Some(there) = of(&explanation.destination.node) {
        let theirs = ask(there)?;
        for hop in explanation.hops.iter_mut().filter(|hop| hop.kernel == Kernel::NotAsked) {
            let same = |other: &&Hop| (other.stage, &other.node) == (hop.stage, &hop.node);
            if let Some(other) = theirs.hops.iter().find(same) {
                *hop = other.clone();
            }
        }
    }
    Ok(explanation)
}

/// Why no agent of a cluster explains.
#[derive(Debug, thiserror::Error)]
enum AcrossError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error("an agent answers what is not understood; it may be of another version")]
    Answer(#[from] serde_json::Error),
    #[error("the cluster has no agent")]
    NoAgent,
}

fn on_screen(explanation: &Explanation) -> String {
    let Explanation { source, destination, protocol, hops, allowed, advice } = explanation;
    let party = |party: &selvedge_explain::Party| match party.name == party.address {
        true => printable(&party.name),
        false => format!("{} {}", printable(&party.name), party.address),
    };
    let denied = hops.iter().find(|hop| hop.outcome == Outcome::Denied);
    let verdict = match denied {
        Some(hop) => format!("DENIED at {}, {}", hop.node, stage(hop.stage)),
        None if *allowed => "allowed".to_owned(),
        None => "DENIED".to_owned(),
    };
    let mut text = format!(
        "{}  ──▶  {}   {}   {verdict}\n",
        party(source),
        party(destination),
        protocol.replace('/', " ")
    );
    let row = |hop: &Hop| {
        let outcome = match (hop.outcome, hop.stage) {
            (Outcome::Denied, _) => "DENIED",
            (Outcome::Allowed, Stage::Route) => "ok",
            (Outcome::Allowed, _) => "allowed",
        };
        vec![format!("  {}", hop.node), stage(hop.stage).to_owned(), printable(&hop.says), outcome.to_owned()]
    };
    text.push_str(&columns(&hops.iter().map(row).collect::<Vec<_>>()));
    for hop in hops {
        if let Kernel::Differs(todo) = &hop.kernel {
            let heading = format!(
                "the kernel of {} holds something else ({}): what would have to be done\n",
                hop.node,
                stage(hop.stage)
            );
            text.push_str(&heading);
            todo.iter().for_each(|step| text.push_str(&format!("  {}\n", printable(step))));
        }
    }
    if let Some(advice) = advice {
        text.push_str(&format!("try: {}\n", printable(advice)));
    }
    text
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Egress => "egress",
        Stage::Route => "route",
        Stage::Ingress => "ingress",
    }
}

#[cfg(test)]
mod tests {
    use selvedge_explain::Party;

    use super::*;

    #[test]
    fn a_target_has_a_port_and_a_protocol_or_none() {
        let split = |text| target(text).map(|t| (t.to, t.port, t.protocol));
        let udp = Some("UDP".to_owned());
        assert_eq!(split("shop/web-0:8080"), Ok(("shop/web-0".to_owned(), Some(8080), None)));
        assert_eq!(split("10.0.0.1:53/UDP"), Ok(("10.0.0.1".to_owned(), Some(53), udp.clone())));
        assert_eq!(split("[fd00::7]:53/UDP"), Ok(("fd00::7".to_owned(), Some(53), udp)));
        for alone in ["shop/web-0", "fd00::7", "node-a"] {
            assert_eq!(split(alone), Ok((alone.to_owned(), None, None)));
        }
        assert_eq!(split("[fd00::7]"), Ok(("fd00::7".to_owned(), None, None)));
        for wrong in ["web:http", "web:70000", "[fd00::7]80"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_explanation_is_a_line_for_each_hop_and_what_to_do() {
        let party = |name: &str, address: &str| Party {
            name: name.to_owned(),
            address: address.to_owned(),
            node: Some("node-a".to_owned()),
            labels: None,
        };
        let hop = |stage, says: &str, outcome, kernel| Hop {
            node: "node-a".to_owned(),
            stage,
            says: says.to_owned(),
            outcome,
            kernel,
        };
        let explanation = Explanation {
            source: party("shop/client-0", "10.244.0.12"),
            destination: party("shop/web-0", "10.244.0.7"),
            protocol: "TCP/8080".to_owned(),
            hops: vec![
                hop(Stage::Egress, "no policy selects it", Outcome::Allowed, Kernel::Agrees),
                hop(Stage::Ingress, "no", Outcome::Denied, Kernel::Differs(vec!["add rule x".to_owned()])),
            ],
            allowed: false,
            advice: Some("allow it".to_owned()),
        };
        assert_eq!(
            on_screen(&explanation),
            "shop/client-0 10.244.0.12  ──▶  shop/web-0 10.244.0.7   TCP 8080   DENIED at node-a, ingress\n  \
             node-a  egress   no policy selects it  allowed\n  \
             node-a  ingress  no                    DENIED\n\
             the kernel of node-a holds something else (ingress): what would have to be done\n  add rule x\n\
             try: allow it\n"
        );
    }
}
