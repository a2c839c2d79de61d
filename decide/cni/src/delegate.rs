//! Another IPAM plugin, as far as it needs no process: where to look for it, what to hand it, what its answer says
//! (specification, section 4).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::Value;

use crate::conf::Source;
use crate::error::{CniError, code};
use crate::result::AddResult;
use crate::version::Version;

/// The file name of a plugin: never a path, so that no configuration can point out of CNI_PATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginName(String);

/// The text is no file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no plugin name: it must be a file name without '/'")]
pub struct PluginNameError {
    /// The text as given.
    pub value: String,
}

/// A plugin to which IPAM is delegated. It gets our own environment with only CNI_COMMAND set anew, our own stdin,
/// and our own stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegate {
    plugin: PluginName,
    path: Vec<PathBuf>,
    stdin: Vec<u8>,
    version: Version,
}

/// How a delegated plugin's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// By our own hand, for it took too long.
    TimedOut,
}

impl PluginName {
    /// What configurations call this plugin's own IPAM.
    pub(crate) fn is_built_in(&self) -> bool {
        self.0 == "selvedge"
    }
}

impl FromStr for PluginName {
    type Err = PluginNameError;

    fn from_str(text: &str) -> Result<Self, PluginNameError> {
        if text.contains(['/', '\0']) || matches!(text, "" | "." | "..") {
            return Err(PluginNameError { value: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::TimedOut => f.write_str("took too long and was killed"),
        }
    }
}

impl Delegate {
    /// The plugin of a configuration whose version has been checked already.
    pub(crate) fn new(plugin: PluginName, source: &Source<'_>) -> Self {
        let version = Version::stated_in(source.conf).unwrap_or(Version::CURRENT);
        Self { plugin, path: source.path.to_vec(), stdin: source.stdin.to_vec(), version }
    }

    /// The plugin's name.
    pub fn plugin(&self) -> &PluginName {
        &self.plugin
    }

    /// Where it may be: the first of these that is a regular file is to be run.
    pub fn candidates(&self) -> Vec<PathBuf> {
        self.path.iter().map(|dir| dir.join(&self.plugin.0)).collect()
    }

    /// What it gets on stdin: our own, to the byte.
    pub fn stdin(&self) -> &[u8] {
        &self.stdin
    }

    /// The error if no candidate is a regular file.
    pub fn nowhere(&self) -> CniError {
        if self.path.is_empty() {
            return self.failed("can't be searched for: CNI_PATH is missing");
        }
        let dirs: Vec<_> = self.path.iter().map(|dir| dir.display().to_string()).collect();
        self.failed(&format!("is in no directory of CNI_PATH ({})", dirs.join(":")))
    }

    /// The error if it can't be started or its output can't be read.
    pub fn failed(&self, why: &str) -> CniError {
        CniError::new(code::DELEGATE, format!("IPAM plugin {} {why}", self.plugin))
    }

    /// What ADD answered: the result without interfaces, with at least one address. Its own error object is passed
    /// on unchanged.
    pub fn added(&self, exit: Exit, stdout: &[u8]) -> Result<AddResult, CniError> {
        self.done(exit, stdout)?;
        let answer: Value = match stdout.trim_ascii() {
            [] => Value::Null,
            text => serde_json::from_slice(text)
                .map_err(|why| self.failed(&format!("answered ADD with what is no JSON: {why}")))?,
        };
        if let Some(error) = CniError::parse(&answer) {
            return Err(error);
        }
        let result = AddResult::of_ipam(&answer, self.version)
            .map_err(|why| self.failed(&format!("answered ADD with what can't be used: {why}")))?;
        if result.ips.is_empty() {
            return Err(self.failed("answered ADD without an address"));
        }
        Ok(result)
    }

    /// Whether DEL, CHECK, GC or STATUS succeeded. Its own error object is passed on unchanged.
    pub fn done(&self, exit: Exit, stdout: &[u8]) -> Result<(), CniError> {
        if exit == Exit::Code(0) {
            return Ok(());
        }
        let error = serde_json::from_slice(stdout).ok().as_ref().and_then(CniError::parse);
        Err(error.unwrap_or_else(|| {
            let said = String::from_utf8_lossy(stdout).trim().chars().take(400).collect::<String>();
            self.failed(&format!("{exit} without an error object")).with_details(said)
        }))
    }
}

#[cfg(test)]
mod tests;
