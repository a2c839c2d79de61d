use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::after::after;
use crate::listed::{Listed, ListedChain, ListedRule, ListedTable, Seen};
use crate::matching::{ct_established, mark, saddr};
use crate::rule::{accept, counter, drop, jump};
use crate::table::{Base, Hook, priority};
use crate::{Match, rule};

const TABLE: TableId = TableId::literal(Family::Ip, "filter");
const FORWARD: ChainName = ChainName::literal("FORWARD");

fn network(name: &str) -> NetworkName {
    name.parse().unwrap()
}

fn net(third: u8) -> Match {
    saddr(ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert([10, 244, third, 0].into(), 24)))
}

fn own(third: u8, of: &str) -> Rule {
    rule![net(third), counter(), accept()].comment(comment_of(&network(of)))
}

fn chain(policy: Policy, rules: impl IntoIterator<Item = Rule>) -> ForeignChain {
    let rules = rules.into_iter().zip(1..).map(|(rule, handle)| ForeignRule { handle: Handle(handle), rule });
    ForeignChain { table: TABLE, chain: FORWARD, policy, rules: rules.collect() }
}

/// The chain after a transaction, as the kernel would have it.
fn changed(chain: &ForeignChain, transaction: &Transaction) -> ForeignChain {
    let rules = chain.rules.iter().map(|r| ListedRule { handle: r.handle, rule: r.rule.clone() }).collect();
    let base = Base::filter(Hook::Forward, priority::FILTER).policy(chain.policy);
    let listed = ListedChain { base: Seen::Known(Some(base)), rules };
    let mut table = ListedTable::default();
    table.chains.insert(FORWARD, listed);
    let tables = after(&Listed::from([(TABLE, table)]), transaction).unwrap();
    let rules = tables[&TABLE].chains[&FORWARD].rules.iter();
    let rules = rules.map(|r| ForeignRule { handle: r.handle, rule: r.rule.clone() }).collect();
    ForeignChain { rules, ..chain.clone() }
}

#[test]
fn a_chain_that_may_drop_needs_our_rules() {
    let leaf = ChainName::literal("ufw-reject-forward");
    let needs = |policy, rules: Vec<Rule>| chain(policy, rules).needs_accept();
    assert!(needs(Policy::Drop, vec![]));
    assert!(needs(Policy::Accept, vec![rule![mark(1), drop()]]));
    assert!(needs(Policy::Accept, vec![rule![counter(), jump(&leaf)]]));
    assert!(!needs(Policy::Accept, vec![]));
    assert!(!needs(Policy::Accept, vec![rule![ct_established(), accept()]]));
    assert!(!needs(Policy::Accept, vec![own(1, "mynet")]));
}

#[test]
fn another_tables_chain_needs_them_only_if_it_drops_what_nothing_else_decides() {
    let other = |name: &'static str, rules: Vec<Rule>| ForeignChain {
        table: TableId::literal(Family::Inet, name),
        ..chain(Policy::Accept, rules)
    };
    let reject = || rule![counter(), Statement::Unknown("reject".to_owned())];
    assert!(!other("filter", vec![rule![mark(1), drop()]]).needs_accept());
    assert!(other("filter", vec![rule![mark(1), drop()], reject()]).needs_accept());
    assert!(!other("firewalld", vec![reject()]).needs_accept());
}

#[test]
fn a_network_whose_name_begins_like_ours_is_another_one() {
    let rule = &chain(Policy::Drop, [own(1, "mynet2")]).rules[0];
    assert!(!rule.belongs_to(&network("mynet")));
    assert!(rule.belongs_to(&network("mynet2")));
}

fn any_rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        (0..3u8).prop_map(|third| own(third, "mynet")),
        (0..3u8).prop_map(|third| own(third, "mynet2")),
        (0..9u32).prop_map(|bits| rule![mark(bits), drop()]),
    ]
}

proptest! {
    #[test]
    fn our_rules_come_to_the_head_and_nobody_elses_move(
        rules in vec(any_rule(), 0..8),
        thirds in proptest::collection::btree_set(0..3u8, 0..3),
    ) {
        let mynet = network("mynet");
        let wanted: Vec<Rule> = thirds.into_iter().map(|third| own(third, "mynet")).collect();
        let before = chain(Policy::Drop, rules);
        let later = changed(&before, &before.set_accept(&mynet, &wanted));
        let mut in_force: Vec<Rule> = later.in_force(&mynet).into_iter().cloned().collect();
        in_force.sort_by_key(ToString::to_string);
        prop_assert_eq!(in_force, wanted.clone());
        prop_assert!(!later.is_untidy(&mynet));
        prop_assert!(later.set_accept(&mynet, &wanted).is_empty());
        let others = |chain: &ForeignChain| {
            let others = chain.rules.iter().filter(|rule| !rule.belongs_to(&mynet));
            others.cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&before), others(&later));
    }
}
