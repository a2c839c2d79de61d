//! What is asked of a forwarder over its socket, one line of JSON, and what it answers, another.

use std::io::{self, BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::counters::Counts;
use crate::error::ForwardError;
use crate::task::{Task, file};

/// What requests and answers mean. An agent ends a forwarder that speaks another protocol than its own and starts one
/// that does not; `{"do":"end"}` and `state.protocol` stay what they are in every protocol to come.
pub const PROTOCOL: u32 = 1;

/// How long a forwarder may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

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
        self.done(&Request::Set(told.clone()))
    }

    /// How it is; `None` if there is no forwarder.
    ///
    /// # Errors
    /// [`ForwardError`]: [`ForwardError::Strange`] if it speaks another protocol.
    pub fn get(&self) -> Result<Option<Report<T>>, ForwardError> {
        match self.ask(&Request::Get(What::State)) {
            Ok(Answer::State(report)) if report.protocol == PROTOCOL => Ok(Some(report)),
            Ok(other) => Err(self.strange(&other)),
            Err(ForwardError::Silent { source, .. }) if nobody_is_there(&source) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Whether a forwarder listens: less than [`Self::get`] says, and sooner.
    pub fn is_there(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    /// Has it end.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn end(&self) -> Result<(), ForwardError> {
        self.done(&Request::Do(Deed::End))
    }

    fn done(&self, request: &Request<T>) -> Result<(), ForwardError> {
        match self.ask(request)? {
            Answer::Done(_) => Ok(()),
            Answer::Error(why) => Err(ForwardError::Refused(why)),
            other @ Answer::State(_) => Err(self.strange(&other)),
        }
    }

    fn ask(&self, request: &Request<T>) -> Result<Answer<T>, ForwardError> {
        let asked = || -> io::Result<String> {
            let mut stream = UnixStream::connect(&self.socket)?;
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
        let answer = asked().map_err(|source| ForwardError::Silent { path: self.socket.clone(), source })?;
        serde_json::from_str(&answer)
            .map_err(|_other_protocol| ForwardError::Strange { path: self.socket.clone(), answer })
    }

    fn strange(&self, answer: &Answer<T>) -> ForwardError {
        ForwardError::Strange { path: self.socket.clone(), answer: format!("{answer:?}") }
    }
}

fn nobody_is_there(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
