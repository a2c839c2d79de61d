//! The pipes to a child, none of which outlives the child's exit: a process that it leaves behind may hold them open.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The most that is read of a pipe before the others get their turn: more than a pipe holds.
const TURN: u64 = 1 << 20;

/// What connects us to a child. A pipe that has served is `None`.
#[derive(Debug)]
pub(crate) struct Pipes {
    exited: OwnedFd,
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Pipes {
    /// Takes the pipes of a child that was started with all three.
    pub(crate) fn of(child: &mut Child) -> std::io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        Ok(Self {
            exited: pidfd_open(pid, PidfdFlags::empty())?,
            stdin: child.stdin.take().map(nonblocking).transpose()?,
            stdout: child.stdout.take().map(nonblocking).transpose()?,
            stderr: child.stderr.take().map(nonblocking).transpose()?,
        })
    }

    /// Waits for something to happen; true if the child has exited.
    pub(crate) fn wait(&self, left: Duration) -> std::io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.exited, PollFlags::IN)];
        fds.extend(
            [&self.stdout, &self.stderr].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        fds.extend(self.stdin.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        let left = Timespec::try_from(left).map_err(|_out_of_range| Errno::INVAL)?;
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(fds[0].revents().contains(PollFlags::IN)),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes what stdin takes, returns the rest, and closes it after the last byte.
    pub(crate) fn feed<'a>(&mut self, bytes: &'a [u8]) -> std::io::Result<&'a [u8]> {
        let Some(stdin) = &mut self.stdin else { return Ok(bytes) };
        let rest = match stdin.write(bytes) {
            Ok(written) => bytes.get(written..).unwrap_or_default(),
            // A reader that is gone needs no more.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => &[],
            Err(e) if is_pause(&e) => bytes,
            Err(e) => return Err(e),
        };
        if rest.is_empty() {
            self.stdin = None;
        }
        Ok(rest)
    }

    /// Adds to the answer what is in stdout, and passes on to our stderr what is in the child's.
    pub(crate) fn read(&mut self, answer: &mut Vec<u8>) -> std::io::Result<()> {
        drain(&mut self.stdout, answer)?;
        let mut said = Vec::new();
        drain(&mut self.stderr, &mut said)?;
        // Where nobody listens to us, nobody would have listened to the child.
        std::io::stderr().write_all(&said).ok();
        Ok(())
    }
}

/// Reads what is there, and closes a pipe that has ended: it would be readable for ever.
fn drain(pipe: &mut Option<File>, into: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(file) = pipe else { return Ok(()) };
    match file.take(TURN).read_to_end(into) {
        Ok(read) if u64::try_from(read).is_ok_and(|read| read < TURN) => *pipe = None,
        Ok(_) => {}
        // `read_to_end` keeps what it has read before it failed.
        Err(e) if is_pause(&e) => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn nonblocking(pipe: impl Into<OwnedFd>) -> std::io::Result<File> {
    let pipe = pipe.into();
    rustix::io::ioctl_fionbio(pipe.as_fd(), true)?;
    Ok(File::from(pipe))
}
