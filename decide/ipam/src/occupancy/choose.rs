//! Which addresses an attachment gets.

use std::net::IpAddr;

use super::{Conflict, Holder, Occupancy};
use crate::pool::{self, Pool, Range, Span, leased};
use crate::table::{ChooseError, Leased, QUARANTINE_MS};

/// Why no addresses were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// What is leased doesn't allow it.
    Conflict(Conflict),
    /// The ranges don't.
    Choose(ChooseError),
}

impl Occupancy {
    /// Chooses one address from each range set: the requested one where there is one, else the next free after the
    /// last that was leased, else the one that was freed longest ago. Nothing is changed.
    pub fn choose(&self, pool: &Pool, requested: &[IpAddr], now_ms: u64) -> Result<Vec<Leased>, Refusal> {
        if let Some(address) = requested.iter().find(|a| pool.range_of(**a).is_none()) {
            return Err(ChooseError::NotInPool { address: *address }.into());
        }
        pool.sets().iter().map(|set| self.choose_from(set, requested, now_ms)).collect()
    }

    fn choose_from(&self, set: &[Range], requested: &[IpAddr], now_ms: u64) -> Result<Leased, Refusal> {
        let mut mine =
            requested.iter().filter_map(|a| Some((*a, set.iter().find(|range| range.leases(*a))?)));
        match (mine.next(), mine.next()) {
            (Some((one, _)), Some((other, _))) => Err(ChooseError::SameSet { one, other }.into()),
            (Some((address, range)), None) => {
                self.allows_address(address)?;
                Ok(leased(address, range))
            }
            (None, _) => self.next_free(set, now_ms).ok_or_else(|| self.full(set).into()),
        }
    }

    /// Once around each range, starting after the address that was leased last.
    fn next_free(&self, set: &[Range], now_ms: u64) -> Option<Leased> {
        let cursor = |range: &Range| self.cursors.iter().find(|(subnet, _)| *subnet == range.subnet());
        let parts = |range: &Range| range.parts(cursor(range).map(|(_, last)| *last));
        let after = set.iter().filter_map(|range| Some((range, parts(range).0?)));
        let up_to = set.iter().filter_map(|range| Some((range, parts(range).1?)));
        let mut fresh = after.chain(up_to).filter_map(|(range, span)| {
            self.first_free(range, span, now_ms).map(|address| leased(address, range))
        });
        fresh.next().or_else(|| self.longest_rested(set))
    }

    /// Passes over what is leased or rests; a large subnet costs no more than that.
    fn first_free(&self, range: &Range, span: Span, now_ms: u64) -> Option<IpAddr> {
        pool::addresses(span).find(|address| {
            let free = match self.holder(*address) {
                Holder::Nobody => true,
                Holder::Lease { .. } => false,
                Holder::Rests { since_ms } => now_ms.saturating_sub(since_ms) >= QUARANTINE_MS,
            };
            free && *address != range.gateway()
        })
    }

    fn longest_rested(&self, set: &[Range]) -> Option<Leased> {
        let in_set = |address: IpAddr| set.iter().find(|range| range.leases(address));
        let waiting = self.resting().filter_map(|(address, freed)| Some((freed, address, in_set(address)?)));
        let oldest = waiting.min_by_key(|(freed, address, _)| (*freed, *address));
        oldest.map(|(_, address, range)| leased(address, range))
    }

    fn full(&self, set: &[Range]) -> ChooseError {
        let subnets: Vec<String> = set.iter().map(|range| range.subnet().to_string()).collect();
        let in_set = |address: &IpAddr| set.iter().any(|range| range.leases(*address));
        let taken = self.addresses.iter().zip(&self.holders);
        let taken = taken.filter(|(_, holder)| matches!(holder, Holder::Lease { .. }));
        ChooseError::Full {
            subnets: subnets.join(","),
            leased: taken.filter(|(address, _)| in_set(address)).count(),
            size: set.iter().map(Range::size).sum(),
        }
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<ChooseError> for Refusal {
    fn from(error: ChooseError) -> Self {
        Self::Choose(error)
    }
}
