use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use selvedge_model::policy::{Peer, Peers};
use selvedge_model::{Pod, Transport};
use selvedge_policy::testing::{cluster, parties};
use selvedge_policy::{Cluster, Flow, Protocol, Source, Verdict, judge};

use crate::compare::{Unit, denied, rectangles};
use crate::groups::{Both, Groups};
use crate::merge::Rectangle;
use crate::regions::networks;
use crate::{Changes, Effect, Family, Limit};

/// The same clusters each time; others, and more, by PROPTEST_RNG_SEED and PROPTEST_CASES.
fn config() -> ProptestConfig {
    let given = ProptestConfig::default();
    let rng_seed = if given.rng_seed == RngSeed::Random { RngSeed::Fixed(5) } else { given.rng_seed };
    ProptestConfig { rng_seed, failure_persistence: None, ..given }
}

/// Half of what is otherwise in another cluster.
fn changes(from: &Cluster, to: &Cluster, choices: &[bool]) -> Changes {
    let mut choices = choices.iter().copied().cycle();
    let mut chosen = || choices.next().unwrap_or_default();
    let mut changes = Changes::default();
    changes.policies.extend(to.policies().values().filter(|_| chosen()).cloned());
    changes.deleted.extend(from.policies().keys().filter(|_| chosen()).cloned());
    if chosen() {
        let namespaces = to.namespaces().iter().filter(|_| chosen());
        changes.namespaces.extend(namespaces.map(|(name, labels)| (name.clone(), labels.clone())));
    }
    if chosen() {
        let pods = to.pods().values().zip(from.pods().values()).filter(|_| chosen());
        let pods = pods.map(|(pod, there)| Pod { key: there.key.clone(), ..Pod::clone(pod) });
        changes.pods.extend(pods.map(Arc::new));
    }
    changes
}

/// Somebody at each edge of each block.
fn edges(clusters: [&Cluster; 2]) -> BTreeSet<IpAddr> {
    let policies = clusters.into_iter().flat_map(|cluster| cluster.policies().values());
    let rules = policies.flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
    let peers = rules.filter_map(|rule| match &rule.peers {
        Peers::Of(peers) => Some(peers),
        Peers::Anyone => None,
    });
    let mut edges = BTreeSet::new();
    for peer in peers.flatten() {
        let Peer::Block(block) = peer else { continue };
        for net in [block.cidr()].iter().chain(block.except()) {
            edges.extend([net.network(), net.broadcast()]);
            let after = networks(&[(net.network(), net.broadcast())]);
            assert_eq!(after, [*net]);
        }
    }
    edges
}

fn protocols() -> Vec<Protocol> {
    let ports = [0, 1, 52, 53, 54, 79, 80, 81, 82, 90, 443, 8079, 8080, 8081, 8082, 8090, 9000, u16::MAX];
    let of = |port| Transport::ALL.map(|transport| Protocol::Port(transport, port));
    let other = [Protocol::ICMP, Protocol::ICMPV6, Protocol::Other(47)];
    ports.into_iter().flat_map(of).chain(other).collect()
}

/// Whether one of the groups is whoever has an address: a host, a pod, or somebody outside.
fn is_among(
    units: &[Unit],
    (groups, cluster): (&Groups<'_>, &Cluster),
    (host, address): (Option<&str>, IpAddr),
) -> bool {
    let is_node = |address| cluster.nodes().values().any(|node| node.addresses.contains(&address));
    let is_outside = host.is_none() && cluster.with_address(address).next().is_none() && !is_node(address);
    units.iter().any(|unit| match *unit {
        Unit::Pods(at) => {
            host.is_none() && groups.pods[at].members.iter().any(|pod| pod.addresses.contains(&address))
        }
        Unit::Nodes(at) => groups.nodes[at].members.iter().any(|(name, addresses)| match host {
            Some(host) => name.as_str() == host,
            None => addresses.contains(&address),
        }),
        Unit::Outside(at) => {
            let (first, last) = groups.outside[at].range;
            is_outside && first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&address)
        }
    })
}

struct Comparison<'a> {
    clusters: [&'a Cluster; 2],
    groups: Groups<'a>,
    lines: Vec<Rectangle>,
}

impl Comparison<'_> {
    /// The lines that are about a flow.
    fn about(&self, flow: &Flow) -> Vec<&Rectangle> {
        let host = match &flow.source {
            Source::Host(node, _) => Some(node.as_str()),
            Source::Address(_) => None,
        };
        let family = if flow.destination.is_ipv4() { Family::V4 } else { Family::V6 };
        let is_about = |line: &&Rectangle| {
            line.becomes.family.is_none_or(|of| of == family)
                && line.becomes.ports.contains(flow.protocol)
                && is_among(&line.from, (&self.groups, self.clusters[0]), (host, flow.source.address()))
                && is_among(&line.to, (&self.groups, self.clusters[0]), (None, flow.destination))
        };
        self.lines.iter().filter(is_about).collect()
    }

    /// True if lines are not about it though they name both ends: a pod and itself, a pod and its own node.
    fn is_excluded(&self, flow: &Flow) -> bool {
        let cluster = self.clusters[0];
        let [from, to] = [flow.source.address(), flow.destination]
            .map(|address| cluster.with_address(address).collect::<Vec<_>>());
        match &flow.source {
            Source::Host(node, _) => to.iter().any(|pod| pod.node.as_ref() == Some(node)),
            Source::Address(_) => {
                let own_node = from.iter().any(|pod| cluster.is_own_node(pod, flow.destination));
                own_node || (from.len() == 1 && to.len() == 1 && from[0].key == to[0].key)
            }
        }
    }

    fn check(&self, flow: &Flow) {
        let [before, after] = self.clusters.map(|cluster| judge(cluster, flow));
        let expected = match (&before, &after) {
            (Verdict::Allow { .. }, Verdict::Deny(reason)) => Some((Effect::Closes, denied(reason))),
            (Verdict::Deny(_), Verdict::Allow { .. }) => Some((Effect::Opens, String::new())),
            _ => None,
        };
        if expected.is_none() && self.is_excluded(flow) {
            return;
        }
        let lines = self.about(flow);
        let told = || {
            format!(
                "{flow:?}: {before} then {after}; told is {lines:?} of {:?}\nwith {:?}",
                self.lines, self.groups
            )
        };
        match expected {
            None => assert!(lines.is_empty(), "{}", told()),
            Some((effect, why)) => {
                assert!(lines.len() == 1, "{}", told());
                assert!(lines.iter().all(|line| line.becomes.effect == effect), "{}", told());
                let is_why = |line: &&Rectangle| why.is_empty() || line.becomes.why == why;
                assert!(lines.iter().all(is_why), "{}", told());
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    /// Each flow that becomes otherwise is told in one line, and no other is told of.
    #[test]
    fn what_is_told_of_groups_is_what_judging_every_flow_finds(
        from in cluster(), to in cluster(), choices in vec(any::<bool>(), 1..24), turn in 0_usize..8
    ) {
        let changes = changes(&from, &to, &choices);
        let (after, _) = changes.to(&from).unwrap();
        let both = Both { before: &from, after: &after };
        let groups = Groups::of(both);
        let (lines, complete) = rectangles(both, &groups, Limit::default());
        prop_assert!(complete);
        let unclear: BTreeSet<IpAddr> =
            groups.unclear.iter().flat_map(|key| &from.pods()[*key].addresses).copied().collect();
        let compared = Comparison { clusters: [&from, &after], groups, lines };
        let nodes: BTreeSet<IpAddr> = from.nodes().values().flat_map(|node| node.addresses.iter().copied()).collect();
        let edges = edges([&from, &after]).into_iter().map(Source::Address);
        // What bears a node's address without being sent there is told as nobody's, and of pods that share
        // an address nothing is told.
        let is_told = |source: &Source| match source {
            Source::Host(..) => true,
            Source::Address(address) => {
                !nodes.contains(address) && !unclear.contains(address)
            }
        };
        let own = parties(&from).into_iter().filter(is_told);
        let sources: Vec<Source> = own.chain(edges.filter(is_told)).collect();
        let is_clear = |address: &IpAddr| !unclear.contains(address);
        let destinations: BTreeSet<IpAddr> =
            sources.iter().map(Source::address).filter(is_clear).collect();
        let protocols = protocols();
        for (index, (source, destination)) in
            sources.iter().flat_map(|s| destinations.iter().map(move |d| (s, *d))).enumerate()
        {
            if source.address().is_ipv4() != destination.is_ipv4() {
                continue;
            }
            // Every eighth protocol, others for each pair.
            for protocol in protocols.iter().skip((index + turn) % 8).step_by(8) {
                let flow = Flow { source: source.clone(), destination, protocol: *protocol };
                compared.check(&flow);
            }
        }
    }
}
