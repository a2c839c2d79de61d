//! Leases, quarantine and cursors.

use std::collections::btree_map::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::{AttachmentKey, IfName};

use crate::occupancy::{Conflict, Fingerprint, Occupancy, Refusal};
use crate::pool::Pool;

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
#[derive(Debug, Clone, Default)]
pub struct LeaseTable {
    leases: BTreeMap<AttachmentKey, Lease>,
    taken: Occupancy,
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
    pub fn quarantine(&self) -> BTreeMap<IpAddr, u64> {
        self.taken.resting().collect()
    }

    /// The address that was leased last from each subnet.
    pub fn cursors(&self) -> BTreeMap<IpNet, IpAddr> {
        self.taken.cursors()
    }

    /// Chooses addresses as [`Occupancy::choose`] does, for an attachment that has none yet.
    pub fn choose(&self, pool: &Pool, request: Request<'_>, now_ms: u64) -> Result<Vec<Leased>, ChooseError> {
        if let Some(lease) = self.lease(request.key) {
            return Err(already(request.key, lease).into());
        }
        self.taken.choose(pool, request.addresses, now_ms).map_err(|refusal| match refusal {
            Refusal::Choose(error) => error,
            Refusal::Conflict(conflict) => self.explain(conflict, request.key).into(),
        })
    }

    /// Enters a lease.
    pub fn insert(&mut self, key: AttachmentKey, lease: Lease) -> Result<(), TableError> {
        let entered = self.taken.insert(Fingerprint::of(&key), 0, &lease.addresses);
        entered.map_err(|conflict| self.explain(conflict, &key))?;
        self.leases.insert(key, lease);
        Ok(())
    }

    /// Takes a lease out. Its addresses rest from `freed_ms` on, unless nobody ever used them (`None`).
    pub fn remove(&mut self, key: &AttachmentKey, freed_ms: Option<u64>) -> Result<Lease, TableError> {
        let lease = self.leases.remove(key).ok_or_else(|| TableError::NoLease { key: key.clone() })?;
        let removed = self.taken.remove(Fingerprint::of(key), freed_ms);
        removed.map_err(|conflict| self.explain(conflict, key))?;
        Ok(lease)
    }

    /// Remembers where the next search starts.
    pub fn set_cursor(&mut self, last: IpNet) {
        self.taken.set_cursor(last);
    }

    /// Has an address rest from a moment on.
    pub fn rest(&mut self, address: IpAddr, freed_ms: u64) -> Result<(), TableError> {
        let Err(_conflict) = self.taken.rest(address, freed_ms) else { return Ok(()) };
        let owner = self.owner(address).cloned();
        owner.map_or(Ok(()), |owner| Err(TableError::Owned { address, owner }))
    }

    /// Forgets addresses that have rested long enough.
    pub fn forget_rested(&mut self, now_ms: u64) {
        self.taken.forget_rested(now_ms);
    }

    fn explain(&self, conflict: Conflict, key: &AttachmentKey) -> TableError {
        let present = match conflict {
            Conflict::Leased(_) => self.leases.get_key_value(key),
            Conflict::Owned(address, _) => {
                self.owner(address).and_then(|owner| self.leases.get_key_value(owner))
            }
            Conflict::NoLease => None,
        };
        TableError::of(conflict, key, present)
    }
}

impl PartialEq for LeaseTable {
    fn eq(&self, other: &Self) -> bool {
        let beside = |table: &Self| (table.quarantine(), table.cursors());
        self.leases == other.leases && beside(self) == beside(other)
    }
}

impl Eq for LeaseTable {}

impl TableError {
    /// What stands against a change for `key`, in words, with the lease that the conflict is with.
    pub fn of(conflict: Conflict, key: &AttachmentKey, present: Option<(&AttachmentKey, &Lease)>) -> Self {
        match (conflict, present) {
            (Conflict::Leased(_), Some((key, lease))) => already(key, lease),
            (Conflict::Leased(_), None) => {
                Self::AlreadyLeased { key: key.clone(), addresses: "-".to_owned() }
            }
            (Conflict::Owned(address, _), Some((owner, _))) => Self::Owned { address, owner: owner.clone() },
            (Conflict::Owned(..) | Conflict::NoLease, _) => Self::NoLease { key: key.clone() },
        }
    }
}

fn already(key: &AttachmentKey, lease: &Lease) -> TableError {
    let addresses: Vec<String> = lease.addresses.iter().map(ToString::to_string).collect();
    TableError::AlreadyLeased { key: key.clone(), addresses: addresses.join(",") }
}

#[cfg(test)]
mod tests;
