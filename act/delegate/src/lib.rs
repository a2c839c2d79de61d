//! Executes a CNI plugin the way a runtime does: the environment, the configuration on stdin, and what it printed.
//!
//! The child gets SIGKILL when we die or when the deadline passes, and nothing it leaves behind can keep us waiting:
//! once it has exited, only what is already in the pipe is read. What the answer means is for `selvedge-cni` to say.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

mod death;

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

/// Runs the plugin to its end. Its stderr is ours.
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
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
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
    let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let exited = pidfd_open(raw, PidfdFlags::empty())?;
    let stdout = child.stdout.take().map(OwnedFd::from).ok_or(Errno::BADF)?;
    let mut stdin = child.stdin.take().map(|stdin| File::from(OwnedFd::from(stdin)));
    if let Some(stdin) = &stdin {
        nonblocking(stdin)?;
    }
    nonblocking(&stdout)?;
    let mut stdout = File::from(stdout);
    let (mut answer, mut rest) = (Vec::new(), call.stdin);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let gone = wait(&[exited.as_fd()], stdin.as_ref().map(AsFd::as_fd), stdout.as_fd(), left)?;
        if let Some(writer) = &mut stdin {
            rest = feed(writer, rest)?;
            if rest.is_empty() {
                stdin = None;
            }
        }
        read_available(&mut stdout, &mut answer)?;
        if gone || answer.len() > MOST {
            return Ok(Some(answer));
        }
    }
}

/// Waits for something to happen; true if the child has exited.
fn wait(
    exited: &[BorrowedFd<'_>; 1],
    stdin: Option<BorrowedFd<'_>>,
    stdout: BorrowedFd<'_>,
    left: Duration,
) -> std::io::Result<bool> {
    let mut fds = vec![PollFd::from_borrowed_fd(exited[0], PollFlags::IN)];
    fds.push(PollFd::from_borrowed_fd(stdout, PollFlags::IN));
    fds.extend(stdin.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
    // A closed stdout is readable for ever: a child that closed it and lives on is looked at now and then.
    let pause = left.min(Duration::from_secs(1));
    let pause = Timespec::try_from(pause).map_err(|_out_of_range| Errno::INVAL)?;
    match poll(&mut fds, Some(&pause)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    let gone = fds[0].revents().contains(PollFlags::IN);
    if !gone && fds[1].revents() == PollFlags::HUP {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(gone)
}

/// Writes what the pipe takes and returns the rest. A reader that is gone needs no more.
fn feed<'a>(writer: &mut File, bytes: &'a [u8]) -> std::io::Result<&'a [u8]> {
    match writer.write(bytes) {
        Ok(written) => Ok(bytes.get(written..).unwrap_or_default()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(&[]),
        Err(e) if is_pause(&e) => Ok(bytes),
        Err(e) => Err(e),
    }
}

fn read_available(reader: &mut File, answer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut chunk = [0; 4096];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(e) if is_pause(&e) => return Ok(()),
            Err(e) => return Err(e),
        }
        if answer.len() > MOST {
            return Ok(());
        }
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

fn nonblocking(fd: impl AsFd) -> std::io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

#[cfg(test)]
mod tests;
