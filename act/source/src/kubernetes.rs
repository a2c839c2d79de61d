//! The Kubernetes API: its Nodes, Pods, Namespaces and NetworkPolicies, listed once and then watched. Of other nodes'
//! pods only what policies ask for is kept.
//!
//! What was complete once stays in force whatever becomes of the API: a listing takes its place only as a whole. Errors
//! are retried for ever, after 1 to 30 seconds.

mod access;
mod connection;
mod credentials;
mod failure;
mod following;
mod heard;
mod known;
mod kubeconfig;
mod login;
mod object;
mod provider;
mod standing;
mod tls;

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use selvedge_model::{Cluster, NodeName};
use tokio::runtime;
use tokio::sync::{oneshot, watch};

pub use login::LoginError;
pub use standing::{Duties, TAINT};
pub use tls::TlsError;

use crate::yaml::Located;

/// How the API is reached. Files of credentials that change are read again for the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// As a pod reaches it: by the environment that kubelet gives it, with its service account's token.
    InCluster,
    /// As the current context of a kubeconfig file says.
    Kubeconfig(PathBuf),
}

/// The API can't be asked, whether it is there or not.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// There is no kubeconfig, and we are no pod.
    #[error("the Kubernetes API can't be reached from outside a pod without a kubeconfig")]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig can't be used.
    #[error("the kubeconfig {} can't be used", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<Located>,
    },
    /// A file that was named can't be read.
    #[error("the {what} {} can't be read", file.display())]
    File {
        /// What it is to be.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate or a key is no good.
    #[error("no connection to the Kubernetes API can be prepared")]
    Tls(#[source] TlsError),
    /// The user's credentials can't be had.
    #[error("nobody can be logged in at the Kubernetes API")]
    Login(#[source] LoginError),
    /// The system gives no more threads or descriptors.
    #[error("the Kubernetes API can't be followed")]
    Thread(#[source] io::Error),
}

/// How things stand with the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// By the last complete listing of every kind and what was heard since; `None` before the first.
    pub cluster: Option<Cluster>,
    /// False if an object has never been readable: nothing should be pruned because the cluster lacks it.
    pub whole: bool,
    /// What is wrong with objects, and with the connection.
    pub problems: Vec<String>,
    /// Since when the cluster may have changed without our hearing of it.
    pub lost: Option<SystemTime>,
}

/// The API being followed on a thread of its own, until this is dropped or an update's receiver breaks off. Dropping it
/// waits for that thread.
#[derive(Debug)]
pub struct Follower {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Follows the API for a node: hands over each update that differs from the one before, on the follower's thread, until
/// `deliver` breaks off.
///
/// # Errors
/// [`ReachError`]. An API that doesn't answer is none: that is a problem of the first update.
pub fn follow(
    reach: &Reach,
    node: &NodeName,
    deliver: impl FnMut(Update) -> ControlFlow<()> + Send + 'static,
) -> Result<Follower, ReachError> {
    follow_on_duty(reach, (node, None), deliver)
}

/// The same for a Node's agent, which tells the cluster besides once it serves pods, as long as it follows the API.
///
/// # Errors
/// As [`follow`].
pub fn follow_on_duty(
    reach: &Reach,
    (node, duties): (&NodeName, Option<Duties>),
    deliver: impl FnMut(Update) -> ControlFlow<()> + Send + 'static,
) -> Result<Follower, ReachError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(ReachError::Thread)?;
    let (client, heard) = runtime.block_on(async { connection::client(reach) })?;
    let (stop, stopped) = oneshot::channel();
    let node = node.clone();
    let (standing, known) = watch::channel(None);
    let thread = thread::Builder::new().name("kubernetes".to_owned());
    let thread = thread.spawn(move || {
        runtime.block_on(async {
            let duty = async {
                match duties {
                    Some(duties) => standing::keep(client.clone(), (node.clone(), duties), known).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = following::follow((&client, heard), (&node, standing), deliver) => {}
                () = duty => {}
                // Also when the other end is dropped.
                _ = stopped => {}
            }
        });
    });
    Ok(Follower { stop: Some(stop), thread: Some(thread.map_err(ReachError::Thread)?) })
}
