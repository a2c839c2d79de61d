//! Executes a CNI plugin the way a runtime does: the environment, the configuration on stdin, and what it printed.
//!
//! The child gets SIGKILL when we die or when the deadline passes, and nothing it leaves behind can keep us waiting:
//! once it has exited, only what is already in its pipes is read. What the answer means is for `selvedge-cni` to say.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

mod death;
mod pipes;

use pipes::Pipes;

/// The most that is read of an answer, in bytes; more is an error.
const MOST: usize = 4 << 20;

/// How often a program that is being replaced (ETXTBSY) is tried, and how long in between.
const BUSY_TRIES: u32 = 6;
const BUSY_WAIT: Duration = Duration::from_millis(200);

/// One execution of a plugin.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The program.
    pub program: &'a Path,
    /// Variables set on top of our own environment.
    pub env: &'a [(&'a str, String)],
    /// The configuration.
    pub stdin: &'a [u8],
    /// How long it may take.
    pub deadline: Duration,
}

/// What the plugin left.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DelegateError {
    /// The program can't be started.
    #[error("start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Talking to the program failed.
    #[error("exchange with {}", program.display())]
    Exchange {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The program took too long and was killed.
    #[error("{} gave no answer within {} s and was killed", program.display(), deadline.as_secs_f32())]
    Deadline {
        /// The program.
        program: PathBuf,
        /// The time it had.
        deadline: Duration,
    },
    /// The answer is longer than any result can be.
    #[error("{} printed more than {MOST} bytes", program.display())]
    TooLong {
        /// The program.
        program: PathBuf,
    },
}

/// Runs the plugin to its end. What it says on stderr, we say on ours.
pub fn run(call: Call<'_>) -> Result<Answer, DelegateError> {
    let program = || call.program.to_owned();
    let mut child = start(call).map_err(|source| DelegateError::Start { program: program(), source })?;
    let talked = converse(&mut child, call);
    if !matches!(talked, Ok(Some(_))) {
        // An exited child can't be killed, which is as good.
        child.kill().ok();
    }
    let status = child.wait();
    let exchange = |source| DelegateError::Exchange { program: program(), source };
    let stdout = talked.map_err(exchange)?;
    let stdout =
        stdout.ok_or_else(|| DelegateError::Deadline { program: program(), deadline: call.deadline })?;
    if stdout.len() > MOST {
        return Err(DelegateError::TooLong { program: program() });
    }
    Ok(Answer { status: status.map_err(exchange)?, stdout })
}

fn start(call: Call<'_>) -> std::io::Result<Child> {
    let mut command = Command::new(call.program);
    command.envs(call.env.iter().map(|(name, value)| (*name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    death::follows_ours(&mut command);
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(BUSY_WAIT);
            }
            other => return other,
        }
    }
}

/// Feeds the configuration and reads the answer; `None` if the deadline passed.
fn converse(child: &mut Child, call: Call<'_>) -> std::io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + call.deadline;
    let mut pipes = Pipes::of(child)?;
    let (mut answer, mut rest) = (Vec::new(), call.stdin);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let gone = pipes.wait(left)?;
        rest = pipes.feed(rest)?;
        pipes.read(&mut answer)?;
        if gone || answer.len() > MOST {
            return Ok(Some(answer));
        }
    }
}

#[cfg(test)]
mod tests;
