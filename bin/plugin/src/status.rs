//! STATUS: whether an ADD could be served now.

use std::time::{Duration, Instant};

use selvedge_cni::{CniError, Ipam, Status, code};
use selvedge_ipam::{ChooseError, Request};
use selvedge_model::AttachmentKey;

use crate::agent::READY;
use crate::{failure, ipam, journal};

/// How long the leases' lock is waited for in all: a runtime asks often, and wants its answer within a second.
const PATIENCE: Duration = Duration::from_millis(800);

/// Fails with code 50 where an ADD would fail: no address is free, the delegate says so, or the agent has never been
/// ready since the machine was booted. An agent that is away for a while is no reason: that would empty the node.
pub(crate) fn status(request: &Status) -> Result<(), CniError> {
    let conf = &request.conf;
    if conf.agent.is_some() && !conf.run_dir.join(READY).exists() {
        let message = "selvedge-agent has not been ready on this node since it was booted";
        return Err(unavailable(message));
    }
    match &conf.ipam {
        Ipam::Delegated(delegate) => ipam::tell(delegate, "STATUS"),
        Ipam::BuiltIn(pools) => {
            let pool = ipam::pool(pools).map_err(|why| failure::of(code::CONFIG, &why))?;
            let asked = Instant::now();
            let store = || {
                let left = PATIENCE.saturating_sub(asked.elapsed());
                journal::store(&conf.run_dir, &conf.name).with_patience(left)
            };
            let free = |table: &selvedge_ipam::LeaseTable| {
                table.choose(&pool, Request { key: &nobody(), addresses: &[] }, 0).map(drop)
            };
            let table = store().read().map_err(|e| unavailable(&journal::failure(&e).to_string()))?;
            if !matches!(free(&table), Err(ChooseError::Full { .. })) {
                return Ok(());
            }
            journal::free_dead(&store())?;
            let table = store().read().map_err(|e| journal::failure(&e))?;
            free(&table).map_err(|full| unavailable(&full.to_string()))
        }
    }
}

fn unavailable(why: &str) -> CniError {
    CniError::new(code::UNAVAILABLE, why)
}

/// An attachment that no runtime makes, to ask whether a next one would get addresses.
fn nobody() -> AttachmentKey {
    #[expect(clippy::unwrap_used, reason = "constants that are valid names")]
    AttachmentKey { container: "status".parse().unwrap(), ifname: "-".parse().unwrap() }
}
