//! What the agent says of itself and to whom: everything over a unix socket, for `selvedgectl` and the plugin; health
//! and metrics over HTTP, for the kubelet and Prometheus.
//!
//! Nothing here decides or changes anything. What a client asks to be done is passed on to the loop by callbacks. The
//! loop shares its [`Status`] under a lock that nobody holds longer than it takes to copy it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use selvedge_explain::{Explanation, Filter, Matrix, Query};
use selvedge_model::IfName;
use selvedge_policy::Totals;
use selvedge_reconcile::Standing;
use selvedge_reconcile::status::{State, Status};
use selvedge_whatif::{Proposal, Tried};

mod answer;
mod health;
mod http;
mod metrics;
mod socket;

use answer::Answers;
use health::Health;
use http::Http;
use socket::Socket;

/// Something that a client asks for. It is called on a thread of the connection's own and should only leave word.
pub(crate) type Callback = Box<dyn Fn() + Send + Sync>;

/// Waits a while until the attachment at a host end, by its owner record, is in force, for which its ADD has waited so
/// long. How its Pod stands then; `None` if it is to be asked for again.
pub(crate) type Admit = Box<dyn Fn(&IfName, &str, Duration) -> Option<Standing> + Send + Sync>;

/// Says what becomes of what one end sends to another, or why that can't be said.
pub(crate) type Explain = Box<dyn Fn(&Query) -> Result<Explanation, String> + Send + Sync>;

/// What there is to count of policies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    /// What they have admitted and denied.
    pub(crate) totals: Totals,
    /// How often packets came faster than they could be told.
    pub(crate) lost: u64,
}

/// Says what there is to count of policies, now.
pub(crate) type Figures = Box<dyn Fn() -> Policies + Send + Sync>;

/// Says which pods reach which others, or why that can't be said.
pub(crate) type Reach = Box<dyn Fn(&Filter) -> Result<Matrix, String> + Send + Sync>;

/// Says what manifests would change, or why that can't be said.
pub(crate) type Try = Box<dyn Fn(&Proposal) -> Result<Tried, String> + Send + Sync>;

/// What is served and where.
pub(crate) struct Options {
    /// The directory for `agent.sock`. It is made, for root alone, where it isn't there.
    pub(crate) run_dir: PathBuf,
    /// Where HTTP is served, if at all. Port 0 stands for any free one.
    pub(crate) listen: Option<SocketAddr>,
    /// What is said. The loop keeps it up to date.
    pub(crate) status: Arc<Mutex<Status>>,
    /// How long the loop may go without ending a pass before `/healthz` calls it stuck.
    pub(crate) patience: Duration,
    /// What there is to count of policies.
    pub(crate) figures: Figures,
    /// Veths wait in the reap group.
    pub(crate) on_reap: Callback,
    /// Somebody asks why something passes, or doesn't.
    pub(crate) on_explain: Explain,
    /// Somebody asks what manifests would change.
    pub(crate) on_try: Try,
    /// Somebody asks which pods reach which others.
    pub(crate) on_matrix: Reach,
    /// An ADD waits for its attachment to be in force.
    pub(crate) on_admit: Admit,
    /// Somebody wants a pass now.
    pub(crate) on_reconcile: Callback,
}

/// The servers at work. Dropped, it stops them and removes the socket if it is still the one that was made here;
/// clients of the socket that are being answered still get their answer.
#[derive(Debug)]
pub(crate) struct Serving {
    _http: Option<Http>,
    _socket: Socket,
}

/// Why there is nothing served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The run directory can't be made.
    #[error("make the run directory {path:?} (--run-dir)")]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another agent answers at the socket.
    #[error("another agent answers at {path:?}: stop it, or give this one a --run-dir of its own")]
    Occupied {
        /// The socket.
        path: PathBuf,
    },
    /// The socket can't be made.
    #[error("make the agent's socket {path:?} (--run-dir)")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address can't be listened on.
    #[error("listen for HTTP on {address} (--listen)")]
    Listen {
        /// The address as given.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("start the thread {name:?}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Starts to serve. Everything is bound when it returns.
pub(crate) fn start(options: Options) -> Result<Serving, ServeError> {
    let status = Shared(options.status);
    let answers = Answers {
        status: status.clone(),
        on_reap: options.on_reap,
        on_explain: options.on_explain,
        on_try: options.on_try,
        on_matrix: options.on_matrix,
        on_admit: options.on_admit,
        on_reconcile: options.on_reconcile,
    };
    let socket = Socket::start(&options.run_dir, answers)?;
    let http = match options.listen {
        Some(address) => {
            Some(Http::start(address, (status, options.figures), Health::starting(options.patience))?)
        }
        None => None,
    };
    Ok(Serving { _http: http, _socket: socket })
}

/// The loop's status, for reading.
#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Status>>);

impl Shared {
    /// Looks at the status. A loop that panicked leaves its last word.
    fn read<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a node isn't as it should be; nothing where it is.
fn reason(state: &State) -> Option<String> {
    match state {
        State::Ready => None,
        State::Waiting { reason } => Some(reason.clone()),
        State::Degraded { reasons } | State::Failed { reasons } => Some(reasons.join("; ")),
    }
}

#[cfg(test)]
mod tests;
