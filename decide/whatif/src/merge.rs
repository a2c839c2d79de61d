//! Pairs put together to as few lines as a person would write.

use std::collections::BTreeMap;

use crate::compare::{Becomes, Found, Unit};
use crate::groups::Groups;

/// Flows from each of some to each of others, but for one and itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rectangle {
    pub(crate) becomes: Becomes,
    pub(crate) from: Vec<Unit>,
    pub(crate) to: Vec<Unit>,
}

/// Puts together those for whom the same becomes of the same.
pub(crate) fn rectangles(found: Found, groups: &Groups<'_>) -> Vec<Rectangle> {
    let mut rectangles: Vec<Rectangle> = Vec::new();
    for (becomes, by_end) in found {
        let together = together(by_end, |unit| is_one(unit, groups));
        let of = |(from, to)| Rectangle { becomes: becomes.clone(), from, to };
        rectangles.extend(together.into_iter().map(of));
    }
    rectangles
}

/// Those to whom the same may send. One pod alone sends itself nothing that could be otherwise, so it may as well be
/// counted among those that do.
fn together(
    by_end: BTreeMap<Unit, Vec<Unit>>,
    is_one: impl Fn(Unit) -> bool,
) -> BTreeMap<Vec<Unit>, Vec<Unit>> {
    let sets: Vec<(Unit, Vec<Unit>, Option<Vec<Unit>>)> = by_end
        .into_iter()
        .map(|(to, mut from)| {
            from.sort_unstable();
            from.dedup();
            let with_itself = is_one(to).then(|| {
                let mut with = from.clone();
                if let Err(place) = with.binary_search(&to) {
                    with.insert(place, to);
                }
                with
            });
            (to, from, with_itself)
        })
        .collect();
    let mut counts: BTreeMap<&[Unit], usize> = BTreeMap::new();
    for (_, from, with_itself) in &sets {
        *counts.entry(from).or_default() += 1;
        if let Some(with) = with_itself.as_ref().filter(|with| *with != from) {
            *counts.entry(with).or_default() += 1;
        }
    }
    let count = |set: &[Unit]| counts.get(set).copied().unwrap_or(0);
    let is_better = |(_, from, with): &(Unit, Vec<Unit>, Option<Vec<Unit>>)| {
        with.as_ref().is_some_and(|with| count(with) > count(from))
    };
    let better: Vec<bool> = sets.iter().map(is_better).collect();
    let mut together: BTreeMap<Vec<Unit>, Vec<Unit>> = BTreeMap::new();
    for ((to, from, with), better) in sets.into_iter().zip(better) {
        let from = with.filter(|_| better).unwrap_or(from);
        together.entry(from).or_default().push(to);
    }
    together
}

fn is_one(unit: Unit, groups: &Groups<'_>) -> bool {
    matches!(unit, Unit::Pods(at) if groups.pods[at].members.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(numbers: &[usize]) -> Vec<Unit> {
        numbers.iter().copied().map(Unit::Pods).collect()
    }

    #[test]
    fn pods_that_are_closed_to_each_other_are_one_line() {
        let by_end = BTreeMap::from([
            (Unit::Pods(1), units(&[3, 2])),
            (Unit::Pods(2), units(&[1, 3])),
            (Unit::Pods(4), units(&[3])),
            (Unit::Pods(5), units(&[3])),
        ]);
        let expected = BTreeMap::from([(units(&[1, 2, 3]), units(&[1, 2])), (units(&[3]), units(&[4, 5]))]);
        assert_eq!(together(by_end, |_| true), expected);
    }
}
