//! What is asked of a forwarder over its socket, one line of JSON, and what it answers, another.

use std::io::{self, BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::connection::{connect, is_listened_at, kill, listener};
use crate::counters::Counts;
use crate::error::ForwardError;
use crate::task::{Task, file};

/// What requests and answers mean. An agent ends a forwarder that speaks another protocol than its own and starts one
/// that does not; `{"do":"end"}` and `state.protocol` stay what they are in every protocol to come.
pub const PROTOCOL: u32 = 1;

/// How long a forwarder may take to answer, which takes it far less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it may take to do as it is told: WireGuard computes something for each of thousands of peers.
const PATIENCE_TO_SET: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request<T> {
    /// This is to be in force, as a whole.
    Set(T),
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
pub enum Answer<T> {
    /// It is done.
    Done(bool),
    /// It is so.
    State(Report<T>),
    /// It is not done, and nothing has changed.
    Error(String),
}

/// How a forwarder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report<T> {
    /// What it speaks.
    pub protocol: u32,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its device.
    pub device: String,
    /// How many queues the device has; 0 before it is made.
    pub queues: usize,
    /// What is in force; nothing before it was told.
    pub forwarding: Option<T>,
    /// What went through and what did not.
    pub counters: Counts,
}

/// Speaks to the forwarder of a run directory.
#[derive(Debug, Clone)]
pub struct Client<T> {
    socket: PathBuf,
    task: PhantomData<fn() -> T>,
}

impl<T: Task> Client<T> {
    /// The forwarder of that run directory, whether there is one or not.
    pub fn of(run_dir: &Path) -> Self {
        Self { socket: file::<T>(run_dir, "sock"), task: PhantomData }
    }

    /// Puts a state in force.
    ///
    /// # Errors
    /// [`ForwardError`]; the state before is in force then.
    pub fn set(&self, told: &T) -> Result<(), ForwardError> {
        self.done(&Request::Set(told.clone()), PATIENCE_TO_SET)
    }

    /// How it is; `None` if there is no forwarder.
    ///
    /// # Errors
    /// [`ForwardError`]: [`ForwardError::Strange`] if it speaks another protocol.
    pub fn get(&self) -> Result<Option<Report<T>>, ForwardError> {
        match self.ask(&Request::Get(What::State), PATIENCE) {
            Ok(Answer::State(report)) if report.protocol == PROTOCOL => Ok(Some(report)),
            Ok(other) => Err(self.strange(&other)),
            Err(ForwardError::Silent { source, .. }) if nobody_is_there(&source) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Whether a forwarder listens: less than [`Self::get`] says, and sooner.
    pub fn is_there(&self) -> bool {
        is_listened_at(&self.socket)
    }

    /// Whether one listens and answers anything at all: less than [`Self::get`] says, and sooner where there is much to
    /// say. `None` if there is no forwarder.
    ///
    /// # Errors
    /// [`ForwardError::Hung`] if it doesn't answer in that time.
    pub fn answers(&self, patience: Duration) -> Result<Option<()>, ForwardError> {
        // What asks for nothing is refused in every protocol.
        match self.converse(b"\n", patience) {
            Ok(_said) => Ok(Some(())),
            Err(ForwardError::Silent { source, .. }) if nobody_is_there(&source) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Kills it; false if that can't be, for it is somewhere out of our sight, as in another container. Its device stays.
    ///
    /// # Errors
    /// [`ForwardError::Kill`].
    pub fn kill(&self) -> Result<bool, ForwardError> {
        kill(&self.socket).map_err(|source| ForwardError::Kill { path: self.socket.clone(), source })
    }

    /// Has it end.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn end(&self) -> Result<(), ForwardError> {
        self.done(&Request::Do(Deed::End), PATIENCE)
    }

    fn done(&self, request: &Request<T>, patience: Duration) -> Result<(), ForwardError> {
        match self.ask(request, patience)? {
            Answer::Done(_) => Ok(()),
            Answer::Error(why) => Err(ForwardError::Refused(why)),
            other @ Answer::State(_) => Err(self.strange(&other)),
        }
    }

    fn ask(&self, request: &Request<T>, patience: Duration) -> Result<Answer<T>, ForwardError> {
        let failed = |why: serde_json::Error| self.silent(why.into());
        let mut line = serde_json::to_vec(request).map_err(failed)?;
        line.push(b'\n');
        let answer = self.converse(&line, patience)?;
        serde_json::from_str(&answer)
            .map_err(|_other_protocol| ForwardError::Strange { path: self.socket.clone(), answer })
    }

    /// Says that and hears what is answered.
    fn converse(&self, line: &[u8], patience: Duration) -> Result<String, ForwardError> {
        let asked = || -> io::Result<String> {
            let mut stream = connect(&self.socket)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            stream.write_all(line)?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer)?;
            Ok(answer)
        };
        asked().map_err(|why| self.silent(why))
    }

    fn silent(&self, source: io::Error) -> ForwardError {
        let path = self.socket.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let pid = listener(&path).map(|pid| pid.as_raw_nonzero().get());
                ForwardError::Hung { path, pid }
            }
            _ => ForwardError::Silent { path, source },
        }
    }

    fn strange(&self, answer: &Answer<T>) -> ForwardError {
        ForwardError::Strange { path: self.socket.clone(), answer: format!("{answer:?}") }
    }
}

fn nobody_is_there(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
