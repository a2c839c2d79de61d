//! The unix socket in the run directory: a line of JSON comes, a JSON document goes, the connection ends.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{self, AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use selvedge_model::chain;

use super::ServeError;
use super::answer::Answers;

mod conversation;

/// The socket's name in the run directory.
const NAME: &str = "agent.sock";

/// How many connections are answered at a time. The others wait in the kernel.
const CONNECTIONS: usize = 64;

/// How many connections wait in the kernel; past that, clients wait to connect.
const BACKLOG: i32 = 1024;

/// How often the socket's path is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The server at work, which makes its socket anew when somebody removes it. Dropped, it removes the socket if it is
/// still its own, and ends.
#[derive(Debug)]
pub(super) struct Socket {
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Socket {
    /// Makes the socket and starts to answer.
    pub(super) fn start(run_dir: &Path, answers: Answers) -> Result<Self, ServeError> {
        let answers = Arc::new(answers);
        let listening = Listening::start(run_dir, &answers)?;
        let (stop, stopped) = mpsc::channel();
        let (name, run_dir) = ("socket-keeper", run_dir.to_owned());
        let keeper = thread::Builder::new().name(name.to_owned());
        let keeper = keeper.spawn(move || keep(listening, &run_dir, &answers, &stopped));
        let keeper = keeper.map_err(|source| ServeError::Thread { name, source })?;
        Ok(Self { stop: Some(stop), keeper: Some(keeper) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_panic)) = self.keeper.take().map(JoinHandle::join) {
            tracing::error!("the thread that keeps the agent's socket panicked");
        }
    }
}

/// Listens until the other end of `stopped` is dropped, anew each time that nobody is at the path any more.
fn keep(mut listening: Listening, run_dir: &Path, answers: &Arc<Answers>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if listening.is_reachable() {
            continue;
        }
        match Listening::start(run_dir, answers) {
            Ok(anew) => {
                tracing::warn!(path = ?anew.path, "the agent's socket was gone and is back");
                listening = anew;
            }
            // A successor's: it answers from now on.
            Err(ServeError::Occupied { .. }) => {}
            Err(error) => tracing::warn!(error = chain(&error), "the agent's socket is gone"),
        }
    }
}

/// A socket at its path. Dropped, it removes it if it is still its own, and ends.
#[derive(Debug)]
struct Listening {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    listener: Arc<UnixListener>,
    acceptor: Option<JoinHandle<()>>,
}

impl Listening {
    fn start(run_dir: &Path, answers: &Arc<Answers>) -> Result<Self, ServeError> {
        make_run_dir(run_dir)?;
        let path = run_dir.join(NAME);
        if alive(&path) {
            return Err(ServeError::Occupied { path });
        }
        let failed = |source| ServeError::Socket { path: path.clone(), source };
        let listener = Arc::new(listen_at(&path).map_err(failed)?);
        let identity = identity(&path).map_err(failed)?;
        let mut socket = Self { path, identity, listener: Arc::clone(&listener), acceptor: None };
        let name = "socket";
        let acceptor = thread::Builder::new().name(name.to_owned());
        let answers = Arc::clone(answers);
        let acceptor = acceptor.spawn(move || accept_all(&listener, &answers));
        socket.acceptor = Some(acceptor.map_err(|source| ServeError::Thread { name, source })?);
        Ok(socket)
    }

    /// True if clients that connect at the path come here. The inode can't be another's as long as it is listened on.
    fn is_reachable(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.is_reachable()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = ?self.path, %error, "can't remove the agent's socket");
        }
        if let Err(error) = net::shutdown(&self.listener, Shutdown::Both) {
            tracing::warn!(path = ?self.path, %error, "can't stop listening");
            return;
        }
        if let Some(Err(_panic)) = self.acceptor.take().map(JoinHandle::join) {
            tracing::error!("the socket's thread panicked");
        }
    }
}

/// Makes the run directory for root alone; leaves one that is there as it is.
fn make_run_dir(path: &Path) -> Result<(), ServeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ServeError::RunDir { path: path.to_owned(), source })
}

/// True if somebody listens at the socket. One that a dead agent left behind refuses connections.
fn alive(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Listens at a path in place of what was there, which at no moment is without a socket.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let aside = path.with_extension(format!("sock.{}", process::id()));
    remove_leftover(&aside)?;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddrUnix::new(&aside)?)?;
    // Before it listens nobody can have connected with other permissions.
    let placed = fs::set_permissions(&aside, Permissions::from_mode(0o600))
        .and_then(|()| Ok(net::listen(&socket, BACKLOG)?))
        .and_then(|()| fs::rename(&aside, path));
    if placed.is_err() {
        remove_leftover(&aside)?;
    }
    placed.map(|()| UnixListener::from(socket))
}

/// Removes what an agent of the same process id has left behind.
fn remove_leftover(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Answers every connection on a thread of its own until the listener is shut down.
fn accept_all(listener: &UnixListener, answers: &Arc<Answers>) {
    let places = Arc::new(Places { free: Mutex::new(CONNECTIONS), freed: Condvar::new() });
    loop {
        let place = Places::take(&places);
        match listener.accept() {
            Ok((stream, _unnamed)) => converse(stream, Arc::clone(answers), place),
            // What accept says of a listener that was shut down.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection to the agent's socket");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn converse(stream: UnixStream, answers: Arc<Answers>, place: Place) {
    let answer = move || {
        if let Err(error) = conversation::hold(&stream, &answers) {
            tracing::debug!(%error, "a client of the agent's socket went without its answer");
        }
        drop(place);
    };
    if let Err(error) = thread::Builder::new().name("client".to_owned()).spawn(answer) {
        tracing::warn!(%error, "no thread for a client of the agent's socket");
    }
}

/// The places for connections.
struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One place, free again when dropped.
struct Place(Arc<Places>);

impl Places {
    /// Waits for a place.
    fn take(places: &Arc<Self>) -> Place {
        let free = places.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = places.freed.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Place(Arc::clone(places))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
