//! Sysctls, as files below `/proc/sys`.

use std::path::PathBuf;

use selvedge_datapath::state::Sysctl;
use selvedge_netns::Namespace;

use crate::error::NetlinkError;

/// The sysctls of one network namespace.
#[derive(Debug)]
pub struct Sysctls {
    base: PathBuf,
    /// Where the files are opened; `None` for the calling thread's namespace.
    namespace: Option<Namespace>,
}

impl Sysctls {
    /// Those of the calling thread's namespace, below `/proc/sys`.
    pub fn current() -> Self {
        Self::at(PathBuf::from("/proc/sys"))
    }

    /// Those below another directory in place of `/proc/sys`: in a container `/proc/sys` is read-only, and the
    /// host's `/proc/sys/net` may be mounted as `DIRECTORY/net`.
    pub fn at(directory: PathBuf) -> Self {
        Self { base: directory, namespace: None }
    }

    /// Those of another namespace, below `/proc/sys`.
    pub fn within(namespace: Namespace) -> Self {
        Self { namespace: Some(namespace), ..Self::current() }
    }

    /// The value, without the newline at its end.
    ///
    /// # Errors
    /// [`NetlinkError::ReadSysctl`]; [`NetlinkError::is_gone`] if the device or the whole family is not there.
    pub fn read(&self, key: &Sysctl) -> Result<String, NetlinkError> {
        let path = self.base.join(key.path());
        let value = self.inside(|| std::fs::read_to_string(&path))?;
        let value = value.map_err(|source| NetlinkError::ReadSysctl { path, source })?;
        Ok(value.trim_end().to_owned())
    }

    /// Writes the value.
    ///
    /// # Errors
    /// [`NetlinkError::WriteSysctl`]; [`NetlinkError::is_gone`] if the device or the whole family is not there.
    pub fn write(&self, key: &Sysctl, value: &str) -> Result<(), NetlinkError> {
        let path = self.base.join(key.path());
        // The file must exist: below any other directory than /proc/sys, `fs::write` would make one.
        let write = || {
            let mut file = std::fs::OpenOptions::new().write(true).open(&path)?;
            std::io::Write::write_all(&mut file, value.as_bytes())
        };
        let written = self.inside(write)?;
        written.map_err(|source| NetlinkError::WriteSysctl { path, value: value.to_owned(), source })
    }

    /// Runs a function where the files mean the right namespace: the kernel goes by who opens them.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetlinkError> {
        match &self.namespace {
            Some(namespace) => Ok(namespace.run(work)?),
            None => Ok(work()),
        }
    }
}
