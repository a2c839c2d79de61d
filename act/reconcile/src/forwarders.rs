//! Everything that forwards for this node beside the kernel's routes: the udp transport, and WireGuard with its key.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use selvedge_datapath::converge::{Forwarder, ForwarderStep, OwnKey, Which};
use selvedge_model::{Forwarding, Wireguard, chain};
use selvedge_wireguard::{SecretKey, key_file};

use crate::encryptor::{Encryptor, Glimpse};
use crate::forwarder::{Process, Sight, Tunnel};
use crate::host::HostError;

/// Both, whether there are any or not.
#[derive(Debug)]
pub(crate) struct Forwarders {
    udp: Process<Forwarding>,
    wireguard: Encryptor,
    /// The file of our own WireGuard key.
    key: PathBuf,
}

/// How they are.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) forwarder: Forwarder<Forwarding>,
    pub(crate) wireguard: Forwarder<Wireguard>,
    pub(crate) key: OwnKey,
}

/// What is quickly seen of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glance {
    udp: Sight,
    wireguard: Glimpse,
    /// Which file holds the key, and when anything of it was changed last, in seconds and nanoseconds.
    key: Option<(u64, i64, i64)>,
}

impl Glance {
    /// What has changed since, in words.
    pub(crate) fn differs_from(&self, last: &Self) -> Option<&'static str> {
        let what = [
            (self.udp != last.udp, "the forwarder of the udp transport came, went or hangs"),
            (self.wireguard != last.wireguard, "what encrypts came, went, hangs or was changed"),
            (self.key != last.key, "our own WireGuard key changed"),
        ];
        what.into_iter().find(|(differs, _)| *differs).map(|(_, what)| what)
    }
}

impl Forwarders {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        let key = key_file(&tunnel.run_dir);
        Self { udp: Process::new(tunnel.clone()), wireguard: Encryptor::of(tunnel), key }
    }

    /// Whether the kernel encrypts.
    pub(crate) fn kernel_encrypts(&self) -> bool {
        self.wireguard.is_kernels()
    }

    pub(crate) fn observe(&mut self) -> Result<Seen, HostError> {
        Ok(Seen {
            forwarder: self.udp.observe(),
            wireguard: self.wireguard.observe()?,
            key: own_key(&self.key),
        })
    }

    pub(crate) fn glance(&mut self) -> Glance {
        Glance {
            udp: self.udp.glance(),
            wireguard: self.wireguard.glance(),
            key: fs::metadata(&self.key).ok().map(|file| (file.ino(), file.ctime(), file.ctime_nsec())),
        }
    }

    /// Takes a step that concerns them.
    pub(crate) fn apply(&mut self, step: &ForwarderStep) -> Result<(), HostError> {
        match step {
            ForwarderStep::Key => Ok(SecretKey::generate(&self.key).map(drop)?),
            ForwarderStep::Start(Which::Udp) => self.udp.start(),
            ForwarderStep::Start(Which::Wireguard) => self.wireguard.start(),
            ForwarderStep::Forward(told) => self.udp.tell(told),
            ForwarderStep::Encrypt(told) => self.wireguard.tell(told),
            ForwarderStep::End(Which::Udp) => self.udp.end(),
            ForwarderStep::End(Which::Wireguard) => self.wireguard.end(),
        }
    }
}

/// Our own key, by its file.
fn own_key(path: &Path) -> OwnKey {
    match SecretKey::read(path) {
        Ok(Some(key)) => OwnKey::There(key.public()),
        Ok(None) => OwnKey::Missing,
        Err(why) => OwnKey::Broken(chain(&why)),
    }
}
