//! What the agent answers to those who ask why something passes, or doesn't.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use selvedge_datapath::firewall;
use selvedge_datapath::reach::Findings;
use selvedge_datapath::state::Route;
use selvedge_explain::{Explanation, Query, View, explain};
use selvedge_model::{NodeName, Sorted};
use selvedge_netlink::RouteSocket;
use selvedge_nft::NftSocket;

use crate::wiring::Policed;

/// What was decided last, for those who ask. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decided(Arc<Mutex<Option<Last>>>);

/// What was decided: policy's part of the table, and the routes.
pub(crate) type Last = (Arc<Policed>, Sorted<Route>);

impl Decided {
    /// Takes what has just been decided.
    pub(crate) fn put(&self, policed: Arc<Policed>, routes: Sorted<Route>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((policed, routes));
    }

    /// Policy's part of it.
    pub(crate) fn policed(&self) -> Option<Arc<Policed>> {
        let decided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        decided.as_ref().map(|(policed, _)| Arc::clone(policed))
    }

    /// What was decided last.
    ///
    /// # Errors
    /// Nothing is decided yet.
    pub(crate) fn last(&self) -> Result<Last, &'static str> {
        let decided = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        decided.ok_or("nothing is known of the cluster yet")
    }

    /// The answer, from what was decided and measured and what the kernel has now.
    ///
    /// # Errors
    /// Nothing is decided yet, an end is not known, or the kernel can't be asked.
    pub(crate) fn explain(
        &self,
        node: &NodeName,
        findings: &Findings,
        query: &Query,
    ) -> Result<Explanation, Box<dyn Error>> {
        let (policed, routes) = self.last()?;
        let listed = NftSocket::open()?.list(&[firewall::AGENT])?;
        let there = RouteSocket::open()?.observe()?.routes;
        Ok(explain(
            query,
            View {
                node,
                cluster: &policed.cluster,
                local: &policed.local,
                policy: &policed.table,
                routes: &routes,
                listed: &listed,
                there: &there,
                findings,
            },
        )?)
    }
}
