//! What the loop needs of its node.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_datapath::converge::{Observed, Step};
use selvedge_model::Tracked;
use selvedge_ruleset::{Listed, Table, TableId};

/// What the loop needs of the node's kernel and disk.
pub trait Kernel {
    /// What can go wrong.
    type Error: std::error::Error;

    /// Reads everything that a plan is made from.
    ///
    /// # Errors
    /// What could not be read; the pass is tried again.
    fn observe(&mut self) -> Result<Observed, Self::Error>;

    /// Makes the steps, in order, all of them; one outcome each.
    fn apply(&mut self, steps: &[Step]) -> Vec<Result<(), Self::Error>>;

    /// Looks, cheaply, at what changes without notice; says what is not as the last pass saw it, or that a look is
    /// due because the last pass changed it.
    fn glance(&mut self) -> Option<String>;

    /// The tracked flows of which that is true. None where connections aren't tracked.
    ///
    /// # Errors
    /// What could not be listed; it is tried again with the next pass.
    fn flows(&mut self, keep: &dyn Fn(&Tracked) -> bool) -> Result<Vec<Tracked>, Self::Error>;

    /// Has the kernel forget flows, as far as it still tracks them.
    ///
    /// # Errors
    /// What it refused; it is tried again with the next pass.
    fn forget(&mut self, flows: &[Tracked]) -> Result<(), Self::Error>;

    /// The tables alone, as [`Kernel::observe`] reads them; `None` if somebody else has changed any rules since.
    ///
    /// # Errors
    /// What could not be read; the pass is tried again.
    fn tables(&mut self) -> Result<Option<Arc<Listed>>, Self::Error>;

    /// True if that generation of rules has been seen.
    fn knows(&self, generation: u32) -> bool;

    /// Told of what is in force, which costs nothing to compare with what is wanted as long as it is that.
    fn share(&mut self, tables: &BTreeMap<TableId, Table>);

    /// Leaves word, for as long as the machine runs, that pods have been served.
    fn serves(&mut self);
}
