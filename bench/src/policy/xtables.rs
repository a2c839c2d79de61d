//! The same policies the way enforcers load them that are made of iptables and ipset: a chain for each policy and for
//! each of the node's pods, a set for each selector, and a walk that every forwarded packet takes past all pods.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use super::fleet::Fleet;
use super::usual::{Peer, Rule, USUAL, Usual, Way};
use super::world::World;
use crate::error::BenchError;

/// Whose rules the kernel gets, by the program that loads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Nft,
    Legacy,
}

impl Backend {
    fn program(self) -> &'static str {
        match self {
            Self::Nft => "iptables-nft-restore",
            Self::Legacy => "iptables-legacy-restore",
        }
    }
}

/// What says that some policy has admitted a packet.
const ADMITTED: &str = "0x10000/0x10000";

/// Loads a cluster's policies on its node.
pub(crate) fn load(fleet: &Fleet, backend: Backend) -> Result<(), BenchError> {
    let mut text = Text { fleet, sets: BTreeMap::new(), chains: String::new(), rules: String::new() };
    text.policies();
    text.pods();
    let sets: String = text.sets.values().map(String::as_str).collect();
    let head = "*filter\n:FORWARD ACCEPT [0:0]\n:WALK - [0:0]\n";
    let rules = format!("{head}{}-A FORWARD -j WALK\n{}COMMIT\n", text.chains, text.rules);
    feed(fleet, &["ipset", "restore"], &sets)?;
    feed(fleet, &[backend.program()], &rules)
}

/// Runs a program on the node that reads what it is to do.
fn feed(fleet: &Fleet, words: &[&str], input: &str) -> Result<(), BenchError> {
    let failed = |source| BenchError::system(format!("run {words:?}"), source);
    let ran = fleet.node().run(|| {
        let mut child = Command::new(words[0]);
        let mut child = child.args(&words[1..]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))?;
        child.wait_with_output()
    })?;
    let ran = ran.map_err(failed)?;
    let said = || io::Error::other(String::from_utf8_lossy(&ran.stderr).into_owned());
    if ran.status.success() { Ok(()) } else { Err(failed(said())) }
}

/// What the two programs are given.
struct Text<'a> {
    fleet: &'a Fleet,
    /// Each set's lines, by its name.
    sets: BTreeMap<String, String>,
    chains: String,
    rules: String,
}

impl Text<'_> {
    fn world(&self) -> &World {
        &self.fleet.world
    }

    fn rule(&mut self, line: &str) {
        self.rules.extend([line, "\n"]);
    }

    fn chain(&mut self, name: &str) {
        self.chains.extend([":", name, " - [0:0]\n"]);
    }

    /// A chain for each policy and each of its ways, which marks what it admits.
    fn policies(&mut self) {
        for number in 0..self.world().policies {
            let (place, usual) = (number / USUAL.len(), &USUAL[number % USUAL.len()]);
            for way in usual.ways {
                let chain = chain_of(number, *way);
                self.chain(&chain);
                for rule in usual.rules {
                    self.admits(&chain, (rule, *way), place);
                }
            }
        }
    }

    fn admits(&mut self, chain: &str, (rule, way): (&Rule, Way), place: usize) {
        let set = self.set(rule.peer, place);
        let end = if way == Way::In { "src" } else { "dst" };
        let ports: Vec<String> = match rule.ports {
            [] => vec![String::new()],
            ports => ports
                .iter()
                .map(|port| format!(" -p {0} -m {0} --dport {1}:{2}", port.0, port.1, port.2))
                .collect(),
        };
        for port in ports {
            self.rule(&format!(
                "-A {chain}{port} -m set --match-set {set} {end} -j MARK --set-xmark {ADMITTED}"
            ));
        }
        self.rule(&format!("-A {chain} -m mark --mark {ADMITTED} -j RETURN"));
    }

    /// For each of the node's pods and each way in which it is isolated: a step of the walk, and a chain that lets pass
    /// what belongs to a connection or what one of its policies admits.
    fn pods(&mut self) {
        let numbers: Vec<usize> = self.fleet.pods.iter().map(|(number, _)| *number).collect();
        for (place, number) in numbers.into_iter().enumerate() {
            let address = Ipv4Addr::from(self.fleet.address(place));
            for (way, end) in [(Way::Out, "-s"), (Way::In, "-d")] {
                let policies: Vec<usize> = self.world().policies_of(number, way).collect();
                if policies.is_empty() {
                    continue;
                }
                let chain = format!("POD-{number}-{way:?}");
                self.chain(&chain);
                self.rule(&format!("-A WALK {end} {address} -j {chain}"));
                self.rule(&format!("-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
                self.rule(&format!("-A {chain} -j MARK --set-xmark 0x0/0x10000"));
                for policy in policies {
                    self.rule(&format!("-A {chain} -j {}", chain_of(policy, way)));
                    self.rule(&format!("-A {chain} -m mark --mark {ADMITTED} -j RETURN"));
                }
                self.rule(&format!("-A {chain} -j DROP"));
            }
        }
    }

    /// The set of a peer as a policy of a namespace means it.
    fn set(&mut self, peer: Peer, place: usize) -> String {
        let (name, members) = self.world().peers(peer, place);
        if !self.sets.contains_key(&name) {
            let mut lines = match peer {
                Peer::Outside => format!(
                    "create {name} hash:net\nadd {name} 203.0.113.0/24\nadd {name} 203.0.113.64/26 nomatch\n"
                ),
                _ => format!("create {name} hash:ip hashsize 64\n"),
            };
            for pod in members {
                lines += &format!("add {name} {}\n", Ipv4Addr::from(self.address(pod)));
            }
            self.sets.insert(name.clone(), lines);
        }
        name
    }

    /// The address of a pod, of this node or another.
    fn address(&self, pod: usize) -> [u8; 4] {
        let own = self.fleet.pods.iter().position(|(number, _)| *number == pod);
        own.map_or_else(|| self.world().address(pod), |place| self.fleet.address(place))
    }
}

fn chain_of(policy: usize, way: Way) -> String {
    format!("POLICY-{policy}-{way:?}")
}

impl World {
    /// The policies that isolate a pod in a direction.
    fn policies_of(&self, pod: usize, way: Way) -> impl Iterator<Item = usize> {
        let (app, first) = (self.app(pod), pod % self.namespaces * USUAL.len());
        let its =
            move |usual: &Usual| usual.ways.contains(&way) && usual.selects.is_none_or(|name| name == app);
        let all = USUAL.iter().enumerate().filter(move |(_, usual)| its(usual));
        all.map(move |(kind, _)| first + kind).filter(|number| *number < self.policies)
    }

    /// The pods that a peer is, as a policy of a namespace means it, and what to call them.
    fn peers(&self, peer: Peer, place: usize) -> (String, Vec<usize>) {
        let of = |places: &mut dyn Iterator<Item = usize>, wanted: &dyn Fn(usize) -> bool| {
            let pods = places.flat_map(|place| (place..self.pods).step_by(self.namespaces));
            pods.filter(|pod| wanted(*pod)).collect::<Vec<usize>>()
        };
        let mut own = [place].into_iter();
        let is = |names: &'static [&'static str]| move |pod| names.contains(&self.app(pod));
        match peer {
            Peer::Within => (format!("within-{place}"), of(&mut own, &|_| true)),
            Peer::Apps(names) => (format!("{}-{place}", names.join("-")), of(&mut own, &is(names))),
            Peer::Granted => (format!("granted-{place}"), Vec::new()),
            Peer::Zone(name) => {
                let zone = place % super::world::ZONES;
                let mut places = (zone..self.namespaces).step_by(super::world::ZONES);
                (format!("zone-{zone}-{name}"), of(&mut places, &|pod| self.app(pod) == name))
            }
            Peer::First(name) => {
                (format!("first-{name}"), of(&mut [0].into_iter(), &|pod| self.app(pod) == name))
            }
            Peer::Monitors => {
                ("monitors".to_owned(), of(&mut (0..self.namespaces), &|pod| self.monitors(pod)))
            }
            Peer::Outside => ("outside".to_owned(), Vec::new()),
        }
    }
}
