//! What is asked of a forwarder over its socket, one line of JSON, and what it answers, another.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_model::Forwarding;
use serde::{Deserialize, Serialize};

use crate::counters::Counts;
use crate::error::ForwardError;

/// What requests and answers mean. An agent ends a forwarder that speaks another protocol than its own and starts one
/// that does not; `{"do":"end"}` and `state.protocol` stay what they are in every protocol to come.
pub const PROTOCOL: u32 = 1;

/// The socket's name in the run directory.
pub(crate) const SOCKET: &str = "tunnel-udp.sock";

/// How long a forwarder may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// This is to be in force, as a whole.
    Set(Forwarding),
    /// How is it?
    Get(What),
    /// Something is to be done.
    Do(Deed),
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// All there is to say.
    State,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// The forwarder ends. Its device stays.
    End,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done.
    Done(bool),
    /// It is so.
    State(Report),
    /// It is not done, and nothing has changed.
    Error(String),
}

/// How a forwarder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What it speaks.
    pub protocol: u32,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its device.
    pub device: String,
    /// How many queues the device has.
    pub queues: usize,
    /// What is in force; nothing before it was told.
    pub forwarding: Option<Forwarding>,
    /// What went through and what did not.
    pub counters: Counts,
}

/// Speaks to the forwarder of a run directory.
#[derive(Debug, Clone)]
pub struct Client(PathBuf);

impl Client {
    /// The forwarder of that run directory, whether there is one or not.
    pub fn of(run_dir: &Path) -> Self {
        Self(run_dir.join(SOCKET))
    }

    /// Puts a state in force.
    ///
    /// # Errors
    /// [`ForwardError`]; the state before is in force then.
    pub fn set(&self, forwarding: &Forwarding) -> Result<(), ForwardError> {
        self.done(&Request::Set(forwarding.clone()))
    }

    /// How it is; `None` if there is no forwarder.
    ///
    /// # Errors
    /// [`ForwardError`]: [`ForwardError::Strange`] if it speaks another protocol.
    pub fn get(&self) -> Result<Option<Report>, ForwardError> {
        match self.ask(&Request::Get(What::State)) {
            Ok(Answer::State(report)) if report.protocol == PROTOCOL => Ok(Some(report)),
            Ok(other) => Err(self.strange(&other)),
            Err(ForwardError::Silent { source, .. }) if nobody_is_there(&source) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Whether a forwarder listens: less than [`Self::get`] says, and sooner.
    pub fn is_there(&self) -> bool {
        UnixStream::connect(&self.0).is_ok()
    }

    /// Has it end.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn end(&self) -> Result<(), ForwardError> {
        self.done(&Request::Do(Deed::End))
    }

    fn done(&self, request: &Request) -> Result<(), ForwardError> {
        match self.ask(request)? {
            Answer::Done(_) => Ok(()),
            Answer::Error(why) => Err(ForwardError::Refused(why)),
            other @ Answer::State(_) => Err(self.strange(&other)),
        }
    }

    fn ask(&self, request: &Request) -> Result<Answer, ForwardError> {
        let asked = || -> io::Result<String> {
            let mut stream = UnixStream::connect(&self.0)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            stream.write_all(&line)?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer)?;
            Ok(answer)
        };
        let answer = asked().map_err(|source| ForwardError::Silent { path: self.0.clone(), source })?;
        serde_json::from_str(&answer)
            .map_err(|_other_protocol| ForwardError::Strange { path: self.0.clone(), answer })
    }

    fn strange(&self, answer: &Answer) -> ForwardError {
        ForwardError::Strange { path: self.0.clone(), answer: format!("{answer:?}") }
    }
}

fn nobody_is_there(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
