//! As much of a configuration as removing needs.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use selvedge_model::NetworkName;

use super::{Attach, RUN_DIR, Source, ipam_plugin, network_name, networks, run_dir};
use crate::delegate::Delegate;
use crate::error::CniError;
use crate::version::Version;

/// The configuration as DEL and GC need it. Only its name and its version must be readable: whatever else is broken
/// counts as absent and is told in `doubts`, so that a mistake made after ADD leaks nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalConf {
    /// `cniVersion`; errors are written in it.
    pub version: Version,
    /// `name`
    pub name: NetworkName,
    /// `attach` and `bridge`, as they are now and perhaps not when the container was added.
    pub attach: Option<Attach>,
    /// `network`
    pub network: Vec<IpNet>,
    /// The IPAM plugin, if it is another. Its path may be empty; then [`Delegate::nowhere`] says so once all else is
    /// removed.
    pub delegate: Option<Delegate>,
    /// `runDir`
    pub run_dir: PathBuf,
    /// `agent`: its socket.
    pub agent: Option<PathBuf>,
    /// `logFile`
    pub log_file: Option<PathBuf>,
    /// What was broken, for the log.
    pub doubts: Vec<CniError>,
}

impl RemovalConf {
    pub(crate) fn read(source: &Source<'_>) -> Result<Self, CniError> {
        let conf = source.conf;
        let name = network_name(conf)?;
        let version = Version::stated_in(conf)?;
        let mut doubts = Doubts(Vec::new());
        Ok(Self {
            version,
            name,
            attach: doubts.keep(Attach::stated_in(conf).map(Some)),
            network: doubts.keep(networks(conf)),
            delegate: doubts.keep(ipam_plugin(conf)).map(|plugin| Delegate::new(plugin, source)),
            run_dir: doubts.keep(run_dir(conf).map(Some)).unwrap_or_else(|| Path::new(RUN_DIR).to_owned()),
            agent: doubts.keep(conf.path("agent")),
            log_file: doubts.keep(conf.path("logFile")),
            doubts: doubts.0,
        })
    }
}

struct Doubts(Vec<CniError>);

impl Doubts {
    fn keep<T: Default>(&mut self, read: Result<T, CniError>) -> T {
        read.unwrap_or_else(|doubt| {
            self.0.push(doubt);
            T::default()
        })
    }
}
