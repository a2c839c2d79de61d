//! The threads that tell the loop when to look: the cluster's source, and the kernel's notifications; and when to end.

use std::error::Error;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use selvedge_datapath::Prune;
use selvedge_model::Cluster;
use selvedge_netlink::Event;
use selvedge_reconcile::status::since_1970_ms;
use selvedge_reconcile::{Status, Trigger};
use selvedge_source::kubernetes::{self, Duties, Follower, Reach};
use selvedge_source::{Directories, Snapshot, Watcher};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tracing::{error, warn};

use crate::flags::Flags;
use crate::send;
use crate::wiring::{GRACE, Setup};

/// What tells of the cluster, until it is dropped.
#[expect(dead_code, reason = "they are held, and end when they are dropped")]
pub(crate) enum Source {
    Manifests(Watcher),
    Kubernetes(Follower),
}

/// Watches the cluster where the command line says that it is described: each complete state goes to the loop, what is
/// wrong into the status.
pub(crate) fn source(
    flags: &Flags,
    triggers: Sender<Trigger>,
    (status, setup): (&Arc<Mutex<Status>>, &Setup),
) -> Result<Source, Box<dyn Error>> {
    let told = Told { triggers, status: Arc::clone(status) };
    let Some(directory) = &flags.source.manifests else {
        let reach = flags.source.kubeconfig.clone().map_or(Reach::InCluster, Reach::Kubeconfig);
        let duties = duties(status, setup);
        let follower = kubernetes::follow_on_duty(&reach, (&flags.node, Some(duties)), move |update| {
            told.tell(update.problems, update.lost, update.cluster.map(|cluster| (cluster, update.whole)))
        })?;
        return Ok(Source::Kubernetes(follower));
    };
    let directories = Directories { manifests: directory, keys: setup.config.wireguard.keys.as_deref() };
    let watcher = selvedge_source::spawn(directories, move |snapshot: Snapshot| {
        let problems = snapshot.problems.iter().map(ToString::to_string).collect();
        let whole = snapshot.is_whole();
        told.tell(problems, None, Some((snapshot.cluster, whole)))
    })?;
    Ok(Source::Manifests(watcher))
}

/// What the cluster is told of our Node: that it serves pods, if it is so configured by an end of the taint too, and our
/// WireGuard key.
fn duties(status: &Arc<Mutex<Status>>, setup: &Setup) -> Duties {
    let (asked, told) = (Arc::clone(status), Arc::clone(status));
    Duties {
        serves: Box::new(move || asked.lock().unwrap_or_else(PoisonError::into_inner).state.serves()),
        taint: setup.config.remove_taint,
        key: setup.publisher.own.clone(),
        told: Box::new(move |problem| {
            if let Some(problem) = &problem {
                warn!(problem, "the API");
            }
            told.lock().unwrap_or_else(PoisonError::into_inner).standing_problem = problem;
        }),
    }
}

/// Whom a source tells.
struct Told {
    triggers: Sender<Trigger>,
    status: Arc<Mutex<Status>>,
}

impl Told {
    /// Takes what is wrong, since when the source isn't heard, and the cluster, with whether it is whole.
    fn tell(
        &self,
        problems: Vec<String>,
        lost: Option<SystemTime>,
        cluster: Option<(Cluster, bool)>,
    ) -> ControlFlow<()> {
        problems.iter().for_each(|problem| error!(problem, "source"));
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.source_problems = problems;
        status.source_lost_ms = lost.map(since_1970_ms);
        drop(status);
        let Some((cluster, whole)) = cluster else { return ControlFlow::Continue(()) };
        // What has never been readable may be a node: nothing is pruned on account of its absence.
        let prune = if whole { Prune::Marked } else { Prune::Nothing };
        match self.triggers.send(Trigger::Cluster(Arc::new(cluster), prune)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Has the loop look now, and once more when a source that says nothing has had its time.
pub(crate) fn start(triggers: Sender<Trigger>) -> io::Result<()> {
    send(&triggers, Trigger::Start);
    let later = move || {
        thread::sleep(GRACE);
        send(&triggers, Trigger::Start);
    };
    thread::Builder::new().name("start".to_owned()).spawn(later).map(drop)
}

/// Watches links, addresses, routes and nftables of this namespace.
pub(crate) fn kernel(triggers: Sender<Trigger>) -> io::Result<()> {
    let mut links = selvedge_netlink::Monitor::open().map_err(io::Error::other)?;
    let mut tables = selvedge_nft::Monitor::open().map_err(io::Error::other)?;
    thread::Builder::new().name("kernel".to_owned()).spawn(move || {
        loop {
            let mut fds = [PollFd::new(&links, PollFlags::IN), PollFd::new(&tables, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    error!(%error, "kernel notifications end: drift is found by the regular look alone");
                    return;
                }
            }
            let of_links = || links.next_event().map(|n| n.map(|n| of_links(n.event)));
            let of_links = drain(of_links, &triggers);
            let of_tables = drain(|| tables.next_event().map(|e| e.map(|e| of_rules(&e))), &triggers);
            if of_links.is_break() || of_tables.is_break() {
                return;
            }
        }
    })?;
    Ok(())
}

/// From now on SIGTERM and SIGINT end the loop between two passes, and with it the agent.
pub(crate) fn signals(triggers: Sender<Trigger>) -> io::Result<()> {
    let (mut asked, note) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        pipe::register(signal, note.try_clone()?)?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        // The other end is never closed.
        if asked.read_exact(&mut [0]).is_ok() {
            triggers.send(Trigger::End).ok();
        }
    })?;
    Ok(())
}

/// Passes on every notification that waits.
fn drain<E: std::fmt::Display>(
    mut next: impl FnMut() -> Result<Option<Trigger>, E>,
    triggers: &Sender<Trigger>,
) -> ControlFlow<()> {
    loop {
        let trigger = match next() {
            Ok(Some(trigger)) => trigger,
            Ok(None) => return ControlFlow::Continue(()),
            Err(error) => {
                warn!(%error, "a kernel notification can't be read");
                Trigger::Kernel("notifications were lost".to_owned())
            }
        };
        if triggers.send(trigger).is_err() {
            return ControlFlow::Break(());
        }
    }
}

/// A change to nftables, with the generation of rules that it made.
fn of_rules(event: &selvedge_nft::Event) -> Trigger {
    match event {
        selvedge_nft::Event::Changed { generation, .. } => Trigger::Rules(event.to_string(), *generation),
        selvedge_nft::Event::Lost => Trigger::Kernel(event.to_string()),
    }
}

/// A notification as people would say it, unless the loop can hold it against what it knows.
fn of_links(event: Event) -> Trigger {
    let how = |gone: bool| if gone { "gone" } else { "changed" };
    Trigger::Kernel(match event {
        Event::Object(announced) => return Trigger::Announced(announced),
        Event::Link { name, gone, .. } => format!("link {name} {}", how(gone)),
        Event::Address { address, gone, .. } => format!("address {} {}", address.net, how(gone)),
        Event::Multipath { destination, gone } => format!("route {destination} {}", how(gone)),
        Event::Rule { gone } => format!("routing rule {}", how(gone)),
        Event::Lost => "notifications were lost".to_owned(),
    })
}
