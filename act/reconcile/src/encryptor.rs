//! What encrypts for this node: the kernel's WireGuard device, or where it has none a forwarder.

use std::path::PathBuf;

use selvedge_datapath::converge::Forwarder;
use selvedge_model::Wireguard;
use selvedge_wireguard::{Kernel, SecretKey, WireguardError, key_file};

use crate::forwarder::{Process, Sight, Tunnel};
use crate::host::HostError;

/// One of the two.
#[derive(Debug)]
pub(crate) enum Encryptor {
    /// The kernel, and the file of our own key.
    Kernel(Kernel, PathBuf),
    /// A process, which reads that file itself.
    Process(Process<Wireguard>),
}

/// What is quickly seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Glimpse {
    /// What the kernel's device holds: nobody tells of changes to that.
    Device(Forwarder<Wireguard>),
    /// Whether there is a process, whose state nobody else changes.
    Process(Sight),
}

impl Encryptor {
    /// The kernel's where there is one.
    pub(crate) fn of(tunnel: Tunnel) -> Self {
        let kernel = Kernel::open().ok().and_then(|mut kernel| kernel.is_supported().then_some(kernel));
        match kernel {
            Some(kernel) => Self::Kernel(kernel, key_file(&tunnel.run_dir)),
            None => Self::Process(Process::new(tunnel)),
        }
    }

    pub(crate) fn is_kernels(&self) -> bool {
        matches!(self, Self::Kernel(..))
    }

    pub(crate) fn observe(&mut self) -> Result<Forwarder<Wireguard>, HostError> {
        match self {
            Self::Kernel(kernel, _) => Ok(read(kernel)?),
            Self::Process(process) => Ok(process.observe()),
        }
    }

    pub(crate) fn glance(&mut self) -> Glimpse {
        match self {
            Self::Kernel(kernel, _) => Glimpse::Device(read(kernel).unwrap_or(Forwarder::Strange)),
            Self::Process(process) => Glimpse::Process(process.glance()),
        }
    }

    pub(crate) fn start(&mut self) -> Result<(), HostError> {
        match self {
            Self::Kernel(kernel, _) => Ok(kernel.create()?),
            Self::Process(process) => process.start(),
        }
    }

    pub(crate) fn tell(&mut self, told: &Wireguard) -> Result<(), HostError> {
        match self {
            Self::Kernel(kernel, key) => match SecretKey::read(key)? {
                Some(secret) => Ok(kernel.set(told, &secret)?),
                // It was there when this was decided; the next pass makes another.
                None => Err(HostError::NoKey { path: key.clone() }),
            },
            Self::Process(process) => process.tell(told),
        }
    }

    pub(crate) fn end(&mut self) -> Result<(), HostError> {
        match self {
            Self::Kernel(kernel, _) => Ok(kernel.delete()?),
            Self::Process(process) => process.end(),
        }
    }
}

fn read(kernel: &mut Kernel) -> Result<Forwarder<Wireguard>, WireguardError> {
    Ok(kernel.get()?.map_or(Forwarder::Missing, Forwarder::There))
}
