//! Token buckets and redirections: what `tc` calls qdiscs and filters.

use selvedge_datapath::shaping::{Shaping, ShownBucket, TokenBucket};
use selvedge_datapath::state::LinkKind;
use selvedge_model::{IfName, MacAddr, Mtu};
use selvedge_wire::flag::{CREATE, DUMP, ECHO, EXCL, REPLACE};
use selvedge_wire::{Reader, Request, Writer, u32_at};

use crate::error::{GONE, NetlinkError, Refusal};
use crate::request;
use crate::socket::RouteSocket;

/// TC_H_ROOT: what leaves a link.
const ROOT: u32 = 0xffff_ffff;
/// TC_H_INGRESS: what comes in by it.
const INGRESS: u32 = 0xffff_fff1;
/// The handle `ffff:`, which what hangs on [`INGRESS`] has.
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// The handle `1:` of a bucket.
const BUCKET_HANDLE: u32 = 0x0001_0000;
/// The handle `800::800`: the first entry of a filter's first hash table.
const FILTER_HANDLE: u32 = 0x8000_0800;
/// Priority 1, for every protocol (ETH_P_ALL, in network byte order).
const FIRST_OF_ALL: u32 = 1 << 16 | 0x0003_u16.to_be() as u32;
/// TC_LINKLAYER_ETHERNET: times are computed, not looked up in a table that would have to be sent along.
const ETHERNET: u8 = 1;
/// TC_U32_TERMINAL.
const TERMINAL: u8 = 1;
/// TC_ACT_STOLEN: the packet is ours now.
const STOLEN: u32 = 4;
/// TCA_EGRESS_REDIR.
const EGRESS_REDIRECT: u32 = 1;
/// Length of `struct tcmsg`.
const HEADER: usize = 20;

/// TCA_KIND and TCA_OPTIONS.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// TCA_TBF_PARMS, TCA_TBF_RATE64 and TCA_TBF_BURST.
const BUCKET_PARAMETERS: u16 = 1;
const BUCKET_RATE64: u16 = 4;
const BUCKET_BURST: u16 = 6;
/// TCA_U32_SEL and TCA_U32_ACT.
const SELECTOR: u16 = 5;
const ACTIONS: u16 = 7;
/// The first of a filter's actions, and TCA_ACT_KIND and TCA_ACT_OPTIONS of it.
const FIRST_ACTION: u16 = 1;
const ACTION_KIND: u16 = 1;
const ACTION_OPTIONS: u16 = 2;
/// TCA_MIRRED_PARMS.
const MIRRED_PARAMETERS: u16 = 2;

/// Makes an ifb, and gives it its alias, which the kernel takes only of a link that exists.
pub(crate) fn create_ifb(name: &IfName, mac: MacAddr, mtu: Mtu, alias: &str) -> [Request; 2] {
    let make = request::link(libc::RTM_NEWLINK, CREATE | EXCL, 0, |w| {
        w.text(libc::IFLA_IFNAME, name.as_str());
        w.bytes(libc::IFLA_ADDRESS, &mac.0);
        w.u32_ne(libc::IFLA_MTU, mtu.bytes());
        w.nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "ifb"));
    });
    let mark = request::link(libc::RTM_SETLINK, 0, 0, |w| {
        w.text(libc::IFLA_IFNAME, name.as_str());
        w.bytes(libc::IFLA_IFALIAS, alias.as_bytes());
    });
    [make, mark]
}

/// Holds what leaves a link to a rate.
pub(crate) fn set_bucket(device: u32, bucket: &TokenBucket) -> Request {
    let header = header(device, BUCKET_HANDLE, ROOT, 0);
    Request::new(libc::RTM_NEWQDISC, CREATE | REPLACE, &header, |w| {
        w.text(KIND, "tbf");
        w.nest(OPTIONS, |options| {
            options.bytes(BUCKET_PARAMETERS, &parameters(bucket));
            if bucket.rate > u64::from(u32::MAX) {
                options.bytes(BUCKET_RATE64, &bucket.rate.to_ne_bytes());
            }
            // The parameters hold no burst that lasts longer than 4 s.
            options.u32_ne(BUCKET_BURST, bucket.burst);
        });
    })
}

/// `struct tc_tbf_qopt`: the rate, no peak rate, limit, burst as a time, and no MTU, which would go with a peak rate.
fn parameters(bucket: &TokenBucket) -> Vec<u8> {
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    let kind_of_link = u32::from_ne_bytes([0, ETHERNET, 0, 0]);
    [kind_of_link, 0, rate, 0, 0, 0, bucket.limit, bucket.ticks(), 0].map(u32::to_ne_bytes).concat()
}

/// Sends everything that comes in by a link through another one first.
pub(crate) fn redirect(device: u32, to: u32) -> [Request; 2] {
    let ingress = header(device, INGRESS_HANDLE, INGRESS, 0);
    let filter = header(device, FILTER_HANDLE, INGRESS_HANDLE, FIRST_OF_ALL);
    let hook = Request::new(libc::RTM_NEWQDISC, CREATE | REPLACE, &ingress, |w| w.text(KIND, "ingress"));
    let rule = Request::new(libc::RTM_NEWTFILTER, CREATE, &filter, |w| {
        w.text(KIND, "u32");
        w.nest(OPTIONS, |options| {
            // `struct tc_u32_sel` with one key that every packet has.
            let mut selector = [0; 32];
            selector[0] = TERMINAL;
            selector[2] = 1;
            options.bytes(SELECTOR, &selector);
            options.nest(ACTIONS, |actions| actions.nest(FIRST_ACTION, |action| write_redirect(action, to)));
        });
    });
    [hook, rule]
}

/// An action of the kind `mirred`, with `struct tc_mirred`: its index, capabilities, verdict, counts of references, what
/// it does, and the link.
fn write_redirect(action: &mut Writer, to: u32) {
    action.text(ACTION_KIND, "mirred");
    action.nest(ACTION_OPTIONS, |options| {
        let mirred = [0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, to].map(u32::to_ne_bytes);
        options.bytes(MIRRED_PARAMETERS, &mirred.concat());
    });
}

/// `struct tcmsg`: family, link, handle, parent, and a filter's priority and protocol.
fn header(device: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, device, handle, parent, info].map(u32::to_ne_bytes).concat()
}

impl RouteSocket {
    /// How a link's traffic is held up, as far as that is done the way in which we do it; not at all if there is no such
    /// link.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_shaping(&mut self, device: &IfName) -> Result<Shaping, NetlinkError> {
        let index = self.index_if_there(device);
        let index = index.map_err(|source| NetlinkError::Read { what: "queueing of a link", source })?;
        let Some(index) = index else { return Ok(Shaping::default()) };
        // Without the flag the kernel answers everybody but the asker.
        let root = Request::new(libc::RTM_GETQDISC, ECHO, &header(index, 0, ROOT, 0), |_| {});
        let bucket = match self.read_one(&root, bucket) {
            Err(refusal) if GONE.contains(&refusal.errno()) => None,
            bucket => bucket.map_err(|source| NetlinkError::Read { what: "queueing of a link", source })?,
        };
        let filters = header(index, 0, INGRESS_HANDLE, 0);
        let filters = Request::new(libc::RTM_GETTFILTER, DUMP, &filters, |_| {});
        let targets = match self.read_all("filters of a link", &filters, redirection) {
            Err(error) if error.is_gone() => Vec::new(),
            targets => targets?,
        };
        let redirect = targets.first().and_then(|to| self.name_of(*to));
        Ok(Shaping { bucket, redirect })
    }

    /// Makes an ifb; one that is there already must be the same one.
    pub(crate) fn create_ifb(
        &mut self,
        name: &IfName,
        alias: &str,
        make: [Request; 2],
    ) -> Result<(), Refusal> {
        if self.index_if_there(name)?.is_some() {
            let link =
                self.observe_link(name).map_err(|error| Refusal::new(error.errno().unwrap_or(libc::EIO)))?;
            let same = link.is_some_and(|link| link.kind == LinkKind::Ifb && link.alias == alias);
            return if same { Ok(()) } else { Err(Refusal::new(libc::EEXIST)) };
        }
        // In one datagram, which the kernel carries out as a whole: a kill in between would leave a link without its
        // mark. One that can't be marked goes again, whatever becomes of its deletion.
        let verdicts = self.exchange(make.into());
        if let [Ok(()), Err(_)] = verdicts[..]
            && let Ok(index) = self.index_of(name)
        {
            drop(self.request(request::delete_link(index)));
        }
        verdicts.into_iter().collect()
    }
}

/// Reads an RTM_NEWQDISC: a token bucket, if it is one.
pub(crate) fn bucket(payload: &[u8]) -> Option<ShownBucket> {
    let attributes = Reader(payload.get(HEADER..)?);
    let options = attributes.nest(OPTIONS).filter(|_| attributes.text(KIND).as_deref() == Some("tbf"))?;
    let parameters = options.get(BUCKET_PARAMETERS)?;
    let rate64 = options.get(BUCKET_RATE64).and_then(|value| value.try_into().ok()).map(u64::from_ne_bytes);
    let rate = u32_at(parameters, 8)?;
    Some(ShownBucket {
        rate: rate64.unwrap_or_else(|| rate.into()),
        limit: u32_at(parameters, 24)?,
        ticks: u32_at(parameters, 28)?,
    })
}

/// Reads an RTM_NEWTFILTER: the link that ours redirects to.
pub(crate) fn redirection(payload: &[u8]) -> Option<u32> {
    if u32_at(payload, 8)? != FILTER_HANDLE || u32_at(payload, 16)? != FIRST_OF_ALL {
        return None;
    }
    let action = Reader(payload.get(HEADER..)?).nest(OPTIONS)?.nest(ACTIONS)?.nest(FIRST_ACTION)?;
    let mirred =
        action.nest(ACTION_OPTIONS).filter(|_| action.text(ACTION_KIND).as_deref() == Some("mirred"))?;
    let mirred = mirred.get(MIRRED_PARAMETERS)?;
    (u32_at(mirred, 20)? == EGRESS_REDIRECT).then(|| u32_at(mirred, 24))?
}
