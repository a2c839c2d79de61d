//! Random policies.

use std::num::NonZeroU16;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use selvedge_model::Transport;

use super::NAMESPACES;
use crate::cluster::NAMESPACE_NAME;
use selvedge_model::policy::{
    IpBlock, Mode, Namespaces, Peer, Peers, PodPeer, Policy, PolicyKey, Port, PortName, PortRange, Ports,
    Rule, Which,
};
use selvedge_model::selector::{Requirement, Selector, Values};

/// Networks of pods, nodes and the outside, wide and narrow.
const NETWORKS: [&str; 12] = [
    "0.0.0.0/0",
    "10.244.0.0/16",
    "10.244.1.0/24",
    "10.244.1.0/28",
    "10.244.2.0/27",
    "172.30.0.0/24",
    "192.0.2.0/24",
    "::/0",
    "fd00:244::/32",
    "fd00:244:1::/64",
    "fd00:244:2::/123",
    "fd00:30::/64",
];

/// A policy without a name.
pub(super) fn policy() -> impl Strategy<Value = Policy> {
    let rules = || vec(rule(), 0..=2);
    let directions = prop_oneof![
        4 => (rules().prop_map(Some), Just(None)),
        3 => (Just(None), rules().prop_map(Some)),
        3 => (rules().prop_map(Some), rules().prop_map(Some)),
    ];
    let broken = proptest::bool::weighted(0.04);
    let mode = prop_oneof![19 => Just(Mode::Enforced), 1 => Just(Mode::Shadow)];
    (select(&NAMESPACES[..]), selector(&["app", "tier"]), directions, broken, mode).prop_map(
        |(namespace, selects, (ingress, egress), broken, mode)| {
            let key = PolicyKey { namespace: namespace.to_owned(), name: String::new() };
            let rules = |rules: Option<Vec<Rule>>| {
                if broken { rules.map(|_admits_nothing| Vec::new()) } else { rules }
            };
            let refused = broken.then(|| "spec.ingress: is no good".to_owned());
            Policy { key, selects, ingress: rules(ingress), egress: rules(egress), mode, refused }
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let peers = prop_oneof![1 => Just(Peers::Anyone), 7 => vec(peer(), 1..=2).prop_map(Peers::Of)];
    let ports = prop_oneof![2 => Just(Ports::Any), 5 => vec(port(), 1..=2).prop_map(Ports::Of)];
    (peers, ports).prop_map(|(peers, ports)| Rule { peers, ports })
}

fn peer() -> impl Strategy<Value = Peer> {
    let namespaces = || selector(&["team", "env", NAMESPACE_NAME]).prop_map(Namespaces::Labelled);
    let pods = || selector(&["app", "tier"]);
    prop_oneof![
        2 => pods().prop_map(|pods| Peer::Pods(PodPeer { namespaces: Namespaces::Own, pods })),
        2 => namespaces().prop_map(|namespaces| Peer::Pods(PodPeer { namespaces, pods: Selector::everything() })),
        2 => (namespaces(), pods()).prop_map(|(namespaces, pods)| Peer::Pods(PodPeer { namespaces, pods })),
        3 => block().prop_map(Peer::Block),
    ]
}

fn block() -> impl Strategy<Value = IpBlock> {
    let net = |text: &str| text.parse::<IpNet>().expect("a network");
    let nets: Vec<IpNet> = NETWORKS.iter().map(|text| net(text)).collect();
    (select(nets.clone()), subsequence(nets, 0..=4)).prop_filter_map("an empty block", |(cidr, except)| {
        let inside = except.into_iter().filter(|net| cidr.contains(net) && *net != cidr);
        IpBlock::new(cidr, inside).ok()
    })
}

fn port() -> impl Strategy<Value = Port> {
    let transport =
        prop_oneof![4 => Just(Transport::Tcp), 3 => Just(Transport::Udp), 3 => Just(Transport::Sctp)];
    let number = |number| NonZeroU16::new(number).expect("no zero");
    let range = move |(first, last)| PortRange::new(number(first), number(last)).expect("in order");
    let ranges = [(53, 80), (80, 90), (81, 8080), (1, 65535), (8080, 8081)].map(range);
    let name = |text| PortName::new(text).expect("a port's name");
    let which = prop_oneof![
        1 => Just(Which::All),
        2 => select(&[53, 80, 8080][..]).prop_map(move |port| Which::Numbers(PortRange::one(number(port)))),
        2 => select(ranges.to_vec()).prop_map(Which::Numbers),
        2 => select(&["http", "dns"][..]).prop_map(move |text| Which::Named(name(text))),
    ];
    (transport, which).prop_map(|(transport, which)| Port { transport, which })
}

/// A selector by these keys, each with the values that labels have.
fn selector(keys: &'static [&'static str]) -> impl Strategy<Value = Selector> {
    prop_oneof![
        2 => Just(Selector::everything()),
        5 => vec(requirement(keys), 1..=2).prop_map(Selector::from_iter),
    ]
}

fn requirement(keys: &'static [&'static str]) -> impl Strategy<Value = Requirement> {
    (select(keys), 0..4, subsequence(vec!["1", "2"], 1..=2), subsequence(NAMESPACES.to_vec(), 1..=2))
        .prop_map(|(key, operator, values, names)| {
            let values = if key == NAMESPACE_NAME { names } else { values };
            let values = Values::new(values.into_iter().map(str::to_owned)).expect("at least one");
            let key = key.to_owned();
            match operator {
                0 => Requirement::In(key, values),
                1 => Requirement::NotIn(key, values),
                2 => Requirement::Exists(key),
                _ => Requirement::DoesNotExist(key),
            }
        })
}
