use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::Direction;

/// What a test's rule does with a packet.
#[derive(Debug, Clone, Copy)]
enum Target {
    Verdict(i32),
    /// A rule without a target.
    Next,
    /// To the user's chain of that number.
    Jump(usize),
    /// An extension with data of its own.
    Log,
    /// The head of a user's chain, or the table's end.
    Error,
}

#[derive(Debug, Clone)]
struct Rule {
    target: Target,
    comment: Option<&'static str>,
}

/// A table as a person would describe it.
#[derive(Debug, Clone)]
struct Spec {
    family: Family,
    builtin: [Vec<Rule>; 3],
    policy: i32,
    users: [Vec<Rule>; 2],
}

const OURS: &str = "selvedge mynet";
const COMMENTS: [Option<&str>; 5] =
    [None, None, Some("docker"), Some("selvedge other"), Some("selvedgemynet is not ours")];

fn rules(comments: &'static [Option<&'static str>]) -> impl Strategy<Value = Vec<Rule>> {
    let verdicts = prop_oneof![Just(VERDICT_DROP), Just(VERDICT_ACCEPT), Just(-5)];
    let target = prop_oneof![
        verdicts.prop_map(Target::Verdict),
        Just(Target::Next),
        (0..2_usize).prop_map(Target::Jump),
        Just(Target::Log),
    ];
    let rule =
        (target, prop::sample::select(comments)).prop_map(|(target, comment)| Rule { target, comment });
    vec(rule, 0..6)
}

fn spec(forward: impl Strategy<Value = Vec<Rule>>) -> impl Strategy<Value = Spec> {
    let family = prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)];
    let others = [rules(&COMMENTS), rules(&COMMENTS), rules(&COMMENTS), rules(&COMMENTS)];
    (family, forward, others).prop_map(|(family, forward, [input, output, a, b])| Spec {
        family,
        builtin: [input, forward, output],
        policy: VERDICT_DROP,
        users: [a, b],
    })
}

fn sizes(family: Family) -> (usize, usize) {
    match family {
        Family::Ipv4 => (88, 112),
        Family::Ipv6 => (140, 168),
    }
}

fn extension(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(32 + data.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend(name.as_bytes());
    bytes.resize(32, 0);
    bytes.extend(data);
    bytes
}

impl Spec {
    /// Lays the table out. Entry n has n + 1 in the first four bytes of its source, by which [`leads`] knows it.
    fn image(&self) -> Image {
        let (mut flat, mut first, mut last, mut starts) = (Vec::new(), [0; 3], [0; 3], [0; 2]);
        let bare = |target| Rule { target, comment: None };
        for (i, chain) in self.builtin.iter().enumerate() {
            first[i] = flat.len();
            flat.extend(chain.iter().cloned());
            last[i] = flat.len();
            flat.push(bare(Target::Verdict(self.policy)));
        }
        for (i, chain) in self.users.iter().enumerate() {
            flat.push(bare(Target::Error));
            starts[i] = flat.len();
            flat.extend(chain.iter().cloned());
            flat.push(bare(Target::Verdict(-5)));
        }
        flat.push(bare(Target::Error));
        let mut offsets = vec![0];
        for rule in &flat {
            offsets.push(offsets[offsets.len() - 1] + self.entry(0, rule, |_| 0).len());
        }
        let offset = |i: usize| u32::try_from(offsets[i]).unwrap();
        let place = |i: usize, target| match target {
            Target::Next => offset(i + 1),
            Target::Jump(chain) => offset(starts[chain]),
            _ => 0,
        };
        let blob =
            flat.iter().enumerate().flat_map(|(i, rule)| self.entry(i, rule, |target| place(i, target)));
        Image {
            valid_hooks: 0b1110,
            hook_entry: first.map(offset),
            underflow: last.map(offset),
            count: u32::try_from(flat.len()).unwrap(),
            blob: blob.collect(),
        }
    }

    fn entry(&self, i: usize, rule: &Rule, place: impl Fn(Target) -> u32) -> Vec<u8> {
        let (offsets, header) = sizes(self.family);
        let mut bytes = u32::try_from(i + 1).unwrap().to_ne_bytes().to_vec();
        bytes.resize(header, 0);
        if let Some(comment) = rule.comment {
            let mut text = comment.as_bytes().to_vec();
            text.resize(256, 0);
            bytes.extend(extension("comment", &text));
        }
        let target_offset = bytes.len();
        let verdict = match rule.target {
            Target::Verdict(verdict) => verdict.to_ne_bytes(),
            other => place(other).to_ne_bytes(),
        };
        bytes.extend(match rule.target {
            Target::Log => extension("LOG", &[7; 32]),
            Target::Error => extension("ERROR", &[b'E'; 32]),
            _ => extension("", &[verdict, [0; 4]].concat()),
        });
        for (at, value) in [(offsets, target_offset), (offsets + 2, bytes.len())] {
            bytes[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_ne_bytes());
        }
        bytes
    }
}

/// The number of each entry by its offset, read without the code under test; ours have an address there.
fn numbers(family: Family, image: &Image) -> BTreeMap<u32, u32> {
    let (offsets, _) = sizes(family);
    let (mut numbers, mut at) = (BTreeMap::new(), 0);
    while at < image.blob.len() {
        let number = u32::from_ne_bytes(image.blob[at..at + 4].try_into().unwrap());
        numbers.insert(u32::try_from(at).unwrap(), number);
        at += usize::from(u16::from_ne_bytes(
            image.blob[at + offsets + 2..at + offsets + 4].try_into().unwrap(),
        ));
    }
    numbers
}

/// Which entry each entry leads to, by number. `skip` are entries that one falls through.
fn leads(family: Family, image: &Image, skip: impl Fn(u32) -> bool) -> BTreeMap<u32, u32> {
    let numbers = numbers(family, image);
    let from = |offset: u32| numbers.range(offset..).map(|(_, &number)| number).find(|&n| !skip(n));
    let mut leads = BTreeMap::new();
    for (&offset, &number) in numbers.iter().filter(|(_, n)| !skip(**n)) {
        let at = offset as usize;
        let target = at
            + usize::from(u16::from_ne_bytes(
                image.blob[at + sizes(family).0..at + sizes(family).0 + 2].try_into().unwrap(),
            ));
        let verdict = i32::from_ne_bytes(image.blob[target + 32..target + 36].try_into().unwrap());
        if image.blob[target + 2] == 0 && verdict >= 0 {
            assert!(numbers.contains_key(&verdict.unsigned_abs()), "a jump into the middle of an entry");
            leads.insert(number, from(verdict.unsigned_abs()).unwrap());
        }
    }
    for i in 0..3 {
        let key = 1_000_000 + u32::try_from(i).unwrap();
        leads.insert(key, from(image.hook_entry[i]).unwrap());
        leads.insert(key + 10, from(image.underflow[i]).unwrap());
    }
    leads
}

fn wanted(family: Family) -> Vec<AcceptRule> {
    let cidr = match family {
        Family::Ipv4 => "10.244.0.0/16",
        Family::Ipv6 => "fd00:10:244::/48",
    };
    let rule = |direction| AcceptRule { cidr: cidr.parse().unwrap(), direction };
    vec![rule(Direction::From), rule(Direction::To)]
}

fn mynet() -> NetworkName {
    "mynet".parse().unwrap()
}

fn parse(family: Family, image: &Image) -> Table {
    Table::parse(family, image).unwrap()
}

/// Numbers beyond those of a [`Spec`]: the first four bytes of the source of a rule of ours.
fn is_inserted(number: u32) -> bool {
    number == 0 || number > 1000
}

proptest! {
    #[test]
    fn adding_and_then_removing_our_rules_gives_the_same_table_byte_for_byte(spec in spec(rules(&COMMENTS))) {
        let (family, before) = (spec.family, spec.image());
        let mut table = parse(family, &before);
        prop_assert_eq!(table.image().unwrap(), before.clone());
        prop_assert_eq!(table.set_accept(&mynet(), &wanted(family)), Change { added: 2, removed: 0, moved: 0 });
        let mut table = parse(family, &table.image().unwrap());
        prop_assert_eq!(table.set_accept(&mynet(), &[]), Change { added: 0, removed: 2, moved: 0 });
        prop_assert_eq!(table.image().unwrap(), before);
    }

    #[test]
    fn every_jump_hook_and_policy_leads_to_the_same_entry_after_an_insertion(spec in spec(rules(&COMMENTS))) {
        let (family, before) = (spec.family, spec.image());
        let mut table = parse(family, &before);
        table.set_accept(&mynet(), &wanted(family));
        let after = table.image().unwrap();
        prop_assert_eq!(after.hook_entry[FORWARD], before.hook_entry[FORWARD]);
        prop_assert_eq!(leads(family, &after, is_inserted), leads(family, &before, is_inserted));
        let (head, tail) = table.forward_rules().split_at(2);
        prop_assert_eq!(head.iter().map(Entry::accept_rule).collect::<Option<Vec<_>>>(), Some(wanted(family)));
        prop_assert_eq!(tail.len(), spec.builtin[FORWARD].len());
    }

    #[test]
    fn our_rules_are_removed_wherever_they_stand_and_what_led_to_them_leads_past_them(
        spec in spec(rules(&[None, Some(OURS), Some("selvedge other")])),
    ) {
        let (family, before) = (spec.family, spec.image());
        let first = numbers(family, &before)[&before.hook_entry[FORWARD]];
        let ours = |number: u32| {
            let rule = number.checked_sub(first).and_then(|i| spec.builtin[FORWARD].get(i as usize));
            rule.is_some_and(|rule| rule.comment == Some(OURS))
        };
        let mut table = parse(family, &before);
        table.set_accept(&mynet(), &[]);
        let after = table.image().unwrap();
        prop_assert_eq!(leads(family, &after, |_| false), leads(family, &before, ours));
    }

    #[test]
    fn a_second_call_changes_nothing(spec in spec(rules(&[None, Some(OURS), Some("selvedge other")]))) {
        let mut table = parse(spec.family, &spec.image());
        table.set_accept(&mynet(), &wanted(spec.family));
        let once = table.image().unwrap();
        let mut table = parse(spec.family, &once);
        prop_assert!(table.set_accept(&mynet(), &wanted(spec.family)).is_empty());
        prop_assert_eq!(table.image().unwrap(), once);
    }

    #[test]
    fn every_entry_keeps_its_own_counters(spec in spec(rules(&[None, Some(OURS)]))) {
        let (family, before) = (spec.family, spec.image());
        let old: Vec<Counters> = (1..=u64::from(before.count)).map(|n| [n, n * 100]).collect();
        let mut table = parse(family, &before);
        table.set_accept(&mynet(), &wanted(family));
        let after = numbers(family, &table.image().unwrap());
        let new = table.counters(&old);
        prop_assert_eq!(new.len(), after.len());
        for (&number, counters) in after.values().zip(new) {
            let own = if is_inserted(number) { 0 } else { u64::from(number) };
            prop_assert_eq!(counters, [own, own * 100]);
        }
    }

    #[test]
    fn damaged_tables_are_refused_or_read_but_never_panic(
        spec in spec(rules(&COMMENTS)), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20), cut in 0..9_usize,
    ) {
        let mut image = spec.image();
        image.blob.truncate(image.blob.len() - cut * 13);
        for (place, value) in damage {
            let at = place.index(image.blob.len());
            image.blob[at] = value;
        }
        if let Ok(mut table) = Table::parse(spec.family, &image) {
            table.set_accept(&mynet(), &wanted(spec.family));
            prop_assert!(table.image().is_ok());
        }
    }
}

/// A table of the given FORWARD chain.
fn table(policy: i32, forward: Vec<Rule>) -> Table {
    let builtin = [Vec::new(), forward, Vec::new()];
    parse(Family::Ipv4, &Spec { family: Family::Ipv4, builtin, policy, users: Default::default() }.image())
}

#[test]
fn a_chain_that_accepts_everything_gets_no_rule() {
    assert!(table(VERDICT_ACCEPT, vec![]).set_accept(&mynet(), &wanted(Family::Ipv4)).is_empty());
    let rule = Rule { target: Target::Log, comment: None };
    for mut table in [table(VERDICT_DROP, vec![]), table(VERDICT_ACCEPT, vec![rule])] {
        assert_eq!(table.set_accept(&mynet(), &wanted(Family::Ipv4)).added, 2);
    }
}

#[test]
fn rules_overtaken_by_a_foreign_one_move_to_the_head_with_their_counters() {
    let mut own = table(VERDICT_DROP, vec![Rule { target: Target::Next, comment: None }]);
    let rule = |rule| {
        let mut entry = Entry::accept(Family::Ipv4, &mynet(), rule);
        entry.was = Some(7);
        entry
    };
    own.entries.splice(2..2, wanted(Family::Ipv4).into_iter().map(rule));
    own.chains =
        [Chain { first: 0, policy: 0 }, Chain { first: 1, policy: 4 }, Chain { first: 5, policy: 5 }];
    assert_eq!(own.set_accept(&mynet(), &wanted(Family::Ipv4)), Change { added: 0, removed: 0, moved: 2 });
    let places: Vec<_> = own.forward_rules().iter().map(|e| e.was).collect();
    assert_eq!(places, [Some(7), Some(7), Some(1)]);
}

#[test]
fn networks_take_no_turns_at_the_head() {
    let mut both = table(VERDICT_DROP, vec![]);
    let other = "other".parse().unwrap();
    both.set_accept(&mynet(), &wanted(Family::Ipv4));
    both.set_accept(&other, &wanted(Family::Ipv4));
    assert!(both.set_accept(&mynet(), &wanted(Family::Ipv4)).is_empty());
    let networks: Vec<_> = both.forward().ours.into_iter().map(|own| own.network).collect();
    assert_eq!(networks, [other.clone(), other, mynet(), mynet()]);
}
