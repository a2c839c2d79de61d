//! `selvedgectl probe`: both ends of what `check --connectivity` asks, in pods of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::kubectl::{self, AT_ONCE, each};
use crate::print;

/// How long an end waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer.
const ANSWER: u64 = 128;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Probe {
    /// Tell everyone who connects which address the connection comes from
    Answer,
    /// Connect to each, and print what became of it as JSON
    Ask {
        /// The addresses and ports
        #[arg(required = true)]
        targets: Vec<SocketAddr>,
    },
}

/// The port at which pods of a check answer.
pub(crate) const PORT: u16 = 7473;

/// What became of one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// An answer of ours: the asker's address as the other end saw it.
    Seen(std::net::IpAddr),
    /// Somebody's kernel took or refused the connection: it was reached, and isn't asked more.
    Reached,
    /// Why nothing came back.
    Failed(String),
}

/// Runs one end.
pub(crate) fn run(probe: &Probe) -> ExitCode {
    match probe {
        Probe::Answer => match answer() {
            Ok(never) => match never {},
            Err(error) => {
                print(&mut io::stderr().lock(), &format!("selvedgectl: listen on port {PORT}: {error}\n"));
                ExitCode::FAILURE
            }
        },
        Probe::Ask { targets } => {
            let outcomes = each(targets, |target| (target.to_string(), ask(*target)));
            let outcomes = serde_json::to_string(&outcomes).unwrap_or_default();
            print(&mut io::stdout().lock(), &format!("{outcomes}\n"));
            ExitCode::SUCCESS
        }
    }
}

/// How long asking so many targets from a pod may take, though none of them answers.
pub(crate) fn patience(targets: usize) -> Duration {
    let rounds = u32::try_from(targets.div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
    // For a connection, and for what is said on it.
    kubectl::PATIENCE.saturating_add((PATIENCE * 2).saturating_mul(rounds))
}

fn answer() -> io::Result<std::convert::Infallible> {
    // Takes IPv4 too, as mapped addresses, unless the kernel has no IPv6 at all.
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).or_else(|_| TcpListener::bind(("0.0.0.0", PORT)))?;
    loop {
        match listener.accept() {
            Ok((mut stream, peer)) => {
                stream.set_write_timeout(Some(PATIENCE)).ok();
                stream.write_all(format!("{}\n", peer.ip().to_canonical()).as_bytes()).ok();
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn ask(target: SocketAddr) -> Outcome {
    let asked = TcpStream::connect_timeout(&target, PATIENCE).and_then(|stream| {
        // Others may keep silent until they are spoken to.
        if target.port() != PORT {
            return Ok(Outcome::Reached);
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut said = String::new();
        stream.take(ANSWER).read_to_string(&mut said)?;
        Ok(said.trim().parse().map_or(Outcome::Reached, Outcome::Seen))
    });
    match asked {
        Ok(outcome) => outcome,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Outcome::Reached,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_targets_there_are_the_longer_they_are_waited_for() {
        let seconds = [1, 8, 9, 400].map(|targets| patience(targets).as_secs());
        assert_eq!(seconds, [40, 40, 50, 530], "eight at a time, ten seconds each");
        assert!(patience(usize::MAX) > patience(400));
    }

    #[test]
    fn a_refusal_is_an_answer_too() {
        // Nobody has listened there for decades.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(ask(nobody), Outcome::Reached);
    }
}
