//! Leases, quarantine and cursors.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::{AttachmentKey, IfName};

use crate::pool::{self, Pool, Range, Span};

/// How long a freed address is not given to anybody else, in milliseconds.
pub const QUARANTINE_MS: u64 = 60_000;

/// The addresses of one attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The addresses, with their subnet's prefix length where they came from a pool.
    pub addresses: Vec<IpNet>,
    /// The host end that carries the owner record.
    pub veth: IfName,
    /// When it was made, CLOCK_BOOTTIME in milliseconds.
    pub since_ms: u64,
}

/// An address as it is leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// The address with its subnet's prefix length.
    pub net: IpNet,
    /// The subnet's gateway.
    pub gateway: IpAddr,
}

/// Who asks for addresses, and for which.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The attachment.
    pub key: &'a AttachmentKey,
    /// Addresses that it must get; the other range sets choose.
    pub addresses: &'a [IpAddr],
}

/// All that a journal remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaseTable {
    leases: BTreeMap<AttachmentKey, Lease>,
    /// The addresses of all leases.
    leased: BTreeSet<IpAddr>,
    quarantine: BTreeMap<IpAddr, u64>,
    cursors: BTreeMap<IpNet, IpAddr>,
}

/// A change that would break the table's invariants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The attachment has a lease already.
    #[error("{key} already has the addresses {addresses}")]
    AlreadyLeased {
        /// The attachment.
        key: AttachmentKey,
        /// What it has.
        addresses: String,
    },
    /// The address is somebody else's.
    #[error("{address} belongs to {owner}")]
    Owned {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        owner: AttachmentKey,
    },
    /// There is no such lease.
    #[error("{key} has no lease")]
    NoLease {
        /// The attachment.
        key: AttachmentKey,
    },
}

/// Why no addresses were chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// The table doesn't allow it.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A requested address is in no range.
    #[error("requested address {address} is in no range of the network, or is a gateway")]
    NotInPool {
        /// The address.
        address: IpAddr,
    },
    /// Two requested addresses would come from the same range set.
    #[error("requested addresses {one} and {other} come from the same range set, which gives one each")]
    SameSet {
        /// An address.
        one: IpAddr,
        /// Another address.
        other: IpAddr,
    },
    /// Every address of a set is leased.
    #[error("pool {subnets} is full ({leased} of {size} leased)")]
    Full {
        /// The set's subnets.
        subnets: String,
        /// How many are leased.
        leased: usize,
        /// How many there are.
        size: u128,
    },
}

impl LeaseTable {
    /// The leases by attachment; keys are in recorded form.
    pub fn leases(&self) -> &BTreeMap<AttachmentKey, Lease> {
        &self.leases
    }

    /// The lease of one attachment.
    pub fn lease(&self, key: &AttachmentKey) -> Option<&Lease> {
        self.leases.get(&key.recorded())
    }

    /// Whose an address is. Looks through all leases, for the few who ask: most want to know only whether it is
    /// somebody's.
    pub fn owner(&self, address: IpAddr) -> Option<&AttachmentKey> {
        let has = |lease: &Lease| lease.addresses.iter().any(|net| net.addr() == address);
        self.leases.iter().find(|(_, lease)| has(lease)).map(|(key, _)| key)
    }

    /// Freed addresses and when they were freed.
    pub fn quarantine(&self) -> &BTreeMap<IpAddr, u64> {
        &self.quarantine
    }

    /// The address that was leased last from each subnet.
    pub fn cursors(&self) -> &BTreeMap<IpNet, IpAddr> {
        &self.cursors
    }

    /// Chooses one address from each range set: the requested one where there is one, else the next free after the
    /// last that was leased, else the one that was freed longest ago. Nothing is changed.
    pub fn choose(&self, pool: &Pool, request: Request<'_>, now_ms: u64) -> Result<Vec<Leased>, ChooseError> {
        let Request { key, addresses: requested } = request;
        if let Some(lease) = self.lease(key) {
            return Err(already(key, lease).into());
        }
        if let Some(address) = requested.iter().find(|a| pool.range_of(**a).is_none()) {
            return Err(ChooseError::NotInPool { address: *address });
        }
        pool.sets().iter().map(|set| self.choose_from(set, requested, now_ms)).collect()
    }

    fn choose_from(&self, set: &[Range], requested: &[IpAddr], now_ms: u64) -> Result<Leased, ChooseError> {
        let mut mine =
            requested.iter().filter_map(|a| Some((*a, set.iter().find(|range| range.leases(*a))?)));
        match (mine.next(), mine.next()) {
            (Some((one, _)), Some((other, _))) => Err(ChooseError::SameSet { one, other }),
            (Some((address, range)), None) => {
                self.allows_address(address)?;
                Ok(leased(address, range))
            }
            (None, _) => self.next_free(set, now_ms).ok_or_else(|| self.full(set)),
        }
    }

    /// Once around each range, starting after the address that was leased last.
    fn next_free(&self, set: &[Range], now_ms: u64) -> Option<Leased> {
        let parts = |range: &Range| range.parts(self.cursors.get(&range.subnet()).copied());
        let after = set.iter().filter_map(|range| Some((range, parts(range).0?)));
        let up_to = set.iter().filter_map(|range| Some((range, parts(range).1?)));
        let mut fresh = after.chain(up_to).filter_map(|(range, span)| {
            self.first_free(range, span, now_ms).map(|address| leased(address, range))
        });
        fresh.next().or_else(|| self.longest_rested(set))
    }

    /// Passes over what is leased or rests; a large subnet costs no more than that.
    fn first_free(&self, range: &Range, span: Span, now_ms: u64) -> Option<IpAddr> {
        let mut leased = self.leased.range(span.0..=span.1).peekable();
        let rests = |freed: &u64| now_ms.saturating_sub(*freed) < QUARANTINE_MS;
        pool::addresses(span).find(|address| {
            leased.next_if_eq(&address).is_none()
                && *address != range.gateway()
                && !self.quarantine.get(address).is_some_and(rests)
        })
    }

    fn longest_rested(&self, set: &[Range]) -> Option<Leased> {
        let in_set = |address: IpAddr| set.iter().find(|range| range.leases(address));
        let waiting = self.quarantine.iter().filter_map(|(a, freed)| Some((*freed, *a, in_set(*a)?)));
        let oldest = waiting.min_by_key(|(freed, address, _)| (*freed, *address));
        oldest.map(|(_, address, range)| leased(address, range))
    }

    fn full(&self, set: &[Range]) -> ChooseError {
        let subnets: Vec<String> = set.iter().map(|range| range.subnet().to_string()).collect();
        ChooseError::Full {
            subnets: subnets.join(","),
            leased: self.leased.iter().filter(|a| set.iter().any(|range| range.leases(**a))).count(),
            size: set.iter().map(Range::size).sum(),
        }
    }

    /// Whether a lease can be entered.
    pub(crate) fn allows_lease(&self, key: &AttachmentKey, lease: &Lease) -> Result<(), TableError> {
        if let Some(present) = self.leases.get(key) {
            return Err(already(key, present));
        }
        self.allows_addresses(lease)
    }

    fn allows_addresses(&self, lease: &Lease) -> Result<(), TableError> {
        lease.addresses.iter().try_for_each(|net| self.allows_address(net.addr()))
    }

    fn allows_address(&self, address: IpAddr) -> Result<(), TableError> {
        if !self.leased.contains(&address) {
            return Ok(());
        }
        let owner = self.owner(address).cloned();
        owner.map_or(Ok(()), |owner| Err(TableError::Owned { address, owner }))
    }

    /// Enters a lease.
    pub fn insert(&mut self, key: AttachmentKey, lease: Lease) -> Result<(), TableError> {
        self.allows_addresses(&lease)?;
        let slot = match self.leases.entry(key) {
            Entry::Occupied(present) => return Err(already(present.key(), present.get())),
            Entry::Vacant(slot) => slot,
        };
        for net in &lease.addresses {
            self.leased.insert(net.addr());
            self.quarantine.remove(&net.addr());
            // A whole address says nothing of the subnet that it came from.
            if net.prefix_len() < net.max_prefix_len() {
                self.cursors.insert(net.trunc(), net.addr());
            }
        }
        slot.insert(lease);
        Ok(())
    }

    /// Takes a lease out. Its addresses rest from `freed_ms` on, unless nobody ever used them (`None`).
    pub fn remove(&mut self, key: &AttachmentKey, freed_ms: Option<u64>) -> Result<Lease, TableError> {
        let lease = self.leases.remove(key).ok_or_else(|| TableError::NoLease { key: key.clone() })?;
        for net in &lease.addresses {
            self.leased.remove(&net.addr());
            if let Some(freed) = freed_ms {
                self.quarantine.insert(net.addr(), freed);
            }
        }
        Ok(lease)
    }

    /// Remembers where the next search starts.
    pub fn set_cursor(&mut self, last: IpNet) {
        self.cursors.insert(last.trunc(), last.addr());
    }

    /// Has an address rest from a moment on.
    pub fn rest(&mut self, address: IpAddr, freed_ms: u64) -> Result<(), TableError> {
        self.allows_address(address)?;
        self.quarantine.insert(address, freed_ms);
        Ok(())
    }

    /// Forgets addresses that have rested long enough.
    pub fn forget_rested(&mut self, now_ms: u64) {
        self.quarantine.retain(|_, freed| now_ms.saturating_sub(*freed) < QUARANTINE_MS);
    }
}

fn already(key: &AttachmentKey, lease: &Lease) -> TableError {
    let addresses: Vec<String> = lease.addresses.iter().map(ToString::to_string).collect();
    TableError::AlreadyLeased { key: key.clone(), addresses: addresses.join(",") }
}

fn leased(address: IpAddr, range: &Range) -> Leased {
    let net = IpNet::new(address, range.subnet().prefix_len()).unwrap_or_else(|_| IpNet::from(address));
    Leased { net, gateway: range.gateway() }
}

#[cfg(test)]
mod tests;
