use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn all(items: &Sorted<u16>) -> Vec<u16> {
    items.iter().copied().collect()
}

/// Runs in order, none of them empty or too long.
fn is_sound(items: &Sorted<u16>) -> bool {
    let order = all(items).is_sorted_by(|one, next| one < next);
    order && items.0.iter().all(|run| (1..=MOST).contains(&run.len()))
}

#[derive(Debug, Clone)]
enum Change {
    Insert(u16),
    Remove(u16),
    Retain(u16),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (0..600u16).prop_map(Change::Insert),
        3 => (0..600u16).prop_map(Change::Remove),
        1 => (2..9u16).prop_map(Change::Retain),
    ];
    prop::collection::vec(change, 0..300)
}

fn change(items: &mut Sorted<u16>, set: &mut BTreeSet<u16>, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Insert(item) => assert_eq!(items.insert(*item), set.insert(*item)),
            Change::Remove(item) => assert_eq!(items.remove(item), set.remove(item)),
            Change::Retain(part) => {
                items.retain(|item| item % part != 0);
                set.retain(|item| item % part != 0);
            }
        }
    }
}

proptest! {
    #[test]
    fn it_holds_what_a_set_would(first in prop::collection::vec(0..600u16, 0..600), changes in changes()) {
        let (mut items, mut set): (Sorted<u16>, BTreeSet<u16>) = (first.iter().copied().collect(), first.into_iter().collect());
        change(&mut items, &mut set, &changes);
        prop_assert!(is_sound(&items), "{items:?}");
        prop_assert!(items.iter().eq(&set));
        prop_assert_eq!(items.len(), set.len());
        prop_assert!((0..600).all(|item| items.contains(&item) == set.contains(&item)));
        for tens in 0..61 {
            let like = items.like(|item| (item / 10).cmp(&tens));
            prop_assert!(like.eq(set.iter().filter(|item| *item / 10 == tens)));
        }
    }

    #[test]
    fn what_clones_differ_in_is_what_sets_would_differ_in(
        first in prop::collection::vec(0..600u16, 0..600),
        (ours, theirs) in (changes(), changes()),
        shared in any::<bool>(),
    ) {
        let (mut one, mut one_set): (Sorted<u16>, BTreeSet<u16>) = (first.iter().copied().collect(), first.into_iter().collect());
        let (mut two, mut two_set) = (one.clone(), one_set.clone());
        change(&mut one, &mut one_set, &ours);
        change(&mut two, &mut two_set, &theirs);
        if shared {
            one.share(&two);
            prop_assert!(is_sound(&one), "{one:?}");
            prop_assert!(one.iter().eq(&one_set));
        }
        prop_assert!(one.difference(&two).eq(one_set.difference(&two_set)));
        prop_assert!(two.difference(&one).eq(two_set.difference(&one_set)));
        prop_assert_eq!(one == two, one_set == two_set);
    }

    #[test]
    fn what_two_have_in_common_is_shared_run_by_run(others in prop::collection::vec(0..2000u16, 0..40)) {
        let wanted: Sorted<u16> = (0..2000).filter(|item| item % 2 == 0).collect();
        let others: BTreeSet<u16> = others.into_iter().filter(|item| item % 2 == 1).collect();
        let mut there: Sorted<u16> = wanted.iter().copied().chain(others.clone()).collect();
        there.share(&wanted);
        let is_split = |run: &Run<u16>| others.range(run[0]..run[run.len() - 1]).next().is_some();
        let shared = |run: &&Run<u16>| there.0.iter().any(|have| Arc::ptr_eq(have, run));
        prop_assert!(wanted.0.iter().filter(|run| !is_split(run)).all(|run| shared(&run)));
    }
}

#[test]
fn a_change_copies_one_run_and_leaves_a_clone_as_it_was() {
    let before: Sorted<u16> = (0..1000).map(|item| item * 2).collect();
    let mut after = before.clone();
    assert!(after.shares(&before));
    assert!(after.insert(501));
    assert!(after.remove(&1200));
    let shared = after.0.iter().filter(|run| before.0.iter().any(|have| Arc::ptr_eq(have, run))).count();
    assert_eq!((shared, after.0.len() - shared), (before.0.len() - 2, 3), "a full one becomes two");
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), [&501]);
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), [&1200]);
    assert!(!after.clone().insert(501) && !after.clone().remove(&1200));
}

#[test]
fn values_that_come_in_order_fill_whole_runs() {
    let mut items = Sorted::default();
    items.extend(0..1000u16);
    assert_eq!(items.0.len(), 1000usize.div_ceil(MOST));
    items.retain(|item| item % 50 == 0);
    assert_eq!((items.len(), items.0.len()), (20, 1), "and few are in few");
}
