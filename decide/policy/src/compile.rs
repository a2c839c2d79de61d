//! What the kernel of one node gets, so that packets of its pods fare as [`judge`](crate::judge()) says.
//!
//! # Chains
//!
//! | Chain | Where | What for |
//! |---|---|---|
//! | `gate-prerouting` | raw prerouting | what a pod sends goes on only from an address that is known to be its own |
//! | `gate-output` | output | the node sends to a pod only at such an address |
//! | `policy-forward` | forward | revoked flows are cut, answers pass; the others leave a pod by its egress chain and enter one by its ingress chain |
//! | `from-pods`, `to-known-pods` | | one lookup of the pod's address in a verdict map, and a drop behind it |
//! | `to-pods` | | before that, whether the address is one of the pod's behind that interface |
//! | `egress-HASH`, `ingress-HASH` | | the rules of all policies that isolate a pod, and a drop behind them; of a pod's shadows, and none |
//! | `denied-egress`, `denied-ingress` | | tell of what a chain does not admit, and drop it |
//! | `would-deny-egress`, `would-deny-ingress` | | tell of what shadows would not admit |
//! | `allowed-egress`, `allowed-ingress` | | tell of what passes, where that is asked for |
//! | `strays`, `revoked` | | drop what belongs to no connection, or to one that is no longer allowed |
//! | `half-isolated` | | for pods that are isolated the other way alone: no connection is taken up in the middle |
//!
//! The gates and the maps are closed by construction: their values are `return` and `goto`, and whatever isn't in them
//! is dropped. So a pod exchanges nothing with anybody until its addresses are there, and they get there in the
//! transaction that has its policies. A pod's own node is exempt by hook: between the two there is no forward hook.
//!
//! # Sets
//!
//! | Set | Holds |
//! |---|---|
//! | `pods4`, `pods6` | interface and address of each pod of this node |
//! | `itself4`, `itself6` | each such pod's addresses, paired with each other |
//! | `egress4`, `egress6`, `ingress4`, `ingress6` | verdict maps from the address of a pod of this node to its chain |
//! | `peers4-HASH`, `peers6-HASH` | the addresses of the pods that a pair of selectors means |
//! | `named4-HASH`, `named6-HASH` | the same with the port that each of them calls by a name |
//! | `block-HASH` | the ranges of a block that its exceptions leave |
//! | `ports-HASH` | protocols and ports |
//! | `revoked4`, `revoked6` | both directions of flows that were allowed once and are no longer, by addresses, protocol and ports |
//! | `told-denied4`, `told-denied6`, `told-allowed4`, `told-allowed6` | pods of which something was told lately |
//! | `revoked-portless4`, `revoked-portless6` | the same of protocols without ports |
//!
//! Sets of addresses are hash sets; ranges are in small sets that never change. A set is called by what it stands for,
//! so equal selectors share one and a pod that comes or goes is one element in each that it belongs to. A chain is
//! called by the policies it is made of, so pods of the same policies share one. A packet passes the rules of the
//! policies that select its ends, and no others.
//!
//! What is in the sets of revoked flows is the kernel's own affair and [`Revoker`](crate::Revoker)'s, no part of the table.
//!
//! What is told of packets, and how often, is in `log`; what their counters count in `counted`.

mod blocks;
mod carry;
mod compiler;
pub(crate) mod counted;
pub(crate) mod log;
mod members;
mod peers;
mod pod;
pub(crate) mod revoked;

use std::net::IpAddr;
use std::sync::Arc;

pub use carry::carry;
pub use compiler::Compiled;
use compiler::Compiler;
use selvedge_model::Pod;
use selvedge_ruleset::matching::{
    IfPrefix, ct_established, icmpv6_type, iifname, iifname_prefix, in_set, oifname, oifname_prefix,
};
use selvedge_ruleset::rule::{accept, counter, drop, goto, jump, return_, vmap};
use selvedge_ruleset::{
    Base, Chain, ChainName, Field, Hook, Icmp6Type, Rule, Set, SetName, Table, Verdict, priority, rule,
};

use crate::cluster::Cluster;
use crate::local::{LocalNode, LocalPod, Netlog, Unknown, Whose};
use selvedge_model::policy::Direction;

const HOST_ENDS: IfPrefix = IfPrefix::literal(selvedge_model::names::HOST_VETH_PREFIX);

const GATE_PREROUTING: ChainName = ChainName::literal("gate-prerouting");
const GATE_OUTPUT: ChainName = ChainName::literal("gate-output");
const POLICY_FORWARD: ChainName = ChainName::literal("policy-forward");
const FROM_PODS: ChainName = ChainName::literal("from-pods");
const TO_PODS: ChainName = ChainName::literal("to-pods");
const TO_KNOWN_PODS: ChainName = ChainName::literal("to-known-pods");
const SENT_BY_PODS: ChainName = ChainName::literal("sent-by-pods");
const SENT_TO_PODS: ChainName = ChainName::literal("sent-to-pods");
/// Where pods are led that no source has shown, in a namespace that has policies.
const UNSEEN: ChainName = ChainName::literal("unseen");

const PODS: Pair = Pair(SetName::literal("pods4"), SetName::literal("pods6"));
const ITSELF: Pair = Pair(SetName::literal("itself4"), SetName::literal("itself6"));
const EGRESS: Pair = Pair(SetName::literal("egress4"), SetName::literal("egress6"));
const INGRESS: Pair = Pair(SetName::literal("ingress4"), SetName::literal("ingress6"));

/// Two sets that hold the same, one for IPv4 and one for IPv6.
pub(crate) struct Pair(pub(crate) SetName, pub(crate) SetName);

/// The chains and sets of policy for the agent's table.
pub fn compile(cluster: &Cluster, node: &LocalNode) -> Table {
    compile_after(&Compiled::default(), &Arc::new(cluster.clone()), node).into_table()
}

/// The same where something was compiled before: what hasn't changed since is taken over, at the cost of what has.
///
/// For its pods to be peers of each other before any API tells of their addresses, the cluster has been told of them:
/// [`Cluster::attach`].
pub fn compile_after(before: &Compiled, cluster: &Arc<Cluster>, node: &LocalNode) -> Compiled {
    if let Some(compiled) = before.with_members_of(cluster, node) {
        return compiled;
    }
    let mut table = Table::new()
        .chain(
            GATE_PREROUTING,
            Chain::base(Base::filter(Hook::Prerouting, priority::RAW), ways(node, Way::In, &SENT_BY_PODS)),
        )
        .chain(
            GATE_OUTPUT,
            Chain::base(Base::filter(Hook::Output, priority::FILTER), ways(node, Way::Out, &SENT_TO_PODS)),
        )
        .chain(SENT_BY_PODS, sent_by_pods(node.unknown))
        .chain(SENT_TO_PODS, sent_to_pods(node.unknown))
        .chain(POLICY_FORWARD, policy_forward(node))
        .chain(FROM_PODS, by_address(node.unknown, &EGRESS, [Field::IpSaddr, Field::Ip6Saddr]))
        .chain(TO_PODS, at_its_interface(node.unknown))
        .chain(TO_KNOWN_PODS, by_address(node.unknown, &INGRESS, [Field::IpDaddr, Field::Ip6Daddr]))
        .chain(
            UNSEEN,
            Chain::regular([
                log::of_others(log::Tale::Unseen),
                rule![counter(), drop()].comment("pod is not known, its namespace has policies"),
            ]),
        );
    let known4 = node.addresses().filter_map(|(pod, a)| Some((pod.interface.clone(), blocks::v4(a)?)));
    let known6 = node.addresses().filter_map(|(pod, a)| Some((pod.interface.clone(), blocks::v6(a)?)));
    table = table.set(PODS.0, Set::of(known4)).set(PODS.1, Set::of(known6));
    table = log::put(revoked::put(itself(cluster, node, table)));
    let mut compiler = Compiler::new(cluster, table, before);
    for (direction, pair) in [(Direction::Egress, EGRESS), (Direction::Ingress, INGRESS)] {
        let verdicts = node.addresses().map(|(pod, a)| (a, compiler.verdict(pod, a, direction)));
        let verdicts: Vec<(IpAddr, Verdict)> = verdicts.collect();
        let v4 = verdicts.iter().filter_map(|(a, verdict)| Some((blocks::v4(*a)?, verdict.clone())));
        let v6 = verdicts.iter().filter_map(|(a, verdict)| Some((blocks::v6(*a)?, verdict.clone())));
        compiler.put(pair.0, || Set::verdicts(v4));
        compiler.put(pair.1, || Set::verdicts(v6));
    }
    match node.netlog {
        Netlog::Present => compiler.finish(node.clone()),
        Netlog::Missing => compiler.finish(node.clone()).with(log::mute),
    }
}

#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// Leads what comes from pods, or goes to them, to a chain.
fn ways(node: &LocalNode, way: Way, chain: &ChainName) -> Vec<Rule> {
    let host_ends = match way {
        Way::In => iifname_prefix(&HOST_ENDS),
        Way::Out => oifname_prefix(&HOST_ENDS),
    };
    let bridge = node.bridge.as_ref().map(|bridge| match way {
        Way::In => iifname(bridge),
        Way::Out => oifname(bridge),
    });
    [Some(host_ends), bridge].into_iter().flatten().map(|at| rule![at, jump(chain)]).collect()
}

/// Neighbour discovery passes: without it no address could be reached once it is known.
fn discovery() -> [Rule; 2] {
    [Icmp6Type::NEIGHBOUR_SOLICIT, Icmp6Type::NEIGHBOUR_ADVERT]
        .map(|kind| rule![icmpv6_type(kind), return_()])
}

fn sent_by_pods(unknown: Unknown) -> Chain {
    let own = [(Field::IpSaddr, &PODS.0), (Field::Ip6Saddr, &PODS.1)];
    let own = own.map(|(field, set)| rule![in_set([Field::IifName, field], set), return_()]);
    let told = log::of_foreign().into_iter().filter(|_| unknown == Unknown::Closed);
    let closed = closed(unknown, "no pod here is known to have this source");
    Chain::regular(own.into_iter().chain(discovery()).chain(told).chain(closed))
}

fn sent_to_pods(unknown: Unknown) -> Chain {
    let own = [(Field::IpDaddr, &PODS.0), (Field::Ip6Daddr, &PODS.1)];
    let own = own.map(|(field, set)| rule![in_set([Field::OifName, field], set), return_()]);
    let closed = closed(unknown, "no pod here is known to have this destination");
    Chain::regular(own.into_iter().chain(discovery()).chain(closed))
}

fn policy_forward(node: &LocalNode) -> Chain {
    let own =
        [([Field::IpSaddr, Field::IpDaddr], &ITSELF.0), ([Field::Ip6Saddr, Field::Ip6Daddr], &ITSELF.1)];
    let own = own.map(|(key, set)| rule![in_set(key, set), accept()].comment("a pod always reaches itself"));
    let rules = revoked::rules().chain([rule![ct_established(), accept()]]).chain(own);
    let rules = rules.chain(ways(node, Way::In, &FROM_PODS)).chain(ways(node, Way::Out, &TO_PODS));
    Chain::base(Base::filter(Hook::Forward, priority::FILTER), rules)
}

/// An address leads to its pod at that pod's interface alone: one that got the address after it has verdicts of its own.
fn at_its_interface(unknown: Unknown) -> Chain {
    let known = [(Field::IpDaddr, &PODS.0), (Field::Ip6Daddr, &PODS.1)];
    let known = known.map(|(field, set)| rule![in_set([Field::OifName, field], set), goto(&TO_KNOWN_PODS)]);
    Chain::regular(known.into_iter().chain(closed(unknown, "no pod here is known to have this address")))
}

fn by_address(unknown: Unknown, maps: &Pair, [v4, v6]: [Field; 2]) -> Chain {
    let maps = [rule![vmap([v4], &maps.0)], rule![vmap([v6], &maps.1)]];
    Chain::regular(maps.into_iter().chain(closed(unknown, "no pod here is known to have this address")))
}

/// What drops the rest.
fn closed(unknown: Unknown, why: &str) -> Option<Rule> {
    (unknown == Unknown::Closed).then(|| rule![counter(), drop()].comment(why))
}

/// A pod's addresses paired with each other. One that several pods have is no sign of a pod's speaking to itself.
fn itself(cluster: &Cluster, node: &LocalNode, table: Table) -> Table {
    let is_its_alone = |pod: &LocalPod, address: IpAddr| {
        let mut holders = cluster.with_address(address);
        let first = holders.next();
        holders.next().is_none()
            && first.is_none_or(|holder: &Pod| pod.whose == Whose::Pod(holder.key.clone()))
    };
    let pairs = node.pods.iter().flat_map(|pod| {
        let own: Vec<IpAddr> = pod.addresses.iter().copied().filter(|a| is_its_alone(pod, *a)).collect();
        let others = own.clone();
        own.into_iter().flat_map(move |one| others.clone().into_iter().map(move |other| (one, other)))
    });
    let pairs: Vec<(IpAddr, IpAddr)> = pairs.collect();
    let v4 = pairs.iter().filter_map(|(one, other)| Some((blocks::v4(*one)?, blocks::v4(*other)?)));
    let v6 = pairs.iter().filter_map(|(one, other)| Some((blocks::v6(*one)?, blocks::v6(*other)?)));
    table.set(ITSELF.0, Set::of(v4)).set(ITSELF.1, Set::of(v6))
}

#[cfg(test)]
pub(crate) mod tests;
