//! What forwarders there are, and where they are found.

use std::fmt;
use std::path::{Path, PathBuf};

use selvedge_model::{Forwarding, Wireguard, mark};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The whole of what a forwarder is told, which says what kind of forwarder it is.
pub trait Task:
    Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The program's verb, and a part of the names of the forwarder's files.
    const NAME: &'static str;
    /// The device whose packets it forwards.
    const DEVICE: &'static str;
}

/// The udp transport.
impl Task for Forwarding {
    const NAME: &'static str = "udp";
    const DEVICE: &'static str = mark::UDP_DEVICE;
}

/// WireGuard in user space.
impl Task for Wireguard {
    const NAME: &'static str = "wireguard";
    const DEVICE: &'static str = mark::WIREGUARD_DEVICE;
}

/// A file of a forwarder in its run directory: its socket (`sock`), its lock (`lock`), or what it says where an agent
/// has started it (`log`).
pub fn file<T: Task>(run_dir: &Path, ending: &str) -> PathBuf {
    run_dir.join(format!("tunnel-{}.{ending}", T::NAME))
}
