//! `selvedgectl matrix`: which pods reach which others, as it is desired and as packets do.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use selvedge_explain::{Filter, Matrix};
use selvedge_model::chain;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubectl::{ClusterArgs, KubectlError};
use crate::status::SILENT;
use crate::{agent, print};

mod probing;
mod screen;

const EXIT_CODES: &str = "Rows send, columns receive. Packets are sent from the pods whose network namespaces are \
    found here, which is on their own node. A connection that is taken or refused has reached its pod, and so has an \
    echo that is answered. Exits with 0, with 1 if packets do otherwise than is desired, and with 2 if nothing can be \
    said.";

/// Show which pods reach which others
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct MatrixArgs {
    /// The port and its protocol: `8080`, `53/UDP`. Without one it is about ICMP echo
    #[arg(long, value_name = "PORT[/PROTO]", value_parser = port)]
    port: Option<(u16, Option<String>)>,
    /// The namespace whose pods are meant
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// Try it by real packets as well, and mark what differs; TCP and ICMP alone
    #[arg(long)]
    probe: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// What packets did, pair by pair; `None` where none was sent.
type Measured = Vec<Vec<Option<bool>>>;

/// Asks the agent, sends packets if they are wanted, and prints the matrix.
pub(crate) fn run(run_dir: &Path, args: &MatrixArgs, cluster_by_default: bool) -> ExitCode {
    match told(run_dir, args, cluster_by_default) {
        Ok((matrix, measured)) => {
            let differences = differences(&matrix, &measured);
            let text = match args.json {
                true => format!("{:#}\n", as_json(&matrix, &measured, &differences)),
                false => screen::text(&heading(args), &matrix, &measured),
            };
            print(&mut io::stdout().lock(), &text);
            if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            print(&mut io::stderr().lock(), &why);
            ExitCode::from(SILENT)
        }
    }
}

fn told(run_dir: &Path, args: &MatrixArgs, cluster: bool) -> Result<(Matrix, Measured), String> {
    let failed = |why: &str| format!("selvedgectl: {why}\n");
    let (number, protocol) = args.port.clone().unzip();
    let protocol = protocol.flatten();
    let is_tcp = protocol.as_ref().is_none_or(|protocol| protocol.eq_ignore_ascii_case("TCP"));
    if args.probe && !is_tcp {
        return Err(failed(
            "packets are sent for TCP and for ICMP echo alone: silence says nothing of others",
        ));
    }
    if args.probe && cluster {
        return Err(failed("packets are sent on a node: call `selvedgectl matrix --probe` there"));
    }
    let filter = Filter { namespace: args.namespace.clone(), port: number, protocol };
    let matrix = match ClusterArgs::default().cluster(cluster) {
        Some(kubectl) => across(&kubectl, args).map_err(|why| failed(&chain(&why)))?,
        None => {
            let answer = agent::ask(run_dir, &json!({ "matrix": filter }));
            answer.and_then(|answer| agent::read(run_dir, &answer)).map_err(|why| why.told(run_dir))?
        }
    };
    if !args.probe {
        let none = matrix.rows.iter().map(|row| vec![None; row.len()]).collect();
        return Ok((matrix, none));
    }
    let measured = probing::measure(&matrix, number).map_err(|why| failed(&chain(&why)))?;
    if measured.iter().flatten().all(Option::is_none) {
        let why = "no pod's network namespace is found here: call it as root, on a node that has some of these pods";
        return Err(failed(why));
    }
    Ok((matrix, measured))
}

/// Asks agents until one answers: all say the same.
fn across(kubectl: &crate::kubectl::Kubectl, args: &MatrixArgs) -> Result<Matrix, AcrossError> {
    let mut flags = vec!["matrix".to_owned(), "--json".to_owned()];
    if let Some((number, protocol)) = &args.port {
        let protocol = protocol.as_ref().map_or_else(String::new, |protocol| format!("/{protocol}"));
        flags.extend(["--port".to_owned(), format!("{number}{protocol}")]);
    }
    if let Some(namespace) = &args.namespace {
        flags.extend(["--namespace".to_owned(), namespace.clone()]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut last = AcrossError::NoAgent;
    for agent in kubectl.agents()? {
        match kubectl.in_agent(&agent, &flags) {
            Ok(answer) => return Ok(Matrix::deserialize(&answer)?),
            Err(why) => last = why.into(),
        }
    }
    Err(last)
}

/// Why no agent of a cluster answers.
#[derive(Debug, thiserror::Error)]
enum AcrossError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error("an agent answers what is not understood; it may be of another version")]
    Answer(#[from] serde_json::Error),
    #[error("the cluster has no agent")]
    NoAgent,
}

/// Splits `PORT[/PROTO]`.
fn port(text: &str) -> Result<(u16, Option<String>), String> {
    let (number, protocol) =
        text.split_once('/').map_or((text, None), |(number, protocol)| (number, Some(protocol.to_owned())));
    let number = number.parse().map_err(|_why| format!("{number:?} is no port: 0 to 65535"))?;
    Ok((number, protocol))
}

fn heading(args: &MatrixArgs) -> String {
    match &args.port {
        None => "ICMP echo".to_owned(),
        Some((number, None)) => format!("TCP/{number}"),
        Some((number, Some(protocol))) => format!("{}/{number}", protocol.to_uppercase()),
    }
}

/// The places of the pairs whose packets did otherwise.
fn differences(matrix: &Matrix, measured: &Measured) -> Vec<(usize, usize)> {
    let rows = matrix.rows.iter().zip(measured).enumerate();
    let cells = rows.flat_map(|(from, (row, seen))| {
        row.iter().zip(seen).enumerate().map(move |(to, (cell, seen))| ((from, to), cell.allowed, *seen))
    });
    let differ = cells.filter(|(_, allowed, seen)| seen.is_some_and(|seen| seen != *allowed));
    differ.map(|(place, ..)| place).collect()
}

fn as_json(matrix: &Matrix, measured: &Measured, differences: &[(usize, usize)]) -> Value {
    let mut told = json!(matrix);
    for (from, row) in measured.iter().enumerate() {
        for (to, seen) in row.iter().enumerate() {
            told["rows"][from][to]["measured"] = json!(seen);
        }
    }
    let pair = |(from, to): &(usize, usize)| {
        json!({
            "from": matrix.pods[*from].name, "to": matrix.pods[*to].name, "allowed": matrix.rows[*from][*to].allowed
        })
    };
    told["differences"] = differences.iter().map(pair).collect();
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_protocol_or_none() {
        assert_eq!(port("53/UDP"), Ok((53, Some("UDP".to_owned()))));
        assert_eq!(port("8080"), Ok((8080, None)));
        assert!(["http", "70000", "/TCP"].iter().all(|wrong| port(wrong).is_err()));
    }
}
