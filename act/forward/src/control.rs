//! The forwarder's socket in the run directory.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use selvedge_model::chain;

use crate::client::{Answer, Deed, PROTOCOL, Report, Request};
use crate::codec::Codec;
use crate::error::ForwardError;
use crate::shared::Shared;
use crate::task::Task;

/// How often the socket's path is looked at.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// How long a client may take to say something.
const PATIENCE: Duration = Duration::from_secs(2);

/// Thousands of nodes fit in.
const LONGEST: u64 = 16 << 20;

/// The socket, listening.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    listener: UnixListener,
    inode: u64,
}

/// What a client may be told of besides what is shared.
#[derive(Debug)]
pub(crate) struct About {
    /// The lock, as it was made: without it there may be a second forwarder.
    pub(crate) lock: (PathBuf, u64),
    pub(crate) version: String,
}

impl Control {
    /// Listens at a path. Whoever did so before is gone, which the caller knows by a lock.
    pub(crate) fn listen(path: &Path) -> Result<Self, ForwardError> {
        let made = || -> io::Result<Self> {
            match fs::remove_file(path) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => {}
            }
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            Ok(Self { path: path.to_owned(), listener, inode: fs::metadata(path)?.ino() })
        };
        made().map_err(|source| ForwardError::File { path: path.to_owned(), source })
    }

    /// Answers until somebody asks for the end, or removes the lock. A socket that was removed is made anew.
    pub(crate) fn answer<C: Codec>(mut self, shared: &Arc<Shared<C>>, about: &About) {
        loop {
            let mut waiting = [PollFd::new(&self.listener, PollFlags::IN)];
            let came = poll(&mut waiting, Some(&LOOK)).unwrap_or(0);
            if came > 0
                && let Ok((stream, _)) = self.listener.accept()
                && converse(stream, shared, about).unwrap_or(false)
            {
                return;
            }
            let (lock, inode) = &about.lock;
            if !is_at(lock, *inode) {
                return;
            }
            if !is_at(&self.path, self.inode)
                && let Ok(anew) = Self::listen(&self.path)
            {
                self = anew;
            }
        }
    }
}

fn is_at(path: &Path, inode: u64) -> bool {
    fs::metadata(path).is_ok_and(|there| there.ino() == inode)
}

/// Answers one client; true if the forwarder is to end.
fn converse<C: Codec>(stream: UnixStream, shared: &Arc<Shared<C>>, about: &About) -> io::Result<bool> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?.take(LONGEST)).read_line(&mut line)?;
    let (answer, end) = match serde_json::from_str(&line) {
        Ok(request) => respond(request, shared, about),
        Err(why) => (Answer::Error(format!("{why} in the request")), false),
    };
    let mut answer = serde_json::to_vec(&answer)?;
    answer.push(b'\n');
    (&stream).write_all(&answer)?;
    Ok(end)
}

fn respond<C: Codec>(
    request: Request<C::Task>,
    shared: &Arc<Shared<C>>,
    about: &About,
) -> (Answer<C::Task>, bool) {
    match request {
        Request::Set(told) => match Shared::set(shared, told) {
            Ok(()) => (Answer::Done(true), false),
            Err(why) => (Answer::Error(chain(&why)), false),
        },
        Request::Get(_) => {
            let report = Report {
                protocol: PROTOCOL,
                pid: std::process::id(),
                version: about.version.clone(),
                device: C::Task::DEVICE.to_owned(),
                queues: shared.queues().len(),
                forwarding: shared.active().map(|active| active.told.clone()),
                counters: shared.counters.read(),
            };
            (Answer::State(report), false)
        }
        Request::Do(Deed::End) => (Answer::Done(true), true),
    }
}
