//! `selvedgectl probe`: both ends of what `check --connectivity` asks, in pods of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::kubectl::each;
use crate::print;

/// How long an end waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer.
const ANSWER: u64 = 128;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Probe {
    /// Tell everyone who connects which address the connection comes from
    Answer {
        /// The TCP port
        #[arg(long, value_name = "PORT", default_value_t = PORT)]
        port: u16,
    },
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
    /// Somebody's kernel took or refused the connection: it was reached, and doesn't say more.
    Reached,
    /// Why nothing came back.
    Failed(String),
}

/// Runs one end.
pub(crate) fn run(probe: &Probe) -> ExitCode {
    match probe {
        Probe::Answer { port } => match answer(*port) {
            Ok(never) => match never {},
            Err(error) => {
                print(&mut io::stderr().lock(), &format!("selvedgectl: listen on port {port}: {error}\n"));
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

fn answer(port: u16) -> io::Result<std::convert::Infallible> {
    // Takes IPv4 too, as mapped addresses, unless the kernel has no IPv6 at all.
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
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
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut said = String::new();
        // What isn't ours may keep silent, or speak in bytes that are no text.
        match stream.take(ANSWER).read_to_string(&mut said) {
            Ok(_) => Ok(said.trim().parse().map_or(Outcome::Reached, Outcome::Seen)),
            Err(_) => Ok(Outcome::Reached),
        }
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
    fn an_end_is_told_the_address_that_the_other_saw() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        thread::spawn(move || answer(free));
        let target = SocketAddr::from(([127, 0, 0, 1], free));
        let outcome = (0..300).map(|_| {
            thread::sleep(Duration::from_millis(100));
            ask(target)
        });
        let seen = outcome.into_iter().find(|outcome| matches!(outcome, Outcome::Seen(_)));
        assert_eq!(seen, Some(Outcome::Seen([127, 0, 0, 1].into())));
    }

    #[test]
    fn a_refusal_is_an_answer_too() {
        // Nobody has listened there for decades.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(ask(nobody), Outcome::Reached);
    }
}
