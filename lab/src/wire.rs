//! How the lab's first process and those who talk to it understand each other: a line of JSON each way.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::matrix::Matrix;
use crate::shape::Shape;
use crate::status::Status;

/// What a lab is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// What it looks like.
    pub shape: Shape,
    /// Where the binaries `selvedge` and `selvedge-agent` are, as an absolute path.
    pub bin_dir: PathBuf,
}

/// What the lab's first process is told first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// The lab to build.
    pub recipe: Recipe,
    /// Where to listen, if the lab is to stand on when the other end hangs up.
    pub standing: Option<PathBuf>,
}

/// What it is asked for, once it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Probe every path.
    Matrix,
    /// Say how everything is.
    Status,
    /// Say what the agents say is amiss.
    Words,
    /// Detach the pods and end.
    Down,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// What it is doing; another reply follows.
    Progress(String),
    /// The lab stands; or the answer to [`Request::Status`].
    Status(Status),
    /// The answer to [`Request::Matrix`].
    Matrix(Matrix),
    /// The answer to [`Request::Words`].
    Words(Vec<String>),
    /// The answer to [`Request::Down`]: what was left behind.
    Down(Vec<String>),
    /// It did not work.
    Failed(String),
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Wire {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(stream.try_clone()?), writer: stream })
    }

    /// Sends one message.
    pub(crate) fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_string(message).map_err(io::Error::other)?;
        line.push('\n');
        self.writer.write_all(line.as_bytes())
    }

    /// Waits for the next message; `None` if the other end has hung up.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        receive(&mut self.reader)
    }

    /// The two directions, for use on two threads.
    pub(crate) fn split(self) -> (BufReader<UnixStream>, UnixStream) {
        (self.reader, self.writer)
    }
}

/// Waits for the next message; `None` if the other end has hung up.
pub(crate) fn receive<T: DeserializeOwned>(reader: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    match reader.read_line(&mut line)? {
        0 => Ok(None),
        _ => serde_json::from_str(&line).map(Some).map_err(io::Error::other),
    }
}
