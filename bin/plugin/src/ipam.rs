//! Where an attachment's addresses come from: our own journal, or another plugin's answer, which the journal records
//! as well so that DEL and GC find the attachment.

use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use selvedge_cni::{AddResult, CniError, Delegate, Dns, Exit, Ipam, Pools, Requested, code};
use selvedge_datapath::{PodAddress, PodRoute};
use selvedge_delegate::{Call, DelegateError};
use selvedge_ipam::{ChooseError, Pool, PoolError, Range, RangeSpec, Request};
use selvedge_leases::{LeaseError, Store};
use selvedge_model::{AttachmentKey, IfName};

use crate::journal;
use crate::log::Entry;

/// How long a delegated plugin may take; every runtime gives us more.
const DELEGATE_PATIENCE: Duration = Duration::from_secs(20);

/// How long it may take to answer STATUS: containerd sets up no pod meanwhile.
const STATUS_PATIENCE: Duration = Duration::from_millis(800);

/// What an attachment was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// Its addresses.
    pub(crate) addresses: Vec<PodAddress>,
    /// The routes for inside the pod; none means a default route.
    pub(crate) routes: Vec<PodRoute>,
    /// What the IPAM plugin said of name resolution.
    pub(crate) dns: Dns,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// The attachment.
    pub(crate) key: &'a AttachmentKey,
    /// Its host end.
    pub(crate) veth: &'a IfName,
    /// What the runtime asks for.
    pub(crate) requested: &'a Requested,
}

/// Gives an attachment its addresses and writes them down.
pub(crate) fn give(
    ipam: &Ipam,
    store: &Store,
    asking: Asking<'_>,
    entry: &mut Entry,
) -> Result<Given, CniError> {
    match ipam {
        Ipam::BuiltIn(pools) => lease(pools, store, asking, entry),
        Ipam::Delegated(delegate) => delegated(delegate, store, asking, entry),
    }
}

fn lease(pools: &Pools, store: &Store, asking: Asking<'_>, entry: &mut Entry) -> Result<Given, CniError> {
    let pool = pool(pools).map_err(|why| CniError::new(code::CONFIG, why.to_string()))?;
    let requested: Vec<IpAddr> = asking.requested.ips.iter().map(|ip| ip.ip).collect();
    let request = Request { key: asking.key, addresses: &requested };
    let mut reserve = || Ok(journal::lock(store, entry)?.reserve(&pool, request, asking.veth));
    let mut leased = reserve()?;
    if matches!(&leased, Err(LeaseError::Choose(ChooseError::Full { .. }))) && journal::free_dead(store)? {
        leased = reserve()?;
    }
    let leased = leased.map_err(|e| journal::failure(&e))?;
    Ok(Given {
        addresses: leased.iter().map(|l| PodAddress { net: l.net, gateway: Some(l.gateway) }).collect(),
        routes: pools.routes.iter().map(|r| PodRoute { destination: r.dst, via: r.gw }).collect(),
        dns: Dns::default(),
    })
}

/// The pool that a configuration's ranges make.
pub(crate) fn pool(pools: &Pools) -> Result<Pool, PoolError> {
    let range = |r: &selvedge_cni::Range| {
        Range::new(RangeSpec { subnet: r.subnet, start: r.start, end: r.end, gateway: r.gateway })
    };
    let sets = pools.ranges.iter().map(|set| set.iter().map(range).collect());
    Pool::new(sets.collect::<Result<_, _>>()?)
}

fn delegated(
    delegate: &Delegate,
    store: &Store,
    asking: Asking<'_>,
    entry: &mut Entry,
) -> Result<Given, CniError> {
    journal::refuse_leased(store, asking.key, entry)?;
    let (exit, stdout) = execute(delegate, "ADD", &[])?;
    let given = delegate.added(exit, &stdout).and_then(|result| {
        let given = Given::from(result);
        let nets = given.addresses.iter().map(|a| a.net).collect();
        let recorded = journal::lock(store, entry)?.record(asking.key, nets, asking.veth);
        recorded.map(|()| given).map_err(|e| journal::failure(&e))
    });
    given.inspect_err(|_| {
        // A plugin that failed has cleaned up; from any other the addresses go back where they came from. The first
        // failure is what is told.
        if !matches!(exit, Exit::Code(1..)) {
            tell(delegate, "DEL").ok();
        }
    })
}

impl From<AddResult> for Given {
    fn from(result: AddResult) -> Self {
        let addresses = result.ips.iter().map(|ip| PodAddress { net: ip.address, gateway: ip.gateway });
        let routes = result.routes.iter().map(|r| PodRoute { destination: r.dst, via: r.gw });
        Self { addresses: addresses.collect(), routes: routes.collect(), dns: result.dns }
    }
}

/// Has a delegated plugin do CHECK, GC or STATUS, or DEL for the attachment that we were called for.
pub(crate) fn tell(delegate: &Delegate, verb: &str) -> Result<(), CniError> {
    let (exit, stdout) = execute(delegate, verb, &[])?;
    delegate.done(exit, &stdout)
}

/// Has a delegated plugin take back what it gave an attachment, whatever we were called for.
pub(crate) fn take_back(delegate: &Delegate, key: &AttachmentKey) -> Result<(), CniError> {
    let whose = [("CNI_CONTAINERID", key.container.to_string()), ("CNI_IFNAME", key.ifname.to_string())];
    let (exit, stdout) = execute(delegate, "DEL", &whose)?;
    delegate.done(exit, &stdout)
}

fn execute(delegate: &Delegate, verb: &str, whose: &[(&str, String)]) -> Result<(Exit, Vec<u8>), CniError> {
    let program: PathBuf =
        delegate.candidates().into_iter().find(|path| path.is_file()).ok_or_else(|| delegate.nowhere())?;
    let mut env = whose.to_vec();
    env.push(("CNI_COMMAND", verb.to_owned()));
    let call = Call {
        program: &program,
        env: &env,
        stdin: delegate.stdin(),
        deadline: if verb == "STATUS" { STATUS_PATIENCE } else { DELEGATE_PATIENCE },
    };
    match selvedge_delegate::run(call) {
        Ok(answer) => Ok((ended(answer.status), answer.stdout)),
        Err(DelegateError::Deadline { .. }) => Ok((Exit::TimedOut, Vec::new())),
        Err(error) => {
            let why = CniError::from_chain(code::DELEGATE, &error);
            Err(delegate.failed(&format!("can't be used: {}", why.message())))
        }
    }
}

fn ended(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}
