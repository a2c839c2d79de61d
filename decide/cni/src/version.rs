//! Versions of the protocol, and which verbs each allows.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::env::Command;
use crate::error::{CniError, code};
use crate::json;

/// A version of the protocol that we speak. Later versions are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.1.0
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0
    V1_1_0,
}

/// How a version writes results. Versions of one shape differ in fields only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `ip4` and `ip6`, one address each: 0.1.0 and 0.2.0.
    PerFamily,
    /// `interfaces`, and `ips` that name their family: 0.3.0 to 0.4.0.
    Versioned,
    /// `interfaces` and `ips`: from 1.0.0.
    Plain,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest version.
    pub const CURRENT: Self = Self::V1_1_0;

    /// The version as configurations write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that the answer to these bytes of stdin is written in, errors included: the configuration's own
    /// where that can be made out, else the newest.
    pub fn of_answer(stdin: &[u8]) -> Self {
        let configuration = serde_json::from_slice::<Value>(stdin).ok();
        let stated = configuration.as_ref().and_then(json::Object::root).map(|conf| Self::stated_in(&conf));
        stated.and_then(Result::ok).unwrap_or(Self::CURRENT)
    }

    /// Fails with code 1 where configurations of this version don't know the verb.
    pub fn allows(self, command: Command) -> Result<(), CniError> {
        let since = match command {
            Command::Check => Self::V0_4_0,
            Command::Gc | Command::Status => Self::V1_1_0,
            Command::Add | Command::Del | Command::Version => Self::V0_1_0,
        };
        if self >= since {
            return Ok(());
        }
        let message = format!("config version does not allow {command}: cniVersion {self}, needs {since}");
        Err(CniError::new(code::VERSION, message))
    }

    /// The `cniVersion` of a configuration or a result; absent or empty means 0.1.0.
    pub(crate) fn stated_in(object: &json::Object<'_>) -> Result<Self, CniError> {
        Ok(Self::maybe_stated_in(object)?.unwrap_or(Self::V0_1_0))
    }

    /// As [`Self::stated_in`], where absence means something else.
    pub(crate) fn maybe_stated_in(object: &json::Object<'_>) -> Result<Option<Self>, CniError> {
        object.text("cniVersion")?.map(str::parse).transpose()
    }

    pub(crate) fn shape(self) -> Shape {
        match self {
            Self::V0_1_0 | Self::V0_2_0 => Shape::PerFamily,
            Self::V0_3_0 | Self::V0_3_1 | Self::V0_4_0 => Shape::Versioned,
            Self::V1_0_0 | Self::V1_1_0 => Shape::Plain,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = CniError;

    /// Fails with code 1, the supported versions as details.
    fn from_str(text: &str) -> Result<Self, CniError> {
        Self::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| {
            CniError::new(code::VERSION, format!("cniVersion {text:?} is not supported"))
                .with_details(format!("supported versions: {}", supported()))
        })
    }
}

/// The answer to VERSION.
pub fn reply(version: Version) -> Value {
    json!({
        "cniVersion": version.as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}

/// What a person who runs the plugin by hand, without CNI_COMMAND, is told.
pub fn about() -> String {
    format!(
        "selvedge: a CNI plugin, to be run by a container runtime\nCNI protocol versions supported: {}",
        supported()
    )
}

fn supported() -> String {
    Version::ALL.map(Version::as_str).join(", ")
}

#[cfg(test)]
mod tests;
