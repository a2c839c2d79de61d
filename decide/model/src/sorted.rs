//! Sorted values, of which clones share what hasn't changed.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The most values in a run.
const MOST: usize = 128;

/// Values in order, each once, held in runs.
///
/// Of what thousands of nodes are the reason of there are several clones at a time, each a little later than the one
/// before: a change copies one run, and where two of them share a run they are compared at a glance.
pub struct Sorted<T>(Arc<Vec<Run<T>>>);

/// Some values that follow each other, at least one.
type Run<T> = Arc<Vec<T>>;

impl<T> Sorted<T> {
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|run| run.len()).sum()
    }

    /// The values in order.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { runs: &self.0, at: 0 }
    }

    /// The first of them.
    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// True if it shares all values with the other.
    pub fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Those that are like what is looked for, which all others are less or greater than.
    pub fn like(&self, order: impl Fn(&T) -> Ordering) -> impl Iterator<Item = &T> {
        let before = |run: &Run<T>| run.last().is_some_and(|last| order(last) == Ordering::Less);
        let run = self.0.partition_point(before);
        let at = self.0.get(run).map_or(0, |run| run.partition_point(|item| order(item) == Ordering::Less));
        Iter { runs: &self.0[run..], at }.take_while(move |item| order(item) == Ordering::Equal)
    }
}

impl<T: Ord> Sorted<T> {
    /// True if it is among them.
    pub fn contains(&self, item: &T) -> bool {
        self.place(item).is_ok()
    }

    /// Those that the other doesn't have: found without a look at what both share.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a T> {
        let (mut ours, mut theirs) = (self.iter(), other.iter());
        std::iter::from_fn(move || {
            loop {
                while ours.shares_run(&theirs) {
                    (ours, theirs) = (ours.after_run(), theirs.after_run());
                }
                let item = ours.peek()?;
                match theirs.peek().map(|their| item.cmp(their)) {
                    None | Some(Ordering::Less) => return ours.next(),
                    Some(Ordering::Equal) => drop((ours.next(), theirs.next())),
                    Some(Ordering::Greater) => theirs.pass(item),
                }
            }
        })
    }

    /// The run and the place in it where it is, or where it would have to be.
    fn place(&self, item: &T) -> Result<(usize, usize), (usize, usize)> {
        let before = |run: &Run<T>| run.last().is_some_and(|last| last < item);
        let run = self.0.partition_point(before);
        match self.0.get(run).map(|run| run.binary_search(item)) {
            Some(Ok(place)) => Ok((run, place)),
            Some(Err(place)) => Err((run, place)),
            // After all of them.
            None => Err((run.saturating_sub(1), self.0.last().map_or(0, |run| run.len()))),
        }
    }
}

impl<T: Ord + Clone> Sorted<T> {
    /// Adds a value; false if it is there already.
    pub fn insert(&mut self, item: T) -> bool {
        let Err((at, place)) = self.place(&item) else { return false };
        let runs = Arc::make_mut(&mut self.0);
        match runs.get_mut(at) {
            None => runs.push(Arc::new(vec![item])),
            // Values that come in order fill one run after another.
            Some(run) if run.len() >= MOST && place == run.len() => {
                runs.insert(at + 1, Arc::new(vec![item]));
            }
            Some(run) => {
                let run = Arc::make_mut(run);
                run.insert(place, item);
                if run.len() > MOST {
                    let rest = run.split_off(MOST / 2);
                    runs.insert(at + 1, Arc::new(rest));
                }
            }
        }
        true
    }

    /// Takes a value out; false if it isn't there.
    pub fn remove(&mut self, item: &T) -> bool {
        let Ok((at, place)) = self.place(item) else { return false };
        let runs = Arc::make_mut(&mut self.0);
        if runs[at].len() == 1 {
            runs.remove(at);
            return true;
        }
        Arc::make_mut(&mut runs[at]).remove(place);
        join(runs, at);
        at.checked_sub(1).into_iter().for_each(|before| join(runs, before));
        true
    }

    /// Takes out all that are like what is looked for, which all others are less or greater than.
    pub fn remove_like(&mut self, order: impl Fn(&T) -> Ordering) {
        let gone: Vec<T> = self.like(order).cloned().collect();
        for item in gone {
            self.remove(&item);
        }
    }

    /// Keeps those only of which that is true.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        let mut keep = keep;
        let gone: Vec<T> = self.iter().filter(|item| !keep(item)).cloned().collect();
        for item in gone {
            self.remove(&item);
        }
    }

    /// Shares with the other what both have, run by run: they are compared at a glance from then on.
    pub fn share(&mut self, other: &Self) {
        if self.shares(other) {
            return;
        }
        let mut shared = Runs { done: Vec::with_capacity(self.0.len()), loose: Vec::new() };
        let mut ours = self.iter();
        for run in other.0.iter() {
            let Some(first) = run.first() else { continue };
            while ours.peek().is_some_and(|item| item < first) {
                ours = shared.take(ours, |last| last < first);
            }
            let mut theirs = Iter { runs: std::slice::from_ref(run), at: 0 };
            let mut after = ours.clone();
            let is_same = ours.shares_run(&theirs) || theirs.all(|item| after.next() == Some(item));
            if is_same {
                shared.flush();
                shared.done.push(Arc::clone(run));
                ours = after.after(run, ours);
            }
        }
        while ours.peek().is_some() {
            ours = shared.take(ours, |_| true);
        }
        shared.flush();
        self.0 = Arc::new(shared.done);
    }
}

/// Makes one of a run and the next if both have few values.
fn join<T: Clone>(runs: &mut Vec<Run<T>>, at: usize) {
    let length = |at: usize| runs.get(at).map(|run| run.len());
    if let (Some(one), Some(next)) = (length(at), length(at + 1))
        && one + next <= MOST / 2
    {
        let next = runs.remove(at + 1);
        Arc::make_mut(&mut runs[at]).extend(next.iter().cloned());
    }
}

/// The runs of what is put together anew.
struct Runs<T> {
    done: Vec<Run<T>>,
    /// Values that are in no run yet.
    loose: Vec<T>,
}

impl<T: Clone> Runs<T> {
    /// Takes a whole run if that is true of its last value, else one value.
    fn take<'a>(&mut self, mut from: Iter<'a, T>, whole: impl Fn(&T) -> bool) -> Iter<'a, T> {
        match from.runs.first() {
            Some(run) if from.at == 0 && run.last().is_some_and(whole) => {
                self.flush();
                self.done.push(Arc::clone(run));
                from.after_run()
            }
            _ => {
                self.loose.extend(from.next().cloned());
                from
            }
        }
    }

    fn flush(&mut self) {
        let mut loose = std::mem::take(&mut self.loose).into_iter();
        let runs = std::iter::from_fn(|| {
            let run: Vec<T> = loose.by_ref().take(MOST).collect();
            (!run.is_empty()).then(|| Arc::new(run))
        });
        self.done.extend(runs);
    }
}

/// Values in order.
#[derive(Debug)]
pub struct Iter<'a, T> {
    runs: &'a [Run<T>],
    /// The place in the first of them.
    at: usize,
}

impl<'a, T> Iter<'a, T> {
    fn peek(&self) -> Option<&'a T> {
        self.runs.first()?.get(self.at)
    }

    /// True if both are at the beginning of the same run.
    fn shares_run(&self, other: &Self) -> bool {
        let same = |(ours, theirs)| Arc::ptr_eq(ours, theirs);
        (self.at, other.at) == (0, 0) && self.runs.first().zip(other.runs.first()).is_some_and(same)
    }

    /// What comes after the run that it is in.
    fn after_run(&self) -> Self {
        Self { runs: self.runs.get(1..).unwrap_or_default(), at: 0 }
    }

    /// Goes on to what is no less than that, whole runs at once.
    fn pass(&mut self, item: &T)
    where
        T: Ord,
    {
        while self.runs.first().and_then(|run| run.last()).is_some_and(|last| last < item) {
            *self = self.after_run();
        }
        let Some(run) = self.runs.first() else { return };
        self.at += run[self.at..].partition_point(|before| before < item);
    }

    /// Itself, or if nothing was compared because both share the run, what comes after it.
    fn after(self, run: &Run<T>, before: Self) -> Self {
        let shared = before.at == 0 && before.runs.first().is_some_and(|first| Arc::ptr_eq(first, run));
        if shared { before.after_run() } else { self }
    }
}

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self { runs: self.runs, at: self.at }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let item = self.peek()?;
        self.at += 1;
        if self.runs.first().is_some_and(|run| self.at >= run.len()) {
            *self = self.after_run();
        }
        Some(item)
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Sorted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

impl<T: Ord> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.shares(other) || (self.len() == other.len() && self.difference(other).next().is_none())
    }
}

impl<T: Ord> Eq for Sorted<T> {}

impl<T: Ord + Clone> Extend<T> for Sorted<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        if self.is_empty() {
            *self = items.into_iter().collect();
            return;
        }
        for item in items {
            self.insert(item);
        }
    }
}

impl<T: Ord + Clone> FromIterator<T> for Sorted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items: Vec<T> = items.into_iter().collect();
        items.sort();
        items.dedup();
        let mut runs = Runs { done: Vec::new(), loose: items };
        runs.flush();
        Self(Arc::new(runs.done))
    }
}

impl<T: Ord + Clone, const N: usize> From<[T; N]> for Sorted<T> {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<'a, T> IntoIterator for &'a Sorted<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Clone> IntoIterator for Sorted<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        let items: Vec<T> = self.iter().cloned().collect();
        items.into_iter()
    }
}

mod map;

pub use map::SortedMap;

#[cfg(test)]
mod tests;
