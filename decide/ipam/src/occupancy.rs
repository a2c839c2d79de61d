//! Which attachments have a lease and which addresses are taken: all that a change has to know, in a few bytes each.

use std::collections::btree_map::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::AttachmentKey;

use crate::index::{Index, Place, fold, hash};
use crate::table::QUARANTINE_MS;

mod choose;

pub use choose::Refusal;

/// No line, no address.
const NONE: u32 = u32::MAX;

/// The leases without what is written of them: of each the line that has the rest.
///
/// Two attachments whose keys have the same 64-bit hash can't both have a lease; the second is refused.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    leases: Vec<Lease>,
    by_key: Index,
    addresses: Vec<IpAddr>,
    /// What holds each address.
    holders: Vec<Holder>,
    by_address: Index,
    cursors: Vec<(IpNet, IpAddr)>,
    living: usize,
}

/// A lease, or what is left of one.
#[derive(Debug, Clone, Copy)]
struct Lease {
    key: u64,
    /// Where it is written down; [`NONE`] once it is freed.
    line: u32,
    /// The number of its first address.
    first: u32,
}

/// What holds an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// The number of a lease, and of the lease's next address.
    Lease {
        number: u32,
        next: u32,
    },
    Rests {
        since_ms: u64,
    },
}

/// Why a change can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The attachment has the lease that stands in this line.
    Leased(u32),
    /// The address is held by the lease that stands in this line.
    Owned(IpAddr, u32),
    /// The attachment has no lease.
    NoLease,
}

/// An attachment, as lines and this table know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// Of a key as lines have it: container and interface with a space between them.
    pub(crate) fn of_text(key: &[u8]) -> Self {
        Self(hash(key))
    }

    pub(crate) fn of(key: &AttachmentKey) -> Self {
        Self::of_text(format!("{} {}", key.recorded_id(), key.ifname).as_bytes())
    }
}

impl Occupancy {
    /// With room for so many leases.
    pub(crate) fn with_room(leases: usize) -> Self {
        Self {
            leases: Vec::with_capacity(leases),
            by_key: Index::with_room(leases),
            addresses: Vec::with_capacity(leases),
            holders: Vec::with_capacity(leases),
            by_address: Index::with_room(leases),
            ..Self::default()
        }
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.living
    }

    /// True if there is no lease.
    pub fn is_empty(&self) -> bool {
        self.living == 0
    }

    /// Where an attachment's lease is written down. Another's, if their keys have the same hash.
    pub fn line(&self, key: &AttachmentKey) -> Option<u32> {
        let number = self.number(Fingerprint::of(key))?;
        Some(self.leases[slot(number)].line).filter(|line| *line != NONE)
    }

    /// Addresses that were freed, and when.
    pub fn resting(&self) -> impl Iterator<Item = (IpAddr, u64)> {
        self.addresses.iter().zip(&self.holders).filter_map(|(address, holder)| match holder {
            Holder::Rests { since_ms } => Some((*address, *since_ms)),
            Holder::Nobody | Holder::Lease { .. } => None,
        })
    }

    /// The address that was leased last from each subnet.
    pub fn cursors(&self) -> BTreeMap<IpNet, IpAddr> {
        self.cursors.iter().copied().collect()
    }

    /// Whether a lease can be entered.
    pub(crate) fn allows(&self, key: Fingerprint, nets: &[IpNet]) -> Result<(), Conflict> {
        self.allows_key(self.seek(key))?;
        nets.iter().try_for_each(|net| self.allows_address(net.addr()))
    }

    fn allows_key(&self, known: Result<u32, Place>) -> Result<(), Conflict> {
        match known.map(|number| self.leases[slot(number)].line) {
            Err(_) | Ok(NONE) => Ok(()),
            Ok(line) => Err(Conflict::Leased(line)),
        }
    }

    /// Whether a lease can be freed.
    pub(crate) fn allows_free(&self, key: Fingerprint) -> Result<(), Conflict> {
        let living = self.number(key).is_some_and(|number| self.leases[slot(number)].line != NONE);
        if living { Ok(()) } else { Err(Conflict::NoLease) }
    }

    /// Whether nobody has an address.
    pub(crate) fn allows_address(&self, address: IpAddr) -> Result<(), Conflict> {
        match self.holder(address) {
            Holder::Lease { number, .. } => Err(Conflict::Owned(address, self.leases[slot(number)].line)),
            Holder::Nobody | Holder::Rests { .. } => Ok(()),
        }
    }

    /// Enters a lease that stands in such a line.
    pub(crate) fn insert(&mut self, key: Fingerprint, line: u32, nets: &[IpNet]) -> Result<(), Conflict> {
        let known = self.seek(key);
        self.allows_key(known)?;
        nets.iter().try_for_each(|net| self.allows_address(net.addr()))?;
        let number = known.unwrap_or_else(|place| {
            let number = count(&self.leases);
            self.leases.push(Lease { key: key.0, line: NONE, first: NONE });
            self.by_key.insert(place, number, |of| self.leases[slot(of)].key);
            number
        });
        let mut next = NONE;
        for net in nets.iter().rev() {
            next = self.hold(net.addr(), Holder::Lease { number, next });
            // A whole address says nothing of the subnet that it came from.
            if net.prefix_len() < net.max_prefix_len() {
                self.set_cursor(*net);
            }
        }
        self.leases[slot(number)] = Lease { key: key.0, line, first: next };
        self.living += 1;
        Ok(())
    }

    /// Takes a lease out. Its addresses rest from `freed_ms` on, unless nobody ever used them (`None`).
    pub(crate) fn remove(&mut self, key: Fingerprint, freed_ms: Option<u64>) -> Result<(), Conflict> {
        self.allows_free(key)?;
        let number = self.number(key).ok_or(Conflict::NoLease)?;
        let lease = &mut self.leases[slot(number)];
        let mut at = lease.first;
        (lease.line, lease.first) = (NONE, NONE);
        let freed = freed_ms.map_or(Holder::Nobody, |since_ms| Holder::Rests { since_ms });
        while let Some(Holder::Lease { next, .. }) = self.holders.get(slot(at)).copied() {
            self.holders[slot(at)] = freed;
            at = next;
        }
        self.living -= 1;
        Ok(())
    }

    /// Remembers where the next search in a subnet starts.
    pub(crate) fn set_cursor(&mut self, last: IpNet) {
        let of = |subnet: &IpNet| subnet.prefix_len() == last.prefix_len() && subnet.contains(&last.addr());
        match self.cursors.iter_mut().find(|(subnet, _)| of(subnet)) {
            Some((_, address)) => *address = last.addr(),
            None => self.cursors.push((last.trunc(), last.addr())),
        }
    }

    /// Has an address rest from a moment on.
    pub(crate) fn rest(&mut self, address: IpAddr, since_ms: u64) -> Result<(), Conflict> {
        self.allows_address(address)?;
        self.hold(address, Holder::Rests { since_ms });
        Ok(())
    }

    /// Forgets addresses that have rested long enough.
    pub(crate) fn forget_rested(&mut self, now_ms: u64) {
        for holder in &mut self.holders {
            if matches!(holder, Holder::Rests { since_ms } if now_ms.saturating_sub(*since_ms) >= QUARANTINE_MS)
            {
                *holder = Holder::Nobody;
            }
        }
    }

    fn number(&self, key: Fingerprint) -> Option<u32> {
        self.seek(key).ok()
    }

    fn seek(&self, key: Fingerprint) -> Result<u32, Place> {
        self.by_key.seek(key.0, |number| self.leases[slot(number)].key == key.0)
    }

    fn holder(&self, address: IpAddr) -> Holder {
        let number =
            self.by_address.find(of_address(address), |number| self.addresses[slot(number)] == address);
        number.map_or(Holder::Nobody, |number| self.holders[slot(number)])
    }

    /// Says what holds an address, and returns its number.
    fn hold(&mut self, address: IpAddr, holder: Holder) -> u32 {
        let of = |number: u32| self.addresses[slot(number)] == address;
        match self.by_address.seek(of_address(address), of) {
            Ok(number) => {
                self.holders[slot(number)] = holder;
                number
            }
            Err(place) => {
                let number = count(&self.addresses);
                self.addresses.push(address);
                self.holders.push(holder);
                self.by_address.insert(place, number, |of| of_address(self.addresses[slot(of)]));
                number
            }
        }
    }
}

fn slot(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The number of the next item.
fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(NONE)
}

fn of_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => fold(u64::from(v4.to_bits())),
        IpAddr::V6(v6) => hash(&v6.octets()),
    }
}
