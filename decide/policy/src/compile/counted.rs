//! What the counters in chains count, and the sums of them that outlast chains.

use std::collections::BTreeMap;

use selvedge_model::policy::{Direction, PolicyKey};
use selvedge_ruleset::listed::{Counted, Handle};
use selvedge_ruleset::{ChainName, Comment};

use super::log::STRAYS;
use super::pod::{Made, pods_at};
use super::{FROM_PODS, POLICY_FORWARD, SENT_BY_PODS, SENT_TO_PODS, TO_KNOWN_PODS, TO_PODS, UNSEEN};
use crate::cluster::Cluster;
use crate::local::LocalNode;

/// How the comments begin of rules that count what no rule admits.
pub(super) const NOT_ADMITTED: &str = "not admitted by";
/// The same of shadows' chains.
pub(super) const WOULD_NOT_BE: &str = "would not be admitted by";

/// Whose rules a chain has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Of which direction they are.
    direction: Direction,
    /// The namespace of the pods.
    namespace: String,
    /// The policies.
    policies: Vec<PolicyKey>,
    /// True if they are shadows.
    shadow: bool,
}

/// The chains of a node's pods.
pub type Chains = BTreeMap<ChainName, Chain>;

/// Whose rules the chains of a node's pods have.
pub fn chains(cluster: &Cluster, node: &LocalNode) -> Chains {
    let mut chains = Chains::new();
    for (local, address) in node.addresses() {
        for pod in pods_at(cluster, local, address) {
            for direction in Direction::ALL {
                let made = Made::of(cluster, pod, direction);
                chains.entry(made.name(pod)).or_insert_with(|| Chain {
                    direction,
                    namespace: pod.key.namespace.clone(),
                    policies: made.keys().cloned().collect(),
                    shadow: made.is_shadow(),
                });
            }
        }
    }
    chains
}

/// Why a packet is dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drop {
    /// No policy admits it at a pod of that namespace.
    Policy(String, Direction),
    /// It opens no connection and belongs to none.
    Stray,
    /// Its flow was allowed once.
    Revoked,
    /// It is of a pod that no source has shown.
    Unseen,
    /// It is from, or to, an address that isn't known to be its pod's.
    UnknownAddress,
}

/// Sums over all chains that there were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// What rules of policies admitted: each packet once.
    pub admitted: BTreeMap<(PolicyKey, Direction), u64>,
    /// What no rule admitted, for each of the policies that isolate the pod.
    pub denied: BTreeMap<(PolicyKey, Direction), u64>,
    /// What rules of shadows would admit.
    pub would_admit: BTreeMap<(PolicyKey, Direction), u64>,
    /// What no rule of shadows would admit, for each of them.
    pub would_deny: BTreeMap<(PolicyKey, Direction), u64>,
    /// What was dropped: each packet once.
    pub dropped: BTreeMap<Drop, u64>,
}

/// Counters as they are read one time after the other, and their sums.
#[derive(Debug, Default)]
pub struct Counting {
    /// What each rule had counted at last; nothing was read yet where there is none.
    last: Option<BTreeMap<(ChainName, Handle), Last>>,
    chains: Chains,
    totals: Totals,
}

/// What a rule had counted at last.
#[derive(Debug, Clone, Copy)]
struct Last {
    packets: u64,
    /// False if it was missing from the last reading: that it has gone may be yet to be told.
    there: bool,
}

impl Counting {
    /// Takes rules that have gone since the last reading, with all that they had counted.
    pub fn take_gone(&mut self, gone: &[Counted]) {
        let Some(last) = &mut self.last else { return };
        for rule in gone {
            let before = last.remove(&(rule.chain.clone(), rule.handle)).map_or(0, |last| last.packets);
            self.totals.add(rule, &self.chains, rule.packets.saturating_sub(before));
        }
    }

    /// Takes what has just been read. What was counted before the first reading is nobody's.
    pub fn take(&mut self, counted: &[Counted], (cluster, chains): (&Cluster, Chains)) {
        self.chains.extend(chains);
        let before = self.last.take();
        let mut now = BTreeMap::new();
        for rule in counted {
            let key = (rule.chain.clone(), rule.handle);
            let packets = rule.packets;
            let before = match &before {
                None => packets,
                // A number comes again where the table has been made anew.
                Some(last) => last.get(&key).map(|last| last.packets).filter(|b| *b <= packets).unwrap_or(0),
            };
            self.totals.add(rule, &self.chains, packets - before);
            now.insert(key, Last { packets, there: true });
        }
        for (key, last) in before.into_iter().flatten().filter(|(_, last)| last.there) {
            now.entry(key).or_insert(Last { there: false, ..last });
        }
        self.chains.retain(|chain, _| now.keys().any(|(known, _)| known == chain));
        self.last = Some(now);
        self.totals.forget_all_but(cluster);
    }

    /// The sums until now.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}

impl Totals {
    fn add(&mut self, counted: &Counted, chains: &Chains, more: u64) {
        if let Some(drop) = drop_of(&counted.chain) {
            *self.dropped.entry(drop).or_default() += more;
            return;
        }
        let comment = counted.rule.comment_text().map(Comment::as_str);
        let (Some(chain), Some(comment)) = (chains.get(&counted.chain), comment) else { return };
        let direction = chain.direction;
        if comment.starts_with(NOT_ADMITTED) || comment.starts_with(WOULD_NOT_BE) {
            let sums = if chain.shadow { &mut self.would_deny } else { &mut self.denied };
            for policy in &chain.policies {
                *sums.entry((policy.clone(), direction)).or_default() += more;
            }
            if !chain.shadow {
                *self.dropped.entry(Drop::Policy(chain.namespace.clone(), direction)).or_default() += more;
            }
            return;
        }
        let sums = if chain.shadow { &mut self.would_admit } else { &mut self.admitted };
        // A comment may have lost its end.
        let is_of = |key: &&PolicyKey| comment.starts_with(Comment::new(&of_rules(key, direction)).as_str());
        if let Some(policy) = chain.policies.iter().find(is_of) {
            *sums.entry((policy.clone(), direction)).or_default() += more;
        }
    }

    /// Policies that are gone have no sums.
    fn forget_all_but(&mut self, cluster: &Cluster) {
        for sums in [&mut self.admitted, &mut self.denied, &mut self.would_admit, &mut self.would_deny] {
            sums.retain(|(policy, _), _| cluster.policies().contains_key(policy));
        }
    }
}

/// How the comments of a policy's rules begin.
pub(super) fn of_rules(policy: &PolicyKey, direction: Direction) -> String {
    format!("{policy} {direction}[")
}

/// What the counters of chains mean that are always there.
fn drop_of(chain: &ChainName) -> Option<Drop> {
    let unknown = [FROM_PODS, TO_PODS, TO_KNOWN_PODS, SENT_BY_PODS, SENT_TO_PODS];
    match chain {
        chain if *chain == STRAYS => Some(Drop::Stray),
        chain if *chain == UNSEEN => Some(Drop::Unseen),
        chain if *chain == POLICY_FORWARD => Some(Drop::Revoked),
        chain => unknown.contains(chain).then_some(Drop::UnknownAddress),
    }
}
