//! What must not leave in the clear: routes say so too, and may be missing or somebody else's.

use std::collections::BTreeSet;

use ipnet::IpNet;
use selvedge_model::IfName;
use selvedge_ruleset::matching::{daddr, in_set, oifname};
use selvedge_ruleset::rule::{counter, drop, return_};
use selvedge_ruleset::{
    Base, Chain, ChainName, Field, Hook, ListedTable, Set, SetName, Table, priority, rule,
};

use super::{ipv4, ipv6, nets_of};

const CHAIN: ChainName = ChainName::literal("encrypted");
pub(super) const NETS: [SetName; 2] = [SetName::literal("encrypted4"), SetName::literal("encrypted6")];

/// The part of the agent's table by which nothing goes to these nets but by that device. Pods of this node, which have
/// addresses of those subnets, are reached as ever.
pub fn encrypted(nets: &BTreeSet<IpNet>, device: &IfName, subnets: &[IpNet]) -> Table {
    let [nets4, nets6] = NETS;
    let here = subnets.iter().map(|net| rule![daddr(*net), return_()]);
    let elsewhere = [(Field::IpDaddr, &nets4), (Field::Ip6Daddr, &nets6)].map(|(field, nets)| {
        let rule = rule![in_set([field], nets), !oifname(device), counter(), drop()];
        rule.comment("not in the clear")
    });
    let nets = IpNet::aggregate(&nets.iter().copied().collect());
    let base = Base::filter(Hook::Postrouting, priority::FILTER);
    Table::new()
        .set(nets4.clone(), Set::of(nets.iter().filter_map(ipv4)))
        .set(nets6.clone(), Set::of(nets.iter().filter_map(ipv6)))
        .chain(CHAIN, Chain::base(base, here.chain(elsewhere)))
}

/// What must not leave in the clear by the agent's table as it is now.
pub fn kept(table: &ListedTable) -> Vec<IpNet> {
    nets_of(table, &NETS)
}
