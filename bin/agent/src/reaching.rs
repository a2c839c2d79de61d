//! The ways to other nodes, measured as long as the agent runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_datapath::node::DesiredNode;
use selvedge_datapath::peers::Peer;
use selvedge_datapath::reach::{Findings, Measured, Seat, Target, Verdict};
use selvedge_model::transport::Transport;
use selvedge_model::{Mtu, NodeName, Sorted};
use selvedge_probe::{PORT, Prober};
use selvedge_reconcile::Trigger;
use tracing::warn;

use crate::config::Config;
use crate::send;

mod given_up;

/// How often a way is measured of which nothing new is expected, at the most, and how many there may be in a second.
const RARELY: Duration = Duration::from_secs(10);
const A_SECOND: u32 = 50;

/// How soon one is again of which a measurement spoke against what is held.
const SOON: Duration = Duration::from_secs(1);

/// How long the measuring thread answers others before it looks what there is to do.
const TURN: Duration = Duration::from_millis(100);

/// The most nodes that are measured at once.
const AT_ONCE: usize = 256;

/// The most peers of which something is said one by one.
const TOLD: usize = 8;

/// What the loop and the measuring thread know of each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaching {
    shared: Arc<Mutex<Shared>>,
    /// Where the ways are kept that were given up.
    given_up: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    wanted: Arc<Wanted>,
    findings: Arc<Findings>,
}

/// What is to be measured, and from where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    targets: Sorted<Target>,
    seats: BTreeSet<Seat>,
}

impl Reaching {
    /// The ways that earlier agents gave up, by a file that keeps them for later ones, are given up from the start.
    pub(crate) fn after(given_up: PathBuf) -> Self {
        let shared = Shared { findings: Arc::new(given_up::read(&given_up)), ..Shared::default() };
        Self { shared: Arc::new(Mutex::new(shared)), given_up }
    }

    /// What was measured so far.
    pub(crate) fn findings(&self) -> Arc<Findings> {
        Arc::clone(&self.shared().findings)
    }

    /// Takes what is to be measured, and from where.
    pub(crate) fn want(&self, node: &DesiredNode) {
        let mut shared = self.shared();
        if shared.wanted.targets != node.targets || shared.wanted.seats != node.seats {
            let (targets, seats) = (node.targets.clone(), node.seats.clone());
            shared.wanted = Arc::new(Wanted { targets, seats });
        }
    }

    /// Measures from now on, and has the loop make a pass where a verdict changes.
    pub(crate) fn start(&self, triggers: Sender<Trigger>) -> io::Result<()> {
        let mut measuring = Measuring {
            reaching: self.clone(),
            triggers,
            prober: Prober::default(),
            due: BTreeMap::new(),
            missing: Vec::new(),
        };
        thread::Builder::new().name("reaching".to_owned()).spawn(move || measuring.run()).map(drop)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes a way another one: by what, where to, and how much should get through.
type Way = (Transport, IpAddr, Mtu);

fn way(target: &Target) -> Way {
    (target.transport, target.to, target.mtu)
}

/// The measuring thread.
struct Measuring {
    reaching: Reaching,
    triggers: Sender<Trigger>,
    prober: Prober,
    /// When the ways to each node are measured next, and which ones they were.
    due: BTreeMap<NodeName, (Instant, Vec<Way>)>,
    /// The seats that are done without, as they were last told of.
    missing: Vec<String>,
}

impl Measuring {
    /// Never ends: without a loop there is no agent either.
    fn run(&mut self) {
        let mut known = Arc::default();
        let mut next = Instant::now();
        loop {
            let wanted = Arc::clone(&self.reaching.shared().wanted);
            if !Arc::ptr_eq(&wanted, &known) {
                self.prober.know(wanted.targets.iter().map(|target| target.to).collect());
                (known, next) = (Arc::clone(&wanted), Instant::now());
            }
            self.sit(&wanted.seats);
            if self.prober.is_settled() && Instant::now() >= next {
                let due = self.due(&wanted.targets);
                if !due.is_empty() {
                    self.measure(&due, &wanted.targets);
                }
                // With none left there may be more whose time has come already.
                let at = self.due.values().map(|(at, _)| *at).min().filter(|_| due.is_empty());
                next = at.unwrap_or_else(Instant::now);
            }
            self.prober.serve(Instant::now() + TURN);
        }
    }

    /// Takes the seats that are there by now.
    fn sit(&mut self, seats: &BTreeSet<Seat>) {
        self.prober.sit(seats);
        let missing: Vec<String> = self.prober.missing().map(|missing| missing.to_string()).collect();
        if missing != self.missing {
            missing.iter().for_each(|why| warn!(why, "the ways to other nodes can't be measured"));
            self.missing = missing;
        }
    }

    /// The ways to nodes whose time has come, all ways to a node together; those that are new at once.
    fn due(&mut self, targets: &Sorted<Target>) -> Vec<Target> {
        let now = Instant::now();
        let mut nodes: BTreeMap<&NodeName, Vec<&Target>> = BTreeMap::new();
        targets.iter().for_each(|target| nodes.entry(&target.node).or_default().push(target));
        self.due.retain(|node, _| nodes.contains_key(node));
        nodes.retain(|node, ways| {
            let ways = ways.iter().map(|target| way(target));
            self.due.get(*node).is_none_or(|(at, as_then)| *at <= now || !ways.eq(as_then.iter().copied()))
        });
        nodes.into_values().take(AT_ONCE).flatten().cloned().collect()
    }

    fn measure(&mut self, due: &[Target], all: &Sorted<Target>) {
        let mut rounds: BTreeMap<&NodeName, Vec<(Transport, Measured)>> = BTreeMap::new();
        for (target, measured) in due.iter().zip(self.prober.measure(due)) {
            rounds.entry(&target.node).or_default().push((target.transport, measured));
        }
        let mut shared = self.reaching.shared();
        let findings = Arc::make_mut(&mut shared.findings);
        let mut news = Vec::new();
        for (node, round) in rounds {
            if findings.enter(node, &round) {
                let round = round.iter().map(|(transport, measured)| format!("{measured} by {transport}"));
                news.push(format!("{node}: {}", round.collect::<Vec<_>>().join(", ")));
            }
            let ways = due.iter().filter(|target| target.node == *node);
            let ways = ways.map(way);
            let next = Instant::now() + pause(findings, node, all.len());
            self.due.insert(node.clone(), (next, ways.collect()));
        }
        findings.keep(&all.iter().map(|target| &target.node).collect());
        let kept = given_up::write(&self.reaching.given_up, findings);
        drop(shared);
        if let Err(error) = kept {
            let path = self.reaching.given_up.display();
            warn!(%path, %error, "the ways that were given up can't be kept");
        }
        if let Some(first) = news.first() {
            let others = if news.len() > 1 { format!(" and {} more", news.len() - 1) } else { String::new() };
            send(&self.triggers, Trigger::Measured(format!("{first}{others}")));
        }
    }
}

/// How long a node is left alone now, one of so many.
fn pause(findings: &Findings, node: &NodeName, of: usize) -> Duration {
    if findings.doubts(node) {
        return SOON;
    }
    RARELY.max(Duration::from_secs(1) * u32::try_from(of).unwrap_or(u32::MAX) / A_SECOND)
}

/// What there is to say of peers that are not reached as they should be. What somebody may have blocked is told as those
/// see it who block it: overlays by their UDP ports.
pub(crate) fn notes(peers: &Sorted<Peer>, config: &Config) -> Vec<String> {
    let by = |port: u16, transport| format!("UDP {port} ({transport})");
    let seen = |transport: Transport| match transport {
        Transport::Vxlan => by(config.vxlan.port, transport),
        Transport::Udp => by(config.udp.port, transport),
        Transport::Wireguard => by(config.wireguard.port, transport),
        Transport::Direct | Transport::Native => transport.to_string(),
    };
    let amiss = |peer: &Peer| {
        let (name, by) = (&peer.name, peer.transport);
        match (peer.instead_of, peer.verdict) {
            (Some(Transport::Wireguard), _) if peer.keyless => {
                Some(format!("{name} has published no WireGuard key, using {by}: not encrypted"))
            }
            // Where that port is closed nobody hears of what gets through.
            (Some(better), Verdict::Silent) => Some(format!(
                "nothing comes back from {name}, neither by {} nor by {}: agents ask each other at UDP {PORT}",
                seen(better),
                seen(by)
            )),
            (Some(better @ Transport::Wireguard), _) => {
                Some(format!("{} to {name} doesn't get through yet, using {by}: not encrypted", seen(better)))
            }
            (Some(better), _) => Some(format!("{} to {name} doesn't get through, using {by}", seen(better))),
            (None, Verdict::Silent) => Some(format!("nothing comes back from {name} by {}", seen(by))),
            (None, Verdict::Unknown | Verdict::Through { .. }) => None,
        }
    };
    let mut notes: Vec<String> = peers.iter().filter_map(amiss).collect();
    if notes.len() > TOLD {
        let rest = notes.split_off(TOLD).len();
        notes.push(format!("and {rest} more peers are not reached as they should be"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, instead_of: Option<Transport>, verdict: Verdict) -> Peer {
        Peer {
            name: name.parse().unwrap(),
            transport: Transport::Vxlan,
            instead_of,
            keyless: name == "e",
            mtu: Mtu::ETHERNET,
            verdict,
        }
    }

    #[test]
    fn what_is_amiss_is_told_of_some_peers_and_counted_of_the_rest() {
        let through = Verdict::Through { mtu: 1450 };
        let peers = Sorted::from([
            peer("a", None, Verdict::Unknown),
            peer("b", Some(Transport::Direct), through),
            peer("c", None, Verdict::Silent),
            peer("d", Some(Transport::Wireguard), through),
            peer("e", Some(Transport::Wireguard), through),
            peer("f", Some(Transport::Wireguard), Verdict::Silent),
        ]);
        let expected = [
            "direct to b doesn't get through, using vxlan",
            "nothing comes back from c by UDP 4789 (vxlan)",
            "UDP 51820 (wireguard) to d doesn't get through yet, using vxlan: not encrypted",
            "e has published no WireGuard key, using vxlan: not encrypted",
            "nothing comes back from f, neither by UDP 51820 (wireguard) nor by UDP 4789 (vxlan): agents ask each other at UDP 9764",
        ];
        assert_eq!(notes(&peers, &Config::default()), expected);
        let many: Sorted<Peer> = (0..20).map(|n| peer(&format!("n{n}"), None, Verdict::Silent)).collect();
        let told = notes(&many, &Config::default());
        assert_eq!((told.len(), told.last().unwrap().starts_with("and 12 more")), (TOLD + 1, true));
    }
}
