//! The kernel's device.

use std::io;

use rustix::net::netlink::GENERIC;
use selvedge_model::{IfName, PublicKey, Wireguard, mark};
use selvedge_netlink::{NetlinkError, Refusal, RouteSocket};
use selvedge_wire::Socket;

use crate::change::changes;
use crate::device::Device;
use crate::key::SecretKey;
use crate::message;

/// How often a device is read that changes meanwhile.
const TRIES: u32 = 16;

/// What can't be done to the device.
#[derive(Debug, thiserror::Error)]
pub enum WireguardError {
    /// No socket could be opened.
    #[error("open a generic netlink socket")]
    Open {
        /// What the system said.
        source: io::Error,
    },
    /// No socket for links could be opened, or links can't be looked at.
    #[error(transparent)]
    Link(#[from] NetlinkError),
    /// The kernel refused.
    #[error("{what} {}", mark::WIREGUARD_DEVICE)]
    Refused {
        /// What was to be done.
        what: &'static str,
        /// The kernel's answer.
        source: Refusal,
    },
    /// The device isn't there.
    #[error("there is no WireGuard device {} in the kernel", mark::WIREGUARD_DEVICE)]
    Missing,
    /// The secret is not that of the key which the device is to have.
    #[error("the device is to have the key {wanted}, and the key at hand is {ours}")]
    OtherKey {
        /// The one.
        wanted: PublicKey,
        /// The other.
        ours: PublicKey,
    },
    /// What was read went on changing.
    #[error("read {}: it changed each of the {TRIES} times it was read", mark::WIREGUARD_DEVICE)]
    Unsettled,
}

/// The kernel's WireGuard device [`mark::WIREGUARD_DEVICE`] of one network namespace.
#[derive(Debug)]
pub struct Kernel {
    route: RouteSocket,
    generic: Socket,
    /// The number of the family, once it was asked for: its module may be loaded first.
    family: Option<u16>,
    name: IfName,
}

impl Kernel {
    /// That of the calling thread's namespace.
    ///
    /// # Errors
    /// [`WireguardError::Open`], [`WireguardError::Link`].
    pub fn open() -> Result<Self, WireguardError> {
        let generic = Socket::open(Some(GENERIC), &[]);
        let generic = generic.map_err(|errno| WireguardError::Open { source: errno.into() })?;
        Ok(Self { route: RouteSocket::open()?, generic, family: None, name: name() })
    }

    /// True if the kernel has WireGuard, be it as a module that it loads.
    pub fn is_supported(&mut self) -> bool {
        self.route.has_wireguard()
    }

    /// Makes the device. It has no key, no address and no alias, and is down.
    ///
    /// # Errors
    /// [`WireguardError::Refused`], with `EEXIST` where there is a link of its name already, of whatever kind.
    pub fn create(&mut self) -> Result<(), WireguardError> {
        let made = self.route.create_wireguard(&self.name);
        made.map_err(|source| WireguardError::Refused { what: "make", source })
    }

    /// Deletes the device, with all its sessions. A link of its name that is of another kind stays.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn delete(&mut self) -> Result<(), WireguardError> {
        let Some(device) = self.read()? else { return Ok(()) };
        let gone = self.route.delete_index(device.index);
        gone.map_err(|source| WireguardError::Refused { what: "delete", source })
    }

    /// What the device holds: nothing if the kernel has no such device, and within, nothing as long as it has no key.
    /// A peer that isn't where a node could be, at our own port, is at 0.0.0.0.
    ///
    /// # Errors
    /// [`WireguardError::Link`], [`WireguardError::Refused`], [`WireguardError::Unsettled`].
    pub fn get(&mut self) -> Result<Option<Option<Wireguard>>, WireguardError> {
        Ok(self.read()?.map(|device| device.shown()))
    }

    /// Has the device hold that, with as few changes as will do: whatever stays as it is keeps its session.
    ///
    /// # Errors
    /// [`WireguardError`]; part of it may be done then.
    pub fn set(&mut self, wanted: &Wireguard, secret: &SecretKey) -> Result<(), WireguardError> {
        let ours = secret.public();
        if wanted.key != ours {
            return Err(WireguardError::OtherKey { wanted: wanted.key, ours });
        }
        let now = self.read()?.ok_or(WireguardError::Missing)?;
        let Some(family) = self.family else { return Err(WireguardError::Missing) };
        let changes = changes(&now, wanted);
        for request in message::set((family, self.name.as_str()), &changes, secret.bytes()) {
            let done = self.generic.ask(&request, |_| {});
            done.map_err(|source| WireguardError::Refused { what: "set", source })?;
        }
        Ok(())
    }

    /// The device as it is; none where the link isn't there, or of another kind.
    fn read(&mut self) -> Result<Option<Device>, WireguardError> {
        // To ask for the family would load its module.
        if !self.route.has_link(&self.name)? {
            return Ok(None);
        }
        let Some(family) = self.family()? else { return Ok(None) };
        let request = message::get(family, self.name.as_str());
        for _ in 0..TRIES {
            let mut device = Device::default();
            match self.generic.ask(&request, |part| message::read(part.payload, &mut device)) {
                Ok(false) => return Ok(Some(device)),
                Ok(true) => {}
                Err(refusal) if [libc::ENODEV, libc::EOPNOTSUPP].contains(&refusal.errno()) => {
                    return Ok(None);
                }
                Err(source) => return Err(WireguardError::Refused { what: "read", source }),
            }
        }
        Err(WireguardError::Unsettled)
    }

    fn family(&mut self) -> Result<Option<u16>, WireguardError> {
        if self.family.is_none() {
            let request = message::get_family();
            let mut found = None;
            match self.generic.ask(&request, |answer| found = message::family(answer.payload)) {
                Err(refusal) if refusal.errno() == libc::ENOENT => {}
                Err(source) => return Err(WireguardError::Refused { what: "find the family of", source }),
                Ok(_) => self.family = found,
            }
        }
        Ok(self.family)
    }
}

fn name() -> IfName {
    mark::WIREGUARD_DEVICE.parse().expect("is a valid name")
}

#[cfg(test)]
mod tests;
