//! A cluster on the ground, and what becomes of the packets of many flows at once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use selvedge_model::Transport;
use selvedge_policy::{Cluster, Flow, Protocol, Source, compile};
use selvedge_ruleset::Transaction;

use crate::ground::{Attach, Ground, MIRROR};
use crate::packet::Opening;
use crate::post::Post;
use crate::seats::Seats;
use crate::tables::Tables;

/// How long anything may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a packet is sent that should arrive.
const ATTEMPTS: usize = 10;

/// How many packets are sent between two looks at what has arrived.
const BURST: usize = 64;

/// The ports that flows come from: those of nodes' own, and the others.
const PORTS: [u16; 2] = [40_001, 40_000];

/// One cluster after another on one ground.
pub(crate) struct Site {
    ground: Ground,
    seats: Seats,
    tables: Tables,
    /// How many packets have been numbered.
    numbered: u32,
    /// Which of them arrived where.
    heard: BTreeSet<(u32, Spot)>,
}

/// Where packets are sent and heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    Outside,
    Node(usize),
    Pod(usize, usize),
}

/// A packet from one spot to another.
#[derive(Debug, Clone, Copy)]
struct Trip {
    from: Spot,
    to: Spot,
    opening: Opening,
}

impl Site {
    /// Two nodes without pods; `None` if this user may not make namespaces, which has been said.
    pub(crate) fn new(attach: Attach) -> Option<Self> {
        let ground = Ground::new(attach)?;
        stay_on_one_processor();
        let tables = Tables::new(&ground);
        Some(Self { ground, seats: Seats::default(), tables, numbered: 0, heard: BTreeSet::new() })
    }

    /// Puts the pods of a cluster where they belong and has each node's kernel go from the table that it holds to the
    /// cluster's, in one transaction of what differs; those of both nodes are given back.
    pub(crate) fn bring_to(&mut self, cluster: &Cluster) -> Vec<Transaction> {
        self.seats.arrange(&mut self.ground, cluster);
        let nodes = 0..self.ground.nodes.len();
        let done = nodes.map(|node| {
            let local = self.seats.attached(&self.ground, cluster, node);
            self.tables.bring_to(node, compile(cluster, &local))
        });
        let done = done.collect();
        self.sweep();
        done
    }

    /// The same with tables made anew.
    pub(crate) fn bring_anew_to(&mut self, cluster: &Cluster) {
        (0..self.ground.nodes.len()).for_each(|node| self.tables.clear(node));
        self.bring_to(cluster);
    }

    /// Sends a packet for each flow, all at once, and says which arrived; `None` for one that passes no node.
    ///
    /// One that is expected and doesn't arrive is sent again: whatever the rules let pass, a busy machine may lose. One
    /// that must not arrive would have been heard: markers that went the longest way after it have arrived.
    pub(crate) fn probe(&mut self, flows: &[(Flow, bool)]) -> Vec<Option<bool>> {
        let trips: Vec<Option<Trip>> = flows.iter().map(|(flow, _)| self.trip(flow)).collect();
        let expected = trips.iter().zip(flows).filter(|(_, (_, expected))| *expected);
        let expected: Vec<Trip> = expected.filter_map(|(trip, _)| *trip).collect();
        let mut due: Vec<Trip> = trips.iter().flatten().copied().collect();
        self.heard.clear();
        for _ in 0..ATTEMPTS {
            for burst in due.chunks(BURST) {
                burst.iter().for_each(|trip| self.send(trip));
                self.hear();
            }
            // The longest way crosses four wires, a marker's longest two: two rounds are behind all that was sent.
            self.sweep();
            self.sweep();
            due = expected.iter().filter(|trip| !self.has_arrived(trip)).copied().collect();
            if due.is_empty() {
                break;
            }
        }
        trips.iter().map(|trip| trip.as_ref().map(|trip| self.has_arrived(trip))).collect()
    }

    fn send(&self, trip: &Trip) {
        self.post(trip.from).send(&trip.opening.bytes(), trip.opening.destination);
    }

    fn has_arrived(&self, trip: &Trip) -> bool {
        self.heard.contains(&(trip.opening.number, trip.to))
    }

    /// Notes what has arrived where.
    fn hear(&mut self) {
        let mut heard = Vec::new();
        for (spot, post) in self.posts() {
            post.hear(|number| heard.push((number, spot)));
        }
        self.heard.extend(heard);
    }

    /// Sends packets that always pass, along every wire, until each has arrived: then neighbours know each other.
    fn sweep(&mut self) {
        let mut missing = self.markers();
        let deadline = Instant::now() + PATIENCE;
        let mut again = Instant::now();
        loop {
            if Instant::now() >= again {
                missing.iter().for_each(|trip| self.send(trip));
                again = Instant::now() + Duration::from_millis(100);
            }
            let late = Instant::now() > deadline;
            self.hear();
            missing.retain(|trip| !self.has_arrived(trip));
            if missing.is_empty() {
                return;
            }
            assert!(!late, "what always passes does not arrive: {missing:?}");
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Between the nodes and to them from outside, and between each node and its pods, both ways.
    fn markers(&mut self) -> Vec<Trip> {
        let mut ways = Vec::new();
        let nodes: Vec<[IpAddr; 2]> = self.ground.nodes.iter().map(|node| node.addresses).collect();
        let outside: [IpAddr; 2] = ["192.0.2.9", "2001:db8::9"].map(|text| text.parse().unwrap());
        for family in 0..2 {
            let [one, other] = [nodes[0][family], nodes[1][family]];
            ways.extend([
                (Spot::Node(0), one, Spot::Node(1), other),
                (Spot::Node(1), other, Spot::Node(0), one),
            ]);
            ways.extend([0, 1].map(|n| (Spot::Outside, outside[family], Spot::Node(n), nodes[n][family])));
        }
        for (address, (node, seat)) in self.seats.addresses() {
            let own = nodes[*node][usize::from(address.is_ipv6())];
            let (node, pod) = (Spot::Node(*node), Spot::Pod(*node, *seat));
            ways.extend([(node, own, pod, *address), (pod, *address, node, own)]);
        }
        let numbered = |(from, source, to, destination)| {
            let protocol = Protocol::Port(Transport::Udp, 9);
            let number = self.number();
            Trip { from, to, opening: Opening { source, destination, protocol, port: 9, number } }
        };
        ways.into_iter().map(numbered).collect()
    }

    /// How a flow goes; `None` if it passes no node.
    fn trip(&mut self, flow: &Flow) -> Option<Trip> {
        let number = self.number();
        let (source, protocol) = (flow.source.address(), flow.protocol);
        let from = match &flow.source {
            Source::Host(..) => self.spot(source),
            Source::Address(address) => match self.spot(*address) {
                // Somebody elsewhere whose packets bear a node's address.
                Spot::Node(_) => Spot::Outside,
                spot => spot,
            },
        };
        let to = self.spot(flow.destination);
        // What a pod sends to itself leaves it only by way of a Service.
        let destination = match (from, to) {
            (Spot::Outside, Spot::Outside) => return None,
            (Spot::Pod(..), _) if from == to => MIRROR[usize::from(source.is_ipv6())].parse().unwrap(),
            _ => flow.destination,
        };
        let port = PORTS[usize::from(matches!(flow.source, Source::Address(_)))];
        Some(Trip { from, to, opening: Opening { source, destination, protocol, port, number } })
    }

    /// Where what is for an address ends.
    fn spot(&self, address: IpAddr) -> Spot {
        let node = self.ground.nodes.iter().position(|node| node.addresses.contains(&address));
        match (self.seats.addresses().get(&address), node) {
            (Some((node, seat)), _) => Spot::Pod(*node, *seat),
            (None, Some(node)) => Spot::Node(node),
            (None, None) => Spot::Outside,
        }
    }

    fn post(&self, spot: Spot) -> &Post {
        match spot {
            Spot::Outside => &self.ground.outside.post,
            Spot::Node(node) => &self.ground.nodes[node].place.post,
            Spot::Pod(node, seat) => &self.ground.nodes[node].seats[seat].place.post,
        }
    }

    fn posts(&self) -> impl Iterator<Item = (Spot, &Post)> {
        let nodes = self.ground.nodes.iter().enumerate();
        let nodes = nodes.flat_map(|(n, node)| {
            let seats = node.seats.iter().enumerate();
            let seats = seats.map(move |(seat, pod)| (Spot::Pod(n, seat), &pod.place.post));
            seats.chain([(Spot::Node(n), &node.place.post)])
        });
        nodes.chain([(Spot::Outside, &self.ground.outside.post)])
    }

    fn number(&mut self) -> u32 {
        let number = self.numbered;
        self.numbered = number.wrapping_add(1);
        number
    }
}

/// Packets of one processor overtake each other nowhere on their ways. One site after another takes another processor.
fn stay_on_one_processor() {
    static SITES: AtomicUsize = AtomicUsize::new(0);
    let may = sched_getaffinity(None).unwrap();
    let may: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(may[SITES.fetch_add(1, Ordering::Relaxed) % may.len()]);
    sched_setaffinity(None, &one).unwrap();
}
