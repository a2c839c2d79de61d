//! STATUS: whether an ADD could be served now.

use std::fmt::Display;
use std::time::Duration;

use selvedge_cni::{CniError, Ipam, NetConf, Status, code};
use selvedge_ipam::{ChooseError, Occupancy, Refusal};
use selvedge_model::Mtu;
use selvedge_netlink::RouteSocket;

use crate::agent::READY;
use crate::node::Standalone;
use crate::{failure, ipam, journal};

/// How long the leases' lock is waited for to reclaim an address: containerd sets up no pod before we have answered.
const PATIENCE: Duration = Duration::from_millis(20);

/// Fails with code 50 where an ADD would fail: no address is free, none could be written down, the delegate says so,
/// the bridge's name is another link's (code 51 if pods are there, which suffer too), or the agent has never been ready
/// since the machine was booted. An agent that is away for a while is no reason: that would empty the node.
pub(crate) fn status(request: &Status) -> Result<(), CniError> {
    let conf = &request.conf;
    if conf.agent.is_some() && !conf.run_dir.join(READY).exists() {
        let message = "selvedge-agent has not been ready on this node since it was booted";
        return Err(unavailable(&message));
    }
    if conf.agent.is_none() {
        refuse_blocked(conf)?;
    }
    let store = journal::store(&conf.run_dir, &conf.name).with_patience(PATIENCE);
    store.takes_more().map_err(|e| unavailable(&journal::failure(&e)))?;
    match &conf.ipam {
        Ipam::Delegated(delegate) => ipam::tell(delegate, "STATUS"),
        Ipam::BuiltIn(pools) => {
            let pool = ipam::pool(pools).map_err(|why| failure::of(code::CONFIG, &why))?;
            let taken = || store.taken().map_err(|e| unavailable(&journal::failure(&e)));
            let full = |taken: &Occupancy| match taken.choose(&pool, &[], 0) {
                Err(Refusal::Choose(full @ ChooseError::Full { .. })) => Some(full),
                Ok(_) | Err(_) => None,
            };
            if full(&taken()?).is_none() {
                return Ok(());
            }
            // Whatever keeps us from it: the pool is full as it stands.
            journal::free_dead(&store).ok();
            full(&taken()?).map_or(Ok(()), |full| Err(unavailable(&full)))
        }
    }
}

/// Without an agent, each ADD prepares the node; where that can't be done, the pods that are there are cut off too.
fn refuse_blocked(conf: &NetConf) -> Result<(), CniError> {
    let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
    let network = Standalone::new(conf, &[], conf.mtu.unwrap_or(Mtu::ETHERNET));
    let Err(why) = network.can_be_prepared(&mut route) else { return Ok(()) };
    let store = journal::store(&conf.run_dir, &conf.name).with_patience(PATIENCE);
    let attached = store.taken().is_ok_and(|taken| !taken.is_empty());
    let code = if attached { code::UNAVAILABLE_DEGRADED } else { code::UNAVAILABLE };
    Err(CniError::new(code, why.message()))
}

fn unavailable(why: &dyn Display) -> CniError {
    CniError::new(code::UNAVAILABLE, why.to_string())
}
