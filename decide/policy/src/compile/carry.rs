//! What is kept where nothing is known of the cluster.

use std::net::IpAddr;

use selvedge_ruleset::set::SetKey;
use selvedge_ruleset::{SetName, Table};

use super::{EGRESS, INGRESS, PODS, POLICY_FORWARD, blocks, compile};
use crate::cluster::Cluster;
use crate::local::{LocalNode, LocalPod};

/// Whose chains and sets are of policies.
const OF_POLICIES: [&str; 8] =
    ["egress-", "ingress-", "peers4-", "peers6-", "named4-", "named6-", "block-", "ports-"];

/// The table for a node that has not heard of its cluster, as after a restart while the API is away: the pods that the
/// kernel has a verdict for keep it, the others are pods that no source has shown. `None` if the kernel's table has no
/// policy in it.
pub fn carry(kernel: &Table, node: &LocalNode) -> Option<Table> {
    kernel.chains.get(&POLICY_FORWARD)?;
    let mut table = compile(&Cluster::default(), node);
    let of_policies = |name: &str| OF_POLICIES.iter().any(|prefix| name.starts_with(prefix));
    let chains = kernel.chains.iter().filter(|(name, _)| of_policies(name.as_str()));
    table.chains.extend(chains.map(|(name, chain)| (name.clone(), chain.clone())));
    let sets = kernel.sets.iter().filter(|(name, _)| of_policies(name.as_str()));
    table.sets.extend(sets.map(|(name, set)| (name.clone(), set.clone())));
    for maps in [EGRESS, INGRESS] {
        for (name, known, is_v4) in [(maps.0, PODS.0, true), (maps.1, PODS.1, false)] {
            let addresses = node.addresses().filter(|(_, address)| address.is_ipv4() == is_v4);
            let kept = addresses.filter(|(pod, address)| is_known(kernel, &known, pod, *address));
            keep(&mut table, (kernel, &name), kept.filter_map(|(_, address)| key(address)));
        }
    }
    Some(table)
}

/// True if the kernel has the address at that very interface: another pod that has got it since is at another one.
fn is_known(kernel: &Table, pods: &SetName, pod: &LocalPod, address: IpAddr) -> bool {
    let interface = || pod.interface.clone();
    let v4 = blocks::v4(address).map(|v4| (interface(), v4).parts());
    let key = v4.or_else(|| blocks::v6(address).map(|v6| (interface(), v6).parts()));
    kernel.sets.get(pods).zip(key).is_some_and(|(set, key)| set.elements().contains_key(&key))
}

fn key(address: IpAddr) -> Option<selvedge_ruleset::set::Key> {
    blocks::v4(address).map(SetKey::parts).or_else(|| blocks::v6(address).map(SetKey::parts))
}

/// Takes the verdicts of these keys from the kernel's map.
fn keep(
    table: &mut Table,
    (kernel, name): (&Table, &SetName),
    keys: impl Iterator<Item = selvedge_ruleset::set::Key>,
) {
    let (Some(fresh), Some(old)) = (table.sets.get(name), kernel.sets.get(name)) else { return };
    let verdict = |key| old.elements().get(&key).cloned().map(|element| (key, element));
    let kept = keys.filter_map(verdict).filter(|(key, element)| fresh.set_type().fits(key, element));
    let kept = fresh.clone().edited(kept.map(|(key, element)| (key, Some(element))));
    table.sets.insert(name.clone(), kept);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use selvedge_ruleset::{Family, TableId, shape};

    use super::*;
    use crate::local::Whose;

    const ID: TableId = TableId::literal(Family::Inet, "selvedge");

    fn pod(interface: &str, address: &str) -> LocalPod {
        LocalPod {
            whose: Whose::Unseen(None),
            interface: interface.parse().unwrap(),
            addresses: vec![address.parse().unwrap()],
        }
    }

    /// The verdicts of the map, by address.
    fn verdicts(table: &Table, map: &SetName) -> BTreeMap<String, String> {
        let elements = table.sets[map].elements().iter();
        elements
            .map(|(key, element)| (format!("{:?}", key[0].first()), format!("{:?}", element.data)))
            .collect()
    }

    #[test]
    fn pods_that_the_kernel_knows_keep_their_verdicts_and_others_are_isolated() {
        let known = LocalNode {
            pods: vec![LocalPod { whose: Whose::Nobody, ..pod("slv1", "10.244.1.2") }],
            ..LocalNode::default()
        };
        let kernel = compile(&Cluster::default(), &known);
        // The second has the address of the first, which is gone, at an interface of its own.
        for (pods, expected) in [
            (vec![pod("slv1", "10.244.1.2"), pod("slv2", "10.244.1.3")], ["Return", "unseen"]),
            (vec![pod("slv3", "10.244.1.2"), pod("slv2", "10.244.1.3")], ["unseen", "unseen"]),
        ] {
            let node = LocalNode { pods, ..LocalNode::default() };
            let carried = carry(&kernel, &node).unwrap();
            shape::check(&ID, &carried).unwrap();
            for map in [&EGRESS.0, &INGRESS.0] {
                let verdicts: Vec<String> = verdicts(&carried, map).into_values().collect();
                assert!(verdicts.iter().zip(expected).all(|(v, e)| v.contains(e)), "{verdicts:?}");
            }
            assert_eq!(carry(&carried, &node), Some(carried));
        }
        assert_eq!(carry(&Table::new(), &known), None);
    }
}
