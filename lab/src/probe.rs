//! Packets along every path, and what the receiving side saw of them.
//!
//! Probes are sent from threads inside the places' own namespaces; no program is run. All places send at once. A
//! connection carries full packets both ways, since many a network lets nothing but small ones through.

use std::collections::BTreeMap;
use std::io;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use selvedge_netns::{Namespace, NetnsError};

use crate::matrix::{Matrix, Outcome, Probe, Reason};
use crate::path::{Addresses, Path, Protocol, address_of};
use crate::patience::patience;
use crate::plan::Place;
use crate::shape::{Family, Loss};

mod call;
mod echo;
mod load;
mod receiver;
mod sender;
mod socket;
mod visit;

use echo::Ticket;
use receiver::{Receiver, Sightings};
use sender::{Answer, Shot};

/// How long a probe is waited for, and how often it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long one try may take.
    pub wait: Duration,
    /// How many tries a probe has, one at least.
    pub tries: u8,
}

impl Timing {
    /// The same where everything takes longer.
    pub fn patient() -> Self {
        let usual = Self::default();
        Self { wait: patience(usual.wait), ..usual }
    }

    /// The same where so many packets of a hundred get lost too, with so many tries that it is hardly ever chance that
    /// fails them all: of a hundred thousand paths not one.
    pub fn with(loss: Loss) -> Self {
        // A connection takes some ten packets, and a try does not wait for more than the first repetitions.
        let tries = match loss.get() {
            0 => 2,
            1..=10 => 20,
            11..=25 => 40,
            _ => 100,
        };
        Self { tries, ..Self::patient() }
    }
}

impl Default for Timing {
    /// Two tries of one second.
    fn default() -> Self {
        Self { wait: Duration::from_secs(1), tries: 2 }
    }
}

/// Why the paths could not be probed. A path that is broken is no error: it is a cell of the [`Matrix`].
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A place's namespace could not be entered.
    #[error("send and receive probes inside a namespace")]
    Namespace(#[from] NetnsError),
    /// A place's sockets could not be opened.
    #[error("listen for probes at {place} (ICMP, and TCP port 7473)")]
    Listen {
        /// The place.
        place: Place,
        /// What the system said.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("start a thread to send or receive probes on")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// A path leads from a place that has no namespace.
    #[error("there is no namespace for {place}")]
    NoSuchPlace {
        /// The place.
        place: Place,
    },
}

/// How many places send at once.
const SENDERS: usize = 16;

/// Sends a probe along every path and says what became of each, in the same order.
///
/// # Errors
/// [`ProbeError`] where probing itself was not possible.
pub fn probe(
    spaces: &BTreeMap<Place, Namespace>,
    addresses: &Addresses,
    paths: Vec<Path>,
    timing: Timing,
) -> Result<Matrix, ProbeError> {
    let run = random();
    let shots = aim(addresses, &paths, run);
    if let Some(place) = shots.keys().find(|place| !spaces.contains_key(place)) {
        return Err(ProbeError::NoSuchPlace { place: place.clone() });
    }
    let families: Vec<Family> = [Family::V4, Family::V6]
        .into_iter()
        .filter(|family| paths.iter().any(|path| path.family == *family))
        .collect();
    let receiver = Receiver::start(spaces, &families)?;
    let answers = send(spaces, shots, timing);
    let sightings = receiver.finish();
    let answers = answers?;
    let cells = (0..).zip(paths).map(|(shot, path)| {
        let ticket = Ticket { run, shot };
        let outcome = outcome(&path, ticket, answers.get(&ticket), &sightings);
        Probe { expected_source: address_of(addresses, &path.seen_as, path.family), path, outcome }
    });
    Ok(Matrix { cells: cells.collect() })
}

/// The shots by the place that they are sent from; paths between places without addresses have none.
fn aim(addresses: &Addresses, paths: &[Path], run: u32) -> BTreeMap<Place, Vec<Shot>> {
    let mut shots: BTreeMap<Place, Vec<Shot>> = BTreeMap::new();
    for (shot, path) in (0..).zip(paths) {
        let Some(target) = address_of(addresses, &path.to, path.family) else { continue };
        let ticket = Ticket { run, shot };
        let shot = Shot { ticket, to: path.to.clone(), target, protocol: path.protocol };
        shots.entry(path.from.clone()).or_default().push(shot);
    }
    shots
}

/// Sends the shots of all places, on a bounded number of threads.
fn send(
    spaces: &BTreeMap<Place, Namespace>,
    shots: BTreeMap<Place, Vec<Shot>>,
    timing: Timing,
) -> Result<BTreeMap<Ticket, Answer>, ProbeError> {
    let workers = shots.len().min(SENDERS);
    let waiting = Mutex::new(shots);
    let work = || {
        let mut answers = BTreeMap::new();
        loop {
            let next = waiting.lock().map_or(None, |mut waiting| waiting.pop_first());
            let Some((place, shots)) = next else { return Ok(answers) };
            let Some(namespace) = spaces.get(&place) else { return Err(ProbeError::NoSuchPlace { place }) };
            answers.extend(namespace.run(|| sender::send_all(&shots, timing))?);
        }
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("sender".to_owned()).spawn_scoped(scope, work);
        let started: Vec<_> = (0..workers).map(spawn).collect();
        let mut all = BTreeMap::new();
        for worker in started {
            let worker = worker.map_err(|source| ProbeError::Thread { source })?;
            all.extend(worker.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(all)
    })
}

fn outcome(path: &Path, ticket: Ticket, answer: Option<&Answer>, sightings: &Sightings) -> Outcome {
    let sighted = sightings.get(&(path.to.clone(), ticket)).copied();
    match (answer, path.protocol) {
        (None, _) => Outcome::Failed(Reason::NoAddress),
        (Some(Ok(Some(seen_source))), Protocol::Tcp) => Outcome::Reached { seen_source: *seen_source },
        (Some(Ok(_)), _) => {
            sighted.map_or(Outcome::Failed(Reason::Garbled), |seen_source| Outcome::Reached { seen_source })
        }
        (Some(Err(reason)), _) => Outcome::Failed(match (reason, sighted) {
            (Reason::TimedOut, Some(seen_source)) => Reason::NoAnswer { seen_source },
            (Reason::LargeLostThere, Some(_)) => Reason::LargeLostBack { after: 0 },
            _ => reason.clone(),
        }),
    }
}

/// A number that another run of the matrix is unlikely to have.
fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness it is the process' id that tells runs apart.
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u32::from_be_bytes(bytes),
        Err(_) => std::process::id(),
    }
}
