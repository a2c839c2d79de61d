//! Entering the lab that stands: a command inside one of its machines or pods.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use selvedge_model::PodKey;

use crate::session::{Session, SessionError};
use crate::status::Status;

/// The environment variable that tells `selvedgectl` on a node where its agent's run directory is.
pub const RUN_DIR: &str = "SELVEDGE_RUN_DIR";

/// Why nothing could be executed in the lab.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The lab could not be asked.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is no such machine or pod.
    #[error("there is no {name:?} in the lab; there are {known}")]
    NoSuchPlace {
        /// The name as given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The lab's namespaces could not be entered.
    #[error("enter the lab's {what}")]
    Enter {
        /// Which.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The command could not be executed.
    #[error("execute {command:?}")]
    Execute {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Executes a command inside a pod (`namespace/name`, or a name in the namespace `default`), a node, `router`,
/// `outside` or `segment`, waits for it and says how it ended. It ends with the lab at the latest. It finds the lab's
/// programs first in its search path and, on a node, the agent's run directory in [`RUN_DIR`].
///
/// It moves the calling process, which must have one thread only, into the lab's user, PID and mount namespaces and
/// the place's network namespace; nothing else should be done with the process afterwards.
///
/// # Errors
/// [`EnterError`].
pub fn execute(mut session: Session, place: &str, command: &mut Command) -> Result<ExitStatus, EnterError> {
    let status = session.status()?;
    let netns = find(&status, place)?;
    enter(&session)?;
    let failed = |source| EnterError::Enter { what: "network namespace", source };
    let file = File::open(netns).map_err(failed)?;
    let moved = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
    moved.map_err(|errno| failed(errno.into()))?;
    if let Some(node) = status.nodes.iter().find(|node| node.name.as_str() == place) {
        command.env(RUN_DIR, &node.run_dir);
    }
    let executed = command.env("PATH", path_with(&status.bin_dir)).status();
    let name = || command.get_program().to_string_lossy().into_owned();
    executed.map_err(|source| EnterError::Execute { command: name(), source })
}

/// The namespace of a place, by its name.
fn find(status: &Status, place: &str) -> Result<PathBuf, EnterError> {
    let machines = status.nodes.iter().map(|node| node.name.as_str()).chain(["router", "outside", "segment"]);
    if machines.clone().any(|machine| machine == place) {
        return Ok(status.netns.join(place));
    }
    let wanted = place.parse::<PodKey>().ok();
    match status.pods.iter().find(|pod| Some(&pod.pod) == wanted.as_ref()) {
        Some(pod) => Ok(status.netns.join(&pod.pod.name)),
        None => {
            let pods = status.pods.iter().map(|pod| pod.pod.to_string());
            let known: Vec<String> = machines.map(str::to_owned).chain(pods).collect();
            Err(EnterError::NoSuchPlace { name: place.to_owned(), known: known.join(", ") })
        }
    }
}

/// Moves this process into the lab's mount namespace, its children into the lab's PID namespace, and both into its
/// user namespace where the lab has one of its own.
fn enter(session: &Session) -> Result<(), EnterError> {
    let Some((pidfd, pid)) = session.process() else { return Err(SessionError::NoLab.into()) };
    let mut all = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::PROCESS_ID;
    // Entering the user namespace that one is in already is refused.
    let users = |process: &str| fs::read_link(Path::new("/proc").join(process).join("ns/user"));
    let failed = |source| EnterError::Enter { what: "namespaces", source };
    if users("self").map_err(failed)? != users(&pid.as_raw_nonzero().to_string()).map_err(failed)? {
        all |= ThreadNameSpaceType::USER;
    }
    move_into_thread_name_spaces(pidfd.as_fd(), all).map_err(|errno| failed(errno.into()))
}

/// The search path with the lab's own programs first.
fn path_with(bin_dir: &Path) -> OsString {
    let mut path = bin_dir.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}
