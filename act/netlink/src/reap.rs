//! Veths that are in use no longer: set aside at once, deleted together later.
//!
//! Deleting a veth takes milliseconds under the kernel's network lock, as many for sixty as for one.

use selvedge_datapath::step::LinkChange;
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::{IfName, reaped_name};

use crate::error::NetlinkError;
use crate::request;
use crate::socket::{BATCH, RouteSocket};

impl RouteSocket {
    /// Sets one end of a veth aside: puts it into the reap group, takes it down, and with it the routes through it,
    /// takes its addresses away, renames it and clears its ifalias. Afterwards it carries nothing, owns nothing and
    /// stands in nobody's way. Returns its new name, or `None` if there is no such link.
    ///
    /// # Errors
    /// [`NetlinkError::Reap`] with the first refusal; what came after it was tried all the same.
    pub fn detach(&mut self, name: &IfName) -> Result<Option<IfName>, NetlinkError> {
        let aside = |source| NetlinkError::Reap { what: format!("set {name} aside"), source };
        let Some(index) = self.index_if_there(name).map_err(aside)? else { return Ok(None) };
        let reaped = reaped_name(name, index);
        // The group comes first: an agent that looks in between must not find a pod's link down and take it up again.
        // Down comes before the name: before Linux 6.2 a link that is up cannot be renamed.
        let first = [LinkChange::Group(REAP_GROUP), LinkChange::Down];
        let mut requests: Vec<_> = first.iter().map(|change| request::change(index, change)).collect();
        let on_it = self.addresses(index)?.into_iter().filter(|(device, _)| *device == index);
        requests.extend(on_it.take(BATCH / 2).map(|(_, address)| request::delete_address(index, &address)));
        let addresses = first.len()..requests.len();
        let last = [LinkChange::Rename(reaped.clone()), LinkChange::Alias(String::new())];
        requests.extend(last.iter().map(|change| request::change(index, change)));
        let verdicts = self.exchange(requests).into_iter().enumerate();
        for (i, verdict) in verdicts {
            match verdict {
                Err(refusal) if refusal.errno() == libc::ENODEV => return Ok(None),
                // Taking the link down has taken the IPv6 addresses.
                Err(_) if addresses.contains(&i) => {}
                Err(source) => return Err(aside(source)),
                Ok(()) => {}
            }
        }
        Ok(Some(reaped))
    }

    /// Deletes every link in the reap group, with its peer, in one request; false if there was none.
    ///
    /// # Errors
    /// [`NetlinkError::Reap`].
    pub fn reap_group(&mut self) -> Result<bool, NetlinkError> {
        match self.request(request::delete_group(REAP_GROUP)) {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.errno() == libc::ENODEV => Ok(false),
            Err(source) => {
                Err(NetlinkError::Reap { what: format!("ip link del group {REAP_GROUP}"), source })
            }
        }
    }
}
