//! Which address goes to whom, and the lines that remember it.
//!
//! - [`pool`]: ranges as host-local's configuration spells them, checked
//! - [`occupancy`]: what is taken; [`Occupancy::choose`] picks addresses and changes nothing
//! - [`table`]: the same with everything that is known of each lease
//! - [`journal`]: a lease table as a text of CRC-chained lines, read back to the last whole one, as either of them
//!
//! Reading, writing and locking the text is left to `selvedge-leases`. Invariants, at every prefix of every journal:
//! an address has at most one owner, an attachment at most one lease, and a line that would break that is refused as
//! corruption rather than applied. Time is CLOCK_BOOTTIME in milliseconds, always an argument.

mod index;
pub mod journal;
pub mod occupancy;
pub mod pool;
pub mod table;

pub use journal::{Header, Operation, Replay, Tail, Writer};
pub use occupancy::{Conflict, Occupancy, Refusal};
pub use pool::{Pool, PoolError, Range, RangeSpec};
pub use table::{ChooseError, Lease, LeaseTable, Leased, QUARANTINE_MS, Request, TableError};
