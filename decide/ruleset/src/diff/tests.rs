use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::after::after;
use crate::matching::{in_set, mark};
use crate::name::Family;
use crate::rule::{accept, counter, drop, goto};
use crate::set::SetKey;
use crate::table::{Hook, priority};
use crate::{Field, Policy, Verdict, rule};

const T: TableId = TableId::literal(Family::Inet, "t");
const C: ChainName = ChainName::literal("c");
const F: ChainName = ChainName::literal("f");
const S: SetName = SetName::literal("s");
const M: SetName = SetName::literal("m");

fn script(desired: &Table, observed: &Listed) -> Vec<String> {
    let transaction = diff(&BTreeMap::from([(T, desired.clone())]), observed, Scope::Whole);
    transaction.commands().iter().map(ToString::to_string).collect()
}

fn made(table: &Table) -> Listed {
    let desired = BTreeMap::from([(T, table.clone())]);
    after(&Listed::new(), &diff(&desired, &Listed::new(), Scope::Whole)).unwrap()
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn forward(rules: impl IntoIterator<Item = Rule>) -> Chain {
    Chain::base(Base::filter(Hook::Forward, priority::FILTER), rules)
}

#[test]
fn one_more_element_is_one_command() {
    let before = Table::new().set(S, Set::of((0..100).map(address)));
    let later = Table::new().set(S, Set::of((0..101).map(address)));
    assert_eq!(script(&later, &made(&before)), ["add element inet t s { 10.0.0.100 }"]);
    assert_eq!(script(&before, &made(&later)), ["delete element inet t s { 10.0.0.100 }"]);
}

#[test]
fn one_more_rule_is_put_in_its_place_by_handle() {
    let rules = |marks: &[u32]| marks.iter().map(|&m| rule![mark(m), drop()]).collect::<Vec<_>>();
    let before = Table::new().chain(F, forward(rules(&[1, 3])));
    let later = Table::new().chain(F, forward(rules(&[1, 2, 3])));
    assert_eq!(script(&later, &made(&before)), ["insert rule inet t f handle 2 meta mark 0x00000002 drop"]);
    let later = Table::new().chain(F, forward(rules(&[1])));
    assert_eq!(script(&later, &made(&before)), ["delete rule inet t f handle 2"]);
    let later = Table::new().chain(F, forward(rules(&[7])));
    assert_eq!(
        script(&later, &made(&before)),
        ["flush chain inet t f", "add rule inet t f meta mark 0x00000007 drop"]
    );
}

#[test]
fn a_policy_is_changed_in_place_and_a_hook_is_not() {
    let base = Base::filter(Hook::Forward, priority::FILTER);
    let before = made(&Table::new().chain(F, Chain::base(base, [rule![drop()]])));
    let later = Table::new().chain(F, Chain::base(base.policy(Policy::Drop), [rule![drop()]]));
    assert_eq!(
        script(&later, &before),
        ["add chain inet t f { type filter hook forward priority filter; policy drop; }"]
    );
    let later = Table::new().chain(F, Chain::base(Base::filter(Hook::Input, 0), [rule![drop()]]));
    assert_eq!(
        script(&later, &before),
        [
            "flush chain inet t f",
            "delete chain inet t f",
            "add chain inet t f { type filter hook input priority filter; policy accept; }",
            "add rule inet t f drop",
        ]
    );
}

#[test]
fn a_set_whose_type_changed_is_made_anew_and_the_rules_that_look_into_it_too() {
    let chain = forward([rule![counter()], rule![in_set([Field::IpSaddr], &S), drop()]]);
    let before = made(&Table::new().chain(F, chain.clone()).set(S, Set::of([address(1)])));
    let net: ipnet::Ipv4Net = "10.0.0.0/8".parse().unwrap();
    let later = Table::new().chain(F, chain).set(S, Set::of([net]));
    assert_eq!(
        script(&later, &before),
        [
            "delete rule inet t f handle 2",
            "delete set inet t s",
            "add set inet t s { type ipv4_addr; flags interval; }",
            "add element inet t s { 10.0.0.0/8 }",
            "add rule inet t f ip saddr @s drop",
        ]
    );
}

#[test]
fn an_orphan_is_adopted_and_a_shared_table_replaced() {
    let desired = Table::owned().chain(C, Chain::default());
    let mut observed = made(&desired);
    assert_eq!(script(&desired, &observed), Vec::<String>::new());
    observed.get_mut(&T).unwrap().ownership = Ownership::Orphan;
    assert_eq!(script(&desired, &observed), ["add table inet t { flags owner,persist; }"]);
    observed.get_mut(&T).unwrap().ownership = Ownership::Shared;
    assert_eq!(
        script(&desired, &observed),
        ["delete table inet t", "add table inet t { flags owner,persist; }", "add chain inet t c"]
    );
}

#[test]
fn a_table_that_somebody_put_to_sleep_is_woken() {
    let desired = Table::new().chain(C, Chain::default());
    let mut observed = made(&desired);
    observed.get_mut(&T).unwrap().dormant = true;
    assert_eq!(script(&desired, &observed), ["add table inet t"]);
}

#[test]
fn what_is_out_of_scope_stays_and_the_table_goes_with_its_last_object() {
    let observed = made(&Table::new().chain(C, Chain::default()).chain(F, forward([rule![drop()]])));
    let only_f = |object: Object<'_>| object == Object::Chain(&F);
    let transaction = diff(&BTreeMap::new(), &observed, Scope::Part(&only_f));
    assert_eq!(transaction.to_string(), "flush chain inet t f\ndelete chain inet t f\n");
    let rest = after(&observed, &transaction).unwrap();
    let only_c = |object: Object<'_>| object == Object::Chain(&C);
    let transaction = diff(&BTreeMap::new(), &rest, Scope::Part(&only_c));
    assert_eq!(transaction.to_string(), "delete table inet t\n");
}

#[test]
fn a_foreign_change_that_cannot_be_read_is_undone() {
    let desired = Table::new().chain(F, forward([rule![drop()]])).set(S, Set::of([address(1)]));
    let mut observed = made(&desired);
    let table = observed.get_mut(&T).unwrap();
    table.sets.insert(S, Seen::Unknown("a set with counters".to_owned()));
    table.chains.get_mut(&F).unwrap().rules[0].rule =
        Rule::new([crate::Statement::Unknown("tproxy".to_owned())]);
    let transaction = diff(&BTreeMap::from([(T, desired.clone())]), &observed, Scope::Whole);
    assert_eq!(after(&observed, &transaction).unwrap()[&T].known(), desired);
}

fn name(prefix: &str, i: u8) -> String {
    format!("{prefix}{i}")
}

fn any_chain() -> impl Strategy<Value = Chain> {
    let hook = prop_oneof![Just(Hook::Input), Just(Hook::Forward)];
    let policy = prop_oneof![Just(Policy::Accept), Just(Policy::Drop)];
    let base =
        proptest::option::of((hook, policy).prop_map(|(hook, policy)| Base::filter(hook, 0).policy(policy)));
    let rule = prop_oneof![
        (0..4u32).prop_map(|m| rule![mark(m), accept()]),
        Just(rule![in_set([Field::IpSaddr], &S), drop()]),
        Just(rule![goto(&C)]),
        Just(rule![counter()].comment("counted")),
    ];
    (base, vec(rule, 0..6)).prop_map(|(base, rules)| Chain { base, rules: rules.into() })
}

fn any_set() -> impl Strategy<Value = Set> {
    let plain = vec(0..9u8, 0..6).prop_map(|list| Set::of(list.into_iter().map(address)));
    let nets = vec((0..9u8, 28..=32u8), 0..6).prop_map(|list| {
        Set::of(list.into_iter().map(|(last, length)| ipnet::Ipv4Net::new_assert(address(last), length)))
    });
    let verdict = prop_oneof![Just(Verdict::Accept), Just(Verdict::Goto(C))];
    let map = vec((0..9u8, verdict), 0..6)
        .prop_map(|list| Set::verdicts(list.into_iter().map(|(last, verdict)| (address(last), verdict))));
    prop_oneof![plain, nets, map]
}

/// The chain `c` and the set `s` are always there, since rules and maps may lead to them; no loops are made because
/// the model, unlike the kernel, doesn't look for them.
fn any_table() -> impl Strategy<Value = Table> {
    let named_chains =
        btree_map((0..3u8).prop_map(|i| ChainName::listed(name("chain", i))), any_chain(), 0..3);
    let named_sets = btree_map((0..3u8).prop_map(|i| SetName::listed(name("set", i))), any_set(), 0..3);
    (any::<bool>(), named_chains, named_sets, any_set(), any_chain()).prop_map(
        |(owned, chains, sets, s, c)| {
            let table = Table { owned, chains, sets };
            table.set(S, s).chain(C, Chain { base: None, rules: c.rules })
        },
    )
}

proptest! {
    #[test]
    fn applying_a_diff_gives_what_was_desired_and_leaves_no_difference(old in any_table(), new in any_table()) {
        let observed = made(&old);
        let desired = BTreeMap::from([(T, new.clone())]);
        let later = after(&observed, &diff(&desired, &observed, Scope::Whole)).unwrap();
        prop_assert_eq!(later[&T].known(), new);
        prop_assert!(diff(&desired, &later, Scope::Whole).is_empty());
    }

    #[test]
    fn everything_can_be_taken_away_again(old in any_table()) {
        let observed = made(&old);
        let everything = |_: Object<'_>| true;
        for scope in [Scope::Whole, Scope::Part(&everything)] {
            prop_assert!(after(&observed, &diff(&BTreeMap::new(), &observed, scope)).unwrap().is_empty());
        }
    }

    #[test]
    fn the_order_of_the_input_is_not_in_the_output(mut keys in vec(any::<u32>(), 0..20)) {
        let text = |keys: &[u32]| {
            let table = Table::new().set(M, Set::of(keys.iter().map(|&k| Ipv4Addr::from_bits(k))));
            script(&table, &Listed::new())
        };
        let forwards = text(&keys);
        keys.reverse();
        prop_assert_eq!(forwards, text(&keys));
    }
}

/// How long they last is flow state, and whether they are there too.
#[test]
fn elements_of_a_dynamic_set_are_no_difference() {
    let size = NonZeroU32::new(16).unwrap();
    let desired = Table::new().set(S, Set::dynamic::<Ipv4Addr>(size));
    let mut listed = made(&desired);
    let element = Element { timeout: Some(Duration::from_secs(60)), ..Data::Nothing.into() };
    let elements = BTreeMap::from([(address(1).parts(), element)]);
    let set_type = desired.sets[&S].set_type().clone();
    let added = Change::AddElements(Elements { set: S, set_type, elements });
    let transaction = Transaction::from_iter([Command { table: T, change: added }]);
    assert_eq!(transaction.to_string(), "add element inet t s { 10.0.0.1 timeout 1m }\n");
    listed = after(&listed, &transaction).unwrap();
    assert_eq!(listed[&T].sets[&S].known().unwrap().elements().len(), 1);
    assert_eq!(script(&desired, &listed), [""; 0]);
    // Room for more is another set.
    let larger = Table::new().set(S, Set::dynamic::<Ipv4Addr>(size.saturating_add(1)));
    assert_eq!(
        script(&larger, &listed),
        ["delete set inet t s", "add set inet t s { type ipv4_addr; size 17; flags dynamic,timeout; }"]
    );
}
