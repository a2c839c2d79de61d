//! Network namespaces: made, opened, identified, entered and kept at a path.
//!
//! The only place with `setns` and `unshare` of network namespaces. What is done inside a namespace is the caller's.
//!
//! Invariants:
//! - a [`Namespace`] is a network namespace: nothing else can be opened as one
//! - a namespace is entered only on a thread made for it, so no thread of the caller ever changes its own
//! - while a [`Namespace`] lives, so does the kernel's object, and its [`Identity`] means nothing else

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::mount::UnmountFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

mod kernel;
#[cfg(test)]
mod tests;

/// A network namespace, held open.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    identity: Identity,
}

/// What tells a namespace from every other that exists at the same time; two paths to one namespace share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The device of the kernel's namespace file system.
    pub device: u64,
    /// The namespace's inode.
    pub inode: u64,
}

impl fmt::Display for Identity {
    /// As `readlink /proc/self/ns/net` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// Why an operation on a namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing can be opened at the path.
    #[error("open network namespace {path:?}")]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What the path names is no network namespace: a file left behind after the namespace, or another kind.
    #[error("{path:?} is not a network namespace")]
    NotANamespace {
        /// The path.
        path: PathBuf,
    },
    /// No new namespace could be made.
    #[error("make a network namespace (this needs CAP_SYS_ADMIN in the user namespace)")]
    Create {
        /// What the system said.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error(
        "enter network namespace {identity} (this needs CAP_SYS_ADMIN in its user namespace and in ours)"
    )]
    Enter {
        /// The namespace.
        identity: Identity,
        /// What the system said.
        source: io::Error,
    },
    /// No thread could be started to enter the namespace on.
    #[error("start a thread to enter a network namespace")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// No second handle could be made.
    #[error("duplicate the handle on network namespace {identity}")]
    Duplicate {
        /// The namespace.
        identity: Identity,
        /// What the system said.
        source: io::Error,
    },
    /// The namespace could not be kept at the path.
    #[error("keep network namespace {identity} at {path:?}")]
    Bind {
        /// The namespace.
        identity: Identity,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The namespace could not be taken away from the path.
    #[error("take the network namespace away from {path:?}")]
    Unbind {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl NetnsError {
    /// True if there is no namespace at the path, so that whatever was in it is gone: the path is missing, or is a
    /// file that no namespace is mounted on any more.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Open { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH | libc::ENXIO)
            ),
            Self::NotANamespace { .. } => true,
            _ => false,
        }
    }
}

impl Namespace {
    /// Opens the namespace at a path: a bind mount of one, or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`NetnsError::Open`] if nothing can be opened there, [`NetnsError::NotANamespace`] if it is something else.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        // NONBLOCK: a path that names a pipe must not hang us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let failed =
            |source: rustix::io::Errno| NetnsError::Open { path: path.to_owned(), source: source.into() };
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map_err(failed)?;
        if !kernel::is_network_namespace(fd.as_fd()) {
            return Err(NetnsError::NotANamespace { path: path.to_owned() });
        }
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        Ok(Self { fd, identity: Identity { device: stat.st_dev, inode: stat.st_ino } })
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// As [`Self::open`]: where `/proc` is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of_process(pid: u32) -> Result<Self, NetnsError> {
        Self::open(&PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// Makes a new namespace, with its loopback down. Only the returned value keeps it alive.
    ///
    /// # Errors
    /// [`NetnsError::Create`] where the kernel refuses.
    pub fn create() -> Result<Self, NetnsError> {
        on_a_thread(|| {
            kernel::unshare_network().map_err(|source| NetnsError::Create { source })?;
            Self::current()
        })
    }

    /// A second handle on the same namespace.
    ///
    /// # Errors
    /// [`NetnsError::Duplicate`] when descriptors run out.
    pub fn try_clone(&self) -> Result<Self, NetnsError> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|source| NetnsError::Duplicate { identity: self.identity, source })?;
        Ok(Self { fd, identity: self.identity })
    }

    /// Which namespace this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Runs a function inside the namespace, on a thread made for it, and returns what it returned.
    ///
    /// Sockets opened there stay in the namespace wherever they are used afterwards. A panic of the function goes on
    /// in the caller.
    ///
    /// # Errors
    /// [`NetnsError::Enter`] or [`NetnsError::Thread`]; the function has not run then.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_a_thread(|| {
            move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| NetnsError::Enter { identity: self.identity, source: errno.into() })?;
            Ok(inside())
        })
    }

    /// Keeps the namespace at a path by a bind mount on a file made for it, until [`Self::unbind`].
    ///
    /// # Errors
    /// [`NetnsError::Bind`], also if something exists at the path; nothing is left there then.
    pub fn bind(&self, path: &Path) -> Result<(), NetnsError> {
        let failed = |errno: rustix::io::Errno| NetnsError::Bind {
            identity: self.identity,
            path: path.to_owned(),
            source: errno.into(),
        };
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(rustix::fs::open(path, flags, Mode::RUSR).map_err(failed)?);
        rustix::mount::mount_bind(kernel::path_of(self.as_fd()), path).map_err(|errno| {
            // The mount's failure is what the caller must hear of, whatever becomes of the file.
            rustix::fs::unlink(path).map_or_else(|_file_stays| failed(errno), |()| failed(errno))
        })
    }

    /// Takes a namespace away from the path where [`Self::bind`] put it, file and all. A path that is missing or
    /// only half made (a file without its mount) is no error.
    ///
    /// # Errors
    /// [`NetnsError::Unbind`].
    pub fn unbind(path: &Path) -> Result<(), NetnsError> {
        use rustix::io::Errno;
        let failed = |errno: Errno| Err(NetnsError::Unbind { path: path.to_owned(), source: errno.into() });
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return failed(errno),
        }
        match rustix::fs::unlink(path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => failed(errno),
        }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs a function on a thread of its own to its end.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, NetnsError> + Send) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| NetnsError::Thread { source })?;
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
