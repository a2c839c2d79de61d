//! The caretaker: deletes the links that DEL set aside, and shapers and leases whose pods the kernel shows to be gone.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_ipam::Lease;
use selvedge_leases::{PATIENCE, Store, Wait};
use selvedge_model::chain;
use selvedge_netlink::{RouteSocket, Sysctls};
use selvedge_nft::Conntrack;
use selvedge_ports::{Ports, PortsError};
use selvedge_reconcile::Status;
use tracing::{info, warn};

use crate::wiring::Setup;

/// How often leases are compared with the kernel.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long more links may join the group before it is deleted as a whole: one deletion costs as much as many.
const GATHER: Duration = Duration::from_millis(20);

/// Where the caretaker works.
#[derive(Debug)]
struct Place {
    run_dir: PathBuf,
    sysctls: PathBuf,
}

/// Asks the caretaker to work. It runs for as long as one of these is left.
#[derive(Debug, Clone)]
pub(crate) struct Caretaker(Sender<Task>);

/// What the caretaker can be asked for; it reaps in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Reap,
    Collect,
}

impl Caretaker {
    /// Has the reap group deleted soon.
    pub(crate) fn reap(&self) {
        self.ask(Task::Reap);
    }

    /// Has leases compared with the kernel soon.
    pub(crate) fn collect(&self) {
        self.ask(Task::Collect);
    }

    fn ask(&self, task: Task) {
        // The caretaker's thread ends only with the agent.
        self.0.send(task).ok();
    }
}

/// Starts the caretaker in this namespace.
pub(crate) fn start(setup: &Setup, status: Arc<Mutex<Status>>) -> io::Result<Caretaker> {
    let (ask, asked) = mpsc::channel();
    let place = Place { run_dir: setup.run_dir.clone(), sysctls: setup.sysctls.clone() };
    thread::Builder::new().name("caretaker".to_owned()).spawn(move || care(&place, &asked, &status))?;
    Ok(Caretaker(ask))
}

fn care(place: &Place, asked: &Receiver<Task>, status: &Mutex<Status>) {
    let mut collect_at = Instant::now() + INTERVAL;
    loop {
        if let Err(error) = reap() {
            warn!(error = chain(error.as_ref()), "links set aside can't be deleted now");
        }
        let collects = match asked.recv_timeout(collect_at.saturating_duration_since(Instant::now())) {
            Ok(first) => {
                thread::sleep(GATHER);
                asked.try_iter().chain([first]).any(|task| task == Task::Collect)
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if !collects {
            continue;
        }
        collect_at = Instant::now() + INTERVAL;
        match collect(place) {
            Ok(freed) => status.lock().unwrap_or_else(PoisonError::into_inner).leases_freed += freed,
            Err(error) => {
                warn!(error = chain(error.as_ref()), "leases can't be compared with the kernel now");
            }
        }
    }
}

fn reap() -> Result<(), Box<dyn Error>> {
    let mut route = RouteSocket::open()?;
    while route.reap_group()? {}
    Ok(())
}

/// Frees the leases, of every network, whose host end is gone while nobody is at work on them, sets aside what held
/// those pods up, and forgets the locks of calls that were killed.
fn collect(place: &Place) -> Result<u64, Box<dyn Error>> {
    let mut conntrack = Conntrack::open()?;
    let mut freed = 0;
    for network in Store::networks(&place.run_dir)? {
        let store = Store::new(&place.run_dir, &network);
        for shaper in store.set_stray_shapers_aside()? {
            info!(%network, %shaper, "set a shaper aside: its pod is gone");
        }
        let gone = store.free_dead(|lease| {
            if let Err(error) = place.withdraw_ports(lease) {
                warn!(error = chain(&error), "ports of a pod that is gone stay published");
                return false;
            }
            for net in &lease.addresses {
                if let Err(error) = conntrack.flush_address(net.addr()) {
                    warn!(error = chain(&error), "connections of a pod that is gone stay tracked");
                }
            }
            true
        })?;
        for attachment in gone {
            info!(%network, %attachment, "freed a lease: its pod is gone");
            freed += 1;
        }
        store.forget_idle_attachments()?;
    }
    if let Err(error) = place.sweep_ports() {
        warn!(error = chain(&error), "ports of pods that are gone may stay published");
    }
    Ok(freed)
}

impl Place {
    /// Takes away the ports of a pod that is gone, before somebody else can get its address.
    fn withdraw_ports(&self, lease: &Lease) -> Result<(), PortsError> {
        self.ports()?.map_or(Ok(()), |mut ports| ports.withdraw(std::slice::from_ref(&lease.veth)).map(drop))
    }

    /// Takes away the ports of pods that are gone and whose leases are lost.
    fn sweep_ports(&self) -> Result<(), PortsError> {
        self.ports()?.map_or(Ok(()), |mut ports| ports.sweep())
    }

    fn ports(&self) -> Result<Option<Ports>, PortsError> {
        let ports = Ports::open_if_any(&self.run_dir, &Wait::most(PATIENCE))?;
        Ok(ports.map(|ports| ports.with_sysctls(Sysctls::at(self.sysctls.clone()))))
    }
}
