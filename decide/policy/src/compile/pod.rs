//! The chains of pods: the rules of all policies that isolate them.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use selvedge_model::{Log, Pod, Transport};
use selvedge_ruleset::matching::{self, Match, in_set};
use selvedge_ruleset::rule::{counter, jump};
use selvedge_ruleset::{Chain, ChainName, Field, L4Proto, Rule as NftRule, Set, Verdict, rule};

use super::UNSEEN;
use super::compiler::Compiler;
use super::counted::{NOT_ADMITTED, WOULD_NOT_BE, of_rules};
use super::log::{Tale, ends};
use super::peers::{Admitted, chain_name, proto_of, set_name};
use super::revoked::{HALF_ISOLATED, refuses_strays};
use crate::cluster::Cluster;
use crate::local::{LocalPod, Whose};
use selvedge_model::policy::{Direction, Policy, PolicyKey, Port, PortName, Ports, Rule, Which};

impl<'a> Compiler<'a> {
    /// Where the map leads what leaves an address of a pod's, or arrives there.
    pub(super) fn verdict(&mut self, pod: &LocalPod, address: IpAddr, direction: Direction) -> Verdict {
        if pod.whose.is_closed(self.cluster) {
            return Verdict::Goto(UNSEEN);
        }
        let mut chains = Vec::new();
        for pod in pods_at(self.cluster, pod, address) {
            chains.extend(self.of_pod(pod, direction));
        }
        match &chains[..] {
            [] => Verdict::Return,
            [one] => Verdict::Goto(one.clone()),
            several => Verdict::Goto(self.all_of(direction, several)),
        }
    }

    /// A chain that passes what several chains pass, one by one: an address is said to be several pods'.
    fn all_of(&mut self, direction: Direction, chains: &[ChainName]) -> ChainName {
        let name = chain_name(direction, &chains);
        let rules = chains.iter().map(|chain| rule![jump(chain)]);
        self.table.chains.entry(name.clone()).or_insert_with(|| Chain::regular(rules));
        name
    }

    /// The chain of a pod; none if nothing about it matters.
    fn of_pod(&mut self, pod: &Arc<Pod>, direction: Direction) -> Option<ChainName> {
        if let Some(chain) = self.last_of(pod, direction) {
            return chain;
        }
        let chain = self.new_of(pod, direction);
        self.remember((pod, direction), chain.clone());
        chain
    }

    fn new_of(&mut self, pod: &Pod, direction: Direction) -> Option<ChainName> {
        match Made::of(self.cluster, pod, direction) {
            Made { kind: Kind { log: Log::Off | Log::Denied, end: End::Open { half }, .. }, policies }
                if policies.is_empty() =>
            {
                half.then_some(HALF_ISOLATED)
            }
            made => Some(self.chain(pod, &made)),
        }
    }

    /// The chain of a pod that these policies isolate, or would isolate if they were in force.
    fn chain(&mut self, pod: &Pod, made: &Made<'a>) -> ChainName {
        let Made { kind: kind @ Kind { direction, log, .. }, policies } = made;
        let (direction, log, name) = (*direction, *log, made.name(pod));
        let made_of: Vec<&Arc<Policy>> = policies.iter().map(|(policy, _)| *policy).collect();
        if self.table.chains.contains_key(&name) || self.keep_chain(&name, &made_of) {
            return name;
        }
        let mut rules = Vec::from_iter(kind.is_isolated().then(refuses_strays));
        for (policy, own) in policies {
            for (index, rule) in own.iter().enumerate() {
                let comment = format!("{}{index}]", of_rules(&policy.key, direction));
                let admitted = self.rule(Place { pod, direction, policy }, rule);
                rules.extend(admitted.into_iter().map(|matches| {
                    let rule = matches.into_iter().fold(NftRule::default(), NftRule::then);
                    rule.then(counter()).then(ends(log, Tale::Allowed(direction))).comment(&comment)
                }));
            }
        }
        rules.push(kind.last(policies));
        self.table.chains.insert(name.clone(), Chain::regular(rules));
        self.made(&name, made_of);
        name
    }

    /// What a rule admits: one of these lists of matches has to hold as a whole.
    fn rule(&mut self, place: Place<'_, 'a>, rule: &'a Rule) -> Vec<Vec<Match>> {
        let end = match place.direction {
            Direction::Ingress => matching::End::Source,
            Direction::Egress => matching::End::Destination,
        };
        let mut admitted = Vec::new();
        for peer in Admitted::all(&place.policy.key.namespace, &rule.peers) {
            match &rule.ports {
                Ports::Any => admitted.extend(self.matches(peer, end)),
                Ports::Of(ports) => {
                    let numbers: Vec<_> = ports.iter().filter_map(|port| place.numbers(port)).collect();
                    if !numbers.is_empty() {
                        let test = self.ports(numbers);
                        let peers = self.matches(peer, end);
                        admitted.extend(peers.into_iter().map(|peer| [peer, vec![test.clone()]].concat()));
                    }
                    for (name, transport) in ports.iter().filter_map(|port| place.name(port)) {
                        admitted.extend(self.named(peer, name, transport));
                    }
                }
            }
        }
        admitted
    }

    fn ports(&mut self, numbers: Vec<(L4Proto, RangeInclusive<u16>)>) -> Match {
        let mut numbers = numbers;
        numbers.sort_by_key(|(proto, ports)| (*proto, *ports.start(), *ports.end()));
        numbers.dedup();
        let numbers = joined(numbers);
        let name = set_name("ports", &format!("{numbers:?}"));
        in_set([Field::L4Proto, Field::ThDport], &self.put(name, || Set::of(numbers)))
    }
}

/// The pods that an attachment's address means.
pub(super) fn pods_at<'a>(cluster: &'a Cluster, pod: &LocalPod, address: IpAddr) -> Vec<&'a Arc<Pod>> {
    let mut pods: Vec<&'a Arc<Pod>> = cluster.holders(address).iter().collect();
    if let Whose::Pod(key) = &pod.whose {
        let known = cluster.pods().get(key);
        pods.extend(known.filter(|known| pods.iter().all(|other| other.key != known.key)));
    }
    pods
}

/// What a pod's chain is made of.
#[derive(Debug)]
pub(super) struct Made<'a> {
    kind: Kind,
    policies: Vec<(&'a Arc<Policy>, &'a [Rule])>,
}

impl<'a> Made<'a> {
    /// What is in force for a pod, or would be but for its mode.
    pub(super) fn of(cluster: &'a Cluster, pod: &Pod, direction: Direction) -> Self {
        let log = cluster.log(&pod.key.namespace);
        let policies: Vec<_> = cluster.isolating(pod, direction).collect();
        if !policies.is_empty() {
            return Self { kind: Kind { direction, log, end: End::Denied }, policies };
        }
        let half = Direction::ALL.into_iter().any(|way| cluster.isolating(pod, way).next().is_some());
        let kind = Kind { direction, log, end: End::Open { half } };
        Self { kind, policies: cluster.shadowing(pod, direction).collect() }
    }

    /// What the chain is called.
    pub(super) fn name(&self, pod: &Pod) -> ChainName {
        // What names mean for traffic to the pod is the pod's own: one chain is for pods that agree on it.
        let ports = if self.kind.direction == Direction::Ingress { &pod.ports[..] } else { &[] };
        chain_name(self.kind.direction, &(self.keys().collect::<Vec<_>>(), ports, self.kind))
    }

    /// The policies that it is made of.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a PolicyKey> {
        self.policies.iter().map(|(policy, _)| &policy.key)
    }

    /// True if these are shadows.
    pub(super) fn is_shadow(&self) -> bool {
        self.kind.end != End::Denied
    }
}

/// What a chain is besides its policies.
#[derive(Debug, Clone, Copy)]
struct Kind {
    direction: Direction,
    log: Log,
    end: End,
}

/// What becomes of what no rule admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is dropped.
    Denied,
    /// It passes: the policies, if there are any, are shadows. `half` if the pod is isolated in the other direction.
    Open { half: bool },
}

impl Kind {
    /// True if the pod is isolated in some direction.
    fn is_isolated(self) -> bool {
        self.end != End::Open { half: false }
    }

    /// The rule for what no other admits.
    fn last(self, policies: &[(&Arc<Policy>, &[Rule])]) -> NftRule {
        let Self { direction, log, end } = self;
        let keys: Vec<String> = policies.iter().map(|(policy, _)| policy.key.to_string()).collect();
        let (tale, what) = match end {
            End::Denied => (Tale::Denied(direction), NOT_ADMITTED),
            End::Open { .. } if keys.is_empty() => return rule![ends(log, Tale::Allowed(direction))],
            End::Open { .. } => (Tale::WouldDeny(direction), WOULD_NOT_BE),
        };
        rule![counter(), ends(log, tale)].comment(format!("{what} {}", keys.join(", ")))
    }
}

/// Whose rule it is.
#[derive(Clone, Copy)]
struct Place<'p, 'a> {
    pod: &'p Pod,
    direction: Direction,
    policy: &'a Policy,
}

impl Place<'_, '_> {
    /// The ports by number; what a name means for the pod itself is a number too.
    fn numbers(&self, port: &Port) -> Option<(L4Proto, RangeInclusive<u16>)> {
        let numbers = match &port.which {
            Which::All => 0..=u16::MAX,
            Which::Numbers(range) => range.first().get()..=range.last().get(),
            Which::Named(_) if self.direction == Direction::Egress => return None,
            Which::Named(name) => {
                let number = self.pod.port_named(name.as_str(), port.transport)?.get();
                number..=number
            }
        };
        Some((proto_of(port.transport), numbers))
    }

    /// The name, where it means something else for everyone that traffic goes to.
    fn name<'r>(&self, port: &'r Port) -> Option<(&'r PortName, Transport)> {
        match &port.which {
            Which::Named(name) if self.direction == Direction::Egress => Some((name, port.transport)),
            _ => None,
        }
    }
}

/// The same ports, in ranges of which none meet: the kernel takes no others. They come in order.
fn joined(numbers: Vec<(L4Proto, RangeInclusive<u16>)>) -> Vec<(L4Proto, RangeInclusive<u16>)> {
    let mut joined: Vec<(L4Proto, RangeInclusive<u16>)> = Vec::new();
    for (proto, ports) in numbers {
        match joined.last_mut() {
            Some((last, range)) if *last == proto && *ports.start() <= range.end().saturating_add(1) => {
                *range = *range.start()..=*range.end().max(ports.end());
            }
            _ => joined.push((proto, ports)),
        }
    }
    joined
}
