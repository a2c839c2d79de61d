//! One connection: a request, its answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::serve::answer::{Answers, refused};

/// The longest request in bytes, its line's end included: one with manifests in it.
const LONGEST: usize = 1 << 20;

/// How long a client has for its request, and how long for taking the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads a request and answers it. A client that asks for nothing, or doesn't wait, is fine.
pub(super) fn hold(stream: &UnixStream, answers: &Answers) -> io::Result<()> {
    let request = match read_line(&mut Timed::new(stream)) {
        Ok(request) if request.is_empty() => return Ok(()),
        Ok(request) => request,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut answer = match request.len() {
        ..=LONGEST => answers.to(&request),
        _ => refused(&format_args!("a request has up to {LONGEST} bytes")),
    };
    answer.push('\n');
    let sent =
        Timed::new(stream).write_all(answer.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write));
    match sent {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        sent => sent,
    }
}

/// What comes up to a line's end, the end of the connection, or more than a request may have.
fn read_line(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = [0; 4096];
    while line.len() <= LONGEST {
        let count = match from.read(&mut part) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            count => count?,
        };
        let part = part.get(..count).unwrap_or_default();
        match part.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                line.extend(part.iter().take(end + 1));
                break;
            }
            None if part.is_empty() => break,
            None => line.extend(part),
        }
    }
    Ok(line)
}

/// A stream with one deadline for all that is read or written.
struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self { stream, until: Instant::now() + PATIENCE }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        let mut stream = self.stream;
        stream.read(to)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        let mut stream = self.stream;
        stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
