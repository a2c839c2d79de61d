//! A filter table as a list of entries that know each other by index, so that rules can come and go.

use std::collections::BTreeSet;

use selvedge_model::{Gather, NetworkName};

use crate::entry::{Entry, VERDICT_ACCEPT, VERDICT_DROP};
use crate::{AcceptRule, Change, Family, Forward, Malformed, OwnRule, Policy};

/// The hooks of a filter table, as numbered by the kernel: NF_INET_LOCAL_IN, _FORWARD, _LOCAL_OUT.
pub(crate) const HOOKS: [usize; 3] = [1, 2, 3];
/// FORWARD's place among them.
const FORWARD: usize = 1;
const VALID_HOOKS: u32 = 1 << HOOKS[0] | 1 << HOOKS[1] | 1 << HOOKS[2];

/// `struct xt_counters`: packets, bytes.
pub(crate) type Counters = [u64; 2];

/// A table in the form in which the kernel hands it out and takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// A bit for each hook.
    pub(crate) valid_hooks: u32,
    /// For each of [`HOOKS`] the offset of its chain's first entry.
    pub(crate) hook_entry: [u32; 3],
    /// For each of [`HOOKS`] the offset of its chain's policy.
    pub(crate) underflow: [u32; 3],
    /// The number of entries.
    pub(crate) count: u32,
    /// The entries.
    pub(crate) blob: Vec<u8>,
}

/// A built-in chain: its rules are the entries from `first` up to `policy`.
#[derive(Debug, Clone, Copy)]
struct Chain {
    first: usize,
    policy: usize,
}

/// A parsed table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    family: Family,
    chains: [Chain; 3],
    /// FORWARD's policy.
    policy: Policy,
    entries: Vec<Entry>,
    /// The number of entries as read.
    read: usize,
}

impl Table {
    /// Reads a table; refuses what is not laid out as a filter table is.
    pub(crate) fn parse(family: Family, image: &Image) -> Result<Self, Malformed> {
        let (mut entries, offsets) = entries(family, &image.blob)?;
        let index_of = |offset: usize, what| {
            offsets.binary_search(&offset).map_err(|_place| Malformed { what, at: offset })
        };
        for (i, entry) in entries.iter_mut().enumerate() {
            entry.was = Some(i);
            if let Some(offset) = entry.verdict().and_then(|verdict| usize::try_from(verdict).ok()) {
                entry.leads_to = Some(index_of(offset, "a jump into the middle of an entry")?);
            }
        }
        if image.valid_hooks != VALID_HOOKS || image.count as usize != entries.len() {
            return Err(Malformed { what: "other hooks or another number of entries than announced", at: 0 });
        }
        let mut chains = [Chain { first: 0, policy: 0 }; 3];
        for (i, chain) in chains.iter_mut().enumerate() {
            let (first, policy) = (image.hook_entry[i] as usize, image.underflow[i] as usize);
            if first > policy {
                return Err(Malformed { what: "a chain that ends before it starts", at: first });
            }
            chain.first = index_of(first, "a chain that starts in the middle of an entry")?;
            chain.policy = index_of(policy, "a policy in the middle of an entry")?;
        }
        let policy = match entries[chains[FORWARD].policy].verdict() {
            Some(VERDICT_ACCEPT) => Policy::Accept,
            Some(VERDICT_DROP) => Policy::Drop,
            _ => return Err(Malformed { what: "no policy", at: image.underflow[FORWARD] as usize }),
        };
        Ok(Self { family, chains, policy, read: entries.len(), entries })
    }

    /// The table for the kernel, every offset as the entries' places now demand.
    pub(crate) fn image(&self) -> Result<Image, Malformed> {
        let mut offsets = Vec::with_capacity(self.entries.len());
        let mut blob = Vec::new();
        for entry in &self.entries {
            offsets.push(u32::try_from(blob.len()).unwrap_or(u32::MAX));
            blob.extend(entry.bytes());
        }
        if i32::try_from(blob.len()).is_err() {
            return Err(Malformed { what: "a table too large for jumps", at: blob.len() });
        }
        for (i, entry) in self.entries.iter().enumerate() {
            if let (Some(to), Some(place)) = (entry.leads_to, entry.verdict_place()) {
                let place = offsets[i] as usize + place;
                blob[place..place + 4].copy_from_slice(&offsets[to].to_ne_bytes());
            }
        }
        Ok(Image {
            valid_hooks: VALID_HOOKS,
            hook_entry: self.chains.map(|chain| offsets[chain.first]),
            underflow: self.chains.map(|chain| offsets[chain.policy]),
            count: u32::try_from(self.entries.len()).unwrap_or(u32::MAX),
            blob,
        })
    }

    /// What FORWARD looks like.
    pub(crate) fn forward(&self) -> Forward {
        let mut at_head = true;
        let own = |entry: &Entry| {
            let network = entry.network();
            at_head &= network.is_some();
            Some(OwnRule { network: network?, accept: entry.accept_rule().filter(|_| at_head) })
        };
        let ours = self.forward_rules().iter().filter_map(own).collect();
        Forward { policy: self.policy, rules: self.forward_rules().len(), ours }
    }

    /// Makes the rules of `network` exactly `wanted` (sorted, each once), with none but other networks' rules before
    /// them. Rules that stay keep their counters.
    pub(crate) fn set_accept(&mut self, network: &NetworkName, wanted: &[AcceptRule]) -> Change {
        let rules = self.forward_rules();
        if rules.is_empty() && self.policy == Policy::Accept {
            return Change::default();
        }
        let is_own = |entry: &Entry| entry.network().as_ref() == Some(network);
        let mut present: Vec<_> = rules.iter().filter(|e| is_own(e)).map(Entry::accept_rule).collect();
        present.sort_unstable();
        let at_head = !rules.iter().skip_while(|e| e.network().is_some()).any(is_own);
        if at_head && present.iter().copied().eq(wanted.iter().copied().map(Some)) {
            return Change::default();
        }

        let mut taken = self.remove(is_own);
        let had = taken.len();
        let mut put = |&rule: &AcceptRule| match taken.iter().position(|e| e.accept_rule() == Some(rule)) {
            Some(i) => taken.swap_remove(i),
            None => Entry::accept(self.family, network, rule),
        };
        let rules: Vec<_> = wanted.iter().map(&mut put).collect();
        let kept = had - taken.len();
        self.insert_head(rules);
        Change { added: wanted.len() - kept, removed: had - kept, moved: if at_head { 0 } else { kept } }
    }

    /// Puts rules at the head of FORWARD, in their order. They must not jump.
    fn insert_head(&mut self, rules: Vec<Entry>) {
        let (at, count) = (self.chains[FORWARD].first, rules.len());
        self.relocate(|index| if index < at { index } else { index + count });
        self.chains[FORWARD].first = at;
        self.entries.splice(at..at, rules);
    }

    /// Takes the rules that `unwanted` picks out of FORWARD. What led to one of them leads to the entry behind it.
    fn remove(&mut self, unwanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let Chain { first, policy } = self.chains[FORWARD];
        let gone: BTreeSet<usize> = (first..policy).filter(|&i| unwanted(&self.entries[i])).gather();
        self.relocate(|index| index - gone.range(..index).count());
        let mut index = 0..;
        self.entries.extract_if(.., |_| index.next().is_some_and(|i| gone.contains(&i))).collect()
    }

    /// The counters to add after a replacement, given those of the table as read: each entry's own.
    pub(crate) fn counters(&self, old: &[Counters]) -> Vec<Counters> {
        let own = |entry: &Entry| entry.was.and_then(|was| old.get(was)).copied().unwrap_or_default();
        self.entries.iter().map(own).collect()
    }

    /// The number of entries that the table had when it was read.
    pub(crate) fn read_entries(&self) -> usize {
        self.read
    }

    fn forward_rules(&self) -> &[Entry] {
        let Chain { first, policy } = self.chains[FORWARD];
        &self.entries[first..policy]
    }

    /// Replaces every index by the one that the same entry is about to have.
    fn relocate(&mut self, new: impl Fn(usize) -> usize) {
        for chain in &mut self.chains {
            *chain = Chain { first: new(chain.first), policy: new(chain.policy) };
        }
        for entry in &mut self.entries {
            entry.leads_to = entry.leads_to.map(&new);
        }
    }
}

/// The entries of a table and the offset of each.
fn entries(family: Family, blob: &[u8]) -> Result<(Vec<Entry>, Vec<usize>), Malformed> {
    let (mut entries, mut offsets, mut at) = (Vec::new(), Vec::new(), 0);
    while at < blob.len() {
        let entry = Entry::read(family, blob, at)?;
        offsets.push(at);
        at += entry.len();
        entries.push(entry);
    }
    Ok((entries, offsets))
}

#[cfg(test)]
mod tests;
