//! The other end: starting a lab, finding the one that stands, and asking it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::matrix::Matrix;
use crate::status::Status;
use crate::supervisor::SUPERVISE;
use crate::wire::{Reply, Request, Start, Wire};

pub use crate::wire::Recipe;

/// Where the one lab that stands keeps what is the host's: its socket and its log.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// Why the lab could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A lab stands already.
    #[error("a lab stands already: `selvedgectl lab status` shows it, `selvedgectl lab down` takes it down")]
    Standing,
    /// No lab stands.
    #[error("no lab stands: `selvedgectl lab up` makes one")]
    NoLab,
    /// The state directory can't be used.
    #[error("use the state directory {path:?}")]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state directory is somebody else's.
    #[error("the state directory {path:?} belongs to another user: say with --state-dir which to take")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The lab's process could not be started.
    #[error("start the lab's process")]
    Start {
        /// What the system said.
        source: io::Error,
    },
    /// The lab does not answer.
    #[error("talk to the lab")]
    Talk {
        /// What the system said.
        source: io::Error,
    },
    /// The lab's process has ended.
    #[error("the lab has ended before it answered")]
    HungUp,
    /// The lab says that it did not work.
    #[error("{0}")]
    Failed(String),
    /// The lab's process can't be followed.
    #[error("watch the lab's process")]
    Watch {
        /// What the system said.
        source: io::Error,
    },
}

/// A conversation with a lab.
#[derive(Debug)]
pub struct Session {
    wire: Wire,
    end: End,
}

/// What tells that the lab's process has ended.
#[derive(Debug)]
enum End {
    /// It is a child of ours.
    Child(Child),
    /// It is the process behind the socket.
    Process { pid: Pid, pidfd: OwnedFd, state: StateDir },
}

impl StateDir {
    /// Root's is `/run/selvedge-lab`; others' is in `$XDG_RUNTIME_DIR`, or else, with the user's number in its name,
    /// in the directory for temporary files.
    pub fn of_caller() -> Self {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return Self(PathBuf::from("/run/selvedge-lab"));
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
        Self(match runtime {
            Some(directory) => PathBuf::from(directory).join("selvedge-lab"),
            None => std::env::temp_dir().join(format!("selvedge-lab-{}", uid.as_raw())),
        })
    }

    /// A directory of the caller's choice.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// What the lab that stands printed.
    pub fn log(&self) -> PathBuf {
        self.0.join("lab.log")
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    fn failed(&self, source: io::Error) -> SessionError {
        SessionError::State { path: self.0.clone(), source }
    }

    /// The directory, if there is one, must be the caller's: in a directory for temporary files anybody may make one.
    fn check_owner(&self) -> Result<(), SessionError> {
        match fs::symlink_metadata(&self.0) {
            Ok(found) if found.uid() == rustix::process::geteuid().as_raw() => Ok(()),
            Ok(_) => Err(SessionError::Foreign { path: self.0.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Makes the directory, readable for nobody else, and holds it against others who are starting a lab.
    fn claim(&self) -> Result<File, SessionError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        self.check_owner()?;
        let lock = made.and_then(|()| File::create(self.lock())).map_err(|e| self.failed(e))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(SessionError::Standing),
            Err(TryLockError::Error(source)) => Err(self.failed(source)),
        }
    }

    /// The socket of the lab that stands. What a dead one left is removed.
    fn connect(&self) -> Result<UnixStream, SessionError> {
        self.check_owner()?;
        match UnixStream::connect(self.socket()) {
            Ok(stream) => Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SessionError::NoLab),
            // A socket that nobody listens at: its process was killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.remove()?;
                Err(SessionError::NoLab)
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Removes what a lab left. The directory may be one that holds other things: those stay, and it with them.
    fn remove(&self) -> Result<(), SessionError> {
        for file in [self.socket(), self.log(), self.lock()] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(error)),
                _ => {}
            }
        }
        // It stays where it isn't empty, and where it isn't the caller's to remove (a link, a mount point).
        fs::remove_dir(&self.0).ok();
        Ok(())
    }
}

impl Session {
    /// Starts a lab that goes when this process goes, and waits until it is ready. `progress` is told what it does.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is left then.
    pub fn run(recipe: Recipe, progress: impl FnMut(&str)) -> Result<(Self, Status), SessionError> {
        let start = Start { recipe, standing: None };
        let mut session = Self::start(&start, Stdio::inherit(), Stdio::inherit())?;
        let status = session.await_status(progress)?;
        Ok((session, status))
    }

    /// Starts a lab that stands on, and waits until it is ready.
    ///
    /// # Errors
    /// [`SessionError`], [`SessionError::Standing`] if there is one; nothing is left then.
    pub fn up(recipe: Recipe, state: &StateDir, progress: impl FnMut(&str)) -> Result<Status, SessionError> {
        let claim = state.claim()?;
        match UnixStream::connect(state.socket()) {
            Ok(_) => return Err(SessionError::Standing),
            Err(_) => fs::remove_file(state.socket()).ok(),
        };
        let start = Start { recipe, standing: Some(state.socket()) };
        let log = File::create(state.log()).and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|source| state.failed(source))?;
        let status = Self::start(&start, out.into(), err.into())
            .and_then(|mut session| session.await_status(progress).inspect_err(|_| session.wait_quietly()));
        drop(claim);
        status.inspect_err(|_| {
            // The reason why there is no lab matters more than what it left.
            state.remove().ok();
        })
    }

    /// Connects to the lab that stands.
    ///
    /// # Errors
    /// [`SessionError::NoLab`] if there is none, also if its process was killed: what it left is removed then.
    pub fn connect(state: &StateDir) -> Result<Self, SessionError> {
        let stream = state.connect()?;
        let watch_failed = |errno: rustix::io::Errno| SessionError::Watch { source: errno.into() };
        let pid = socket_peercred(&stream).map_err(watch_failed)?.pid;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(watch_failed)?;
        let wire = Wire::new(stream).map_err(|source| SessionError::Talk { source })?;
        Ok(Self { wire, end: End::Process { pid, pidfd, state: state.clone() } })
    }

    /// The lab's first process, as a descriptor and a number; `None` for a lab of [`Session::run`].
    pub fn process(&self) -> Option<(&OwnedFd, Pid)> {
        match &self.end {
            End::Child(_) => None,
            End::Process { pid, pidfd, .. } => Some((pidfd, *pid)),
        }
    }

    /// Has every path probed.
    ///
    /// # Errors
    /// [`SessionError`]; broken paths are in the matrix.
    pub fn matrix(&mut self) -> Result<Matrix, SessionError> {
        match self.ask(Request::Matrix)? {
            Reply::Matrix(matrix) => Ok(matrix),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks how everything is.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn status(&mut self) -> Result<Status, SessionError> {
        match self.ask(Request::Status)? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks what the agents say is amiss: a line each, with the node's name.
    ///
    /// # Errors
    /// [`SessionError`]; an agent that does not answer is a line too.
    pub fn words(&mut self) -> Result<Vec<String>, SessionError> {
        match self.ask(Request::Words)? {
            Reply::Words(words) => Ok(words),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes the lab down and waits until its process is gone; what the pods left on the nodes.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn down(mut self) -> Result<Vec<String>, SessionError> {
        let reply = self.ask(Request::Down);
        self.wait()?;
        match reply? {
            Reply::Down(left) => Ok(left),
            other => Err(unexpected(&other)),
        }
    }

    fn start(start: &Start, out: Stdio, err: Stdio) -> Result<Self, SessionError> {
        let failed = |source| SessionError::Start { source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(SUPERVISE).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(out).stderr(err);
        if start.standing.is_some() {
            // What is typed at the terminal later is not meant for it.
            command.process_group(0);
        }
        let child = command.spawn().map_err(failed)?;
        // The command holds their end as well: only once it is gone does the end of their process hang up on us.
        drop(command);
        let mut wire = Wire::new(ours).map_err(failed)?;
        // A process that has ended already has said why: that is heard next.
        wire.send(start).ok();
        Ok(Self { wire, end: End::Child(child) })
    }

    fn await_status(&mut self, progress: impl FnMut(&str)) -> Result<Status, SessionError> {
        match self.hear(progress)? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&mut self, request: Request) -> Result<Reply, SessionError> {
        self.wire.send(&request).map_err(|source| SessionError::Talk { source })?;
        self.hear(|_| ())
    }

    fn hear(&mut self, mut progress: impl FnMut(&str)) -> Result<Reply, SessionError> {
        loop {
            match self.wire.receive().map_err(|source| SessionError::Talk { source })? {
                None => return Err(SessionError::HungUp),
                Some(Reply::Progress(doing)) => progress(&doing),
                Some(Reply::Failed(text)) => return Err(SessionError::Failed(text)),
                Some(reply) => return Ok(reply),
            }
        }
    }

    fn wait(&mut self) -> Result<(), SessionError> {
        let failed = |source| SessionError::Watch { source };
        match &mut self.end {
            End::Child(child) => child.wait().map(drop).map_err(failed),
            End::Process { pidfd, state, .. } => {
                let mut ended = [PollFd::new(pidfd, PollFlags::IN)];
                poll(&mut ended, None).map_err(|errno| failed(errno.into()))?;
                state.remove()
            }
        }
    }

    fn wait_quietly(&mut self) {
        self.wait().ok();
    }
}

fn unexpected(reply: &Reply) -> SessionError {
    SessionError::Talk { source: io::Error::other(format!("an answer to another question: {reply:?}")) }
}
