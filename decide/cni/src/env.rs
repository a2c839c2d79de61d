//! The environment that a runtime calls us with, and the verb in it (specification, section 2, "Parameters").

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use selvedge_model::{AttachmentKey, Gather, NameError};

use crate::error::{CniError, code};

/// The variable that names the trace.
const TRACE: &str = "TRACEPARENT";

/// The variables whose names begin with `CNI_`, and `TRACEPARENT`. An empty variable counts as missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment(BTreeMap<String, OsString>);

/// A verb of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Say whether the attachment is still as it was made.
    Check,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Say whether an ADD could be served.
    Status,
    /// Say which versions are spoken.
    Version,
}

/// The verb that is asked for; none if CNI_COMMAND is missing, which is a person's call, to be answered with
/// [`crate::version::about`]. Fails with code 4 on an unknown verb.
pub fn command(environment: &Environment) -> Result<Option<Command>, CniError> {
    environment.text("CNI_COMMAND")?.map(str::parse).transpose()
}

impl Command {
    /// The verb as CNI_COMMAND names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The variables that the verb can't do without.
    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Self::Gc => &["CNI_PATH"],
            Self::Status | Self::Version => &[],
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Command {
    type Err = CniError;

    /// Fails with code 4; the verbs are written in capitals.
    fn from_str(text: &str) -> Result<Self, CniError> {
        let all = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];
        let unknown = || CniError::new(code::ENVIRONMENT, format!("unknown CNI_COMMAND: {text}"));
        all.into_iter().find(|c| c.as_str() == text).ok_or_else(unknown)
    }
}

impl Environment {
    /// Keeps of a whole environment what matters.
    pub fn new<K, V>(variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let ours =
            |name: K| name.into().into_string().ok().filter(|name| name.starts_with("CNI_") || name == TRACE);
        let variables = variables.into_iter().filter_map(|(name, value)| Some((ours(name)?, value.into())));
        let mut variables: BTreeMap<String, OsString> = variables.gather();
        variables.retain(|_, value| !value.is_empty());
        Self(variables)
    }

    /// Fails with code 4 and names every variable that the verb needs and that is missing.
    pub(crate) fn require(&self, command: Command) -> Result<(), CniError> {
        let missing: Vec<_> =
            command.required().iter().copied().filter(|v| !self.0.contains_key(*v)).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing_variables(&missing)) }
    }

    /// The attachment that CNI_CONTAINERID and CNI_IFNAME name.
    pub(crate) fn attachment(&self) -> Result<AttachmentKey, CniError> {
        Ok(AttachmentKey { container: self.name("CNI_CONTAINERID")?, ifname: self.name("CNI_IFNAME")? })
    }

    /// CNI_NETNS as given.
    pub(crate) fn netns(&self) -> Result<Option<String>, CniError> {
        Ok(self.text("CNI_NETNS")?.map(str::to_owned))
    }

    /// True if CNI_NETNS_OVERRIDE allows the plugin's own namespace to be the container's.
    pub(crate) fn netns_override(&self) -> bool {
        matches!(self.0.get("CNI_NETNS_OVERRIDE").and_then(|v| v.to_str()), Some(v) if v == "1" || v.eq_ignore_ascii_case("true"))
    }

    /// CNI_ARGS as given, empty if missing.
    pub(crate) fn args(&self) -> Result<&str, CniError> {
        Ok(self.text("CNI_ARGS")?.unwrap_or_default())
    }

    /// The directories of CNI_PATH, in order. Empty ones, which would mean the working directory, are left out.
    pub fn path(&self) -> Vec<PathBuf> {
        let dirs = self.0.get("CNI_PATH").map(std::env::split_paths);
        dirs.into_iter().flatten().filter(|dir| !dir.as_os_str().is_empty()).collect()
    }

    /// The trace that the call is part of, if its caller says so as is agreed (W3C Trace Context, section 3.2.2; in the
    /// environment, OpenTelemetry's specification of context propagation).
    pub fn trace_parent(&self) -> Option<&str> {
        let value = self.value(TRACE)?;
        let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = value.splitn(5, '-');
        let mut part = |length| parts.next().filter(|part: &&str| part.len() == length && is_hex(part));
        let (version, [trace, parent, _flags]) = (part(2)?, [part(32)?, part(16)?, part(2)?]);
        let says = |id: &str| id.bytes().any(|b| b != b'0');
        // Later versions may have more behind these.
        let ends = version != "00" || parts.next().is_none();
        (version != "ff" && says(trace) && says(parent) && ends).then_some(value)
    }

    /// A variable as it is, for the log; none if it is missing or no UTF-8.
    pub fn value(&self, variable: &str) -> Option<&str> {
        self.0.get(variable)?.to_str()
    }

    fn text(&self, variable: &str) -> Result<Option<&str>, CniError> {
        let Some(value) = self.0.get(variable) else { return Ok(None) };
        let garbled = || CniError::new(code::ENVIRONMENT, format!("{variable} {value:?} is no UTF-8"));
        value.to_str().map(Some).ok_or_else(garbled)
    }

    fn name<T: FromStr<Err = NameError>>(&self, variable: &str) -> Result<T, CniError> {
        let text = self.text(variable)?.ok_or_else(|| missing_variables(&[variable]))?;
        text.parse().map_err(|why| CniError::new(code::ENVIRONMENT, format!("{variable}: {why}")))
    }
}

/// Code 4, in the words of the reference implementation.
pub(crate) fn missing_variables(names: &[&str]) -> CniError {
    CniError::new(code::ENVIRONMENT, format!("required env variables [{}] missing", names.join(",")))
}

#[cfg(test)]
mod tests;
