//! The error object and its codes (specification, section 5, "Error").

use std::error::Error;

use serde_json::{Map, Value};

use crate::json;
use crate::version::Version;

/// What an error's code says.
pub mod code {
    /// The configuration's cniVersion is not supported, or doesn't allow the verb.
    pub const VERSION: u32 = 1;
    /// A field of the configuration has a value that is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or doesn't exist.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A variable of the environment is missing or malformed.
    pub const ENVIRONMENT: u32 = 4;
    /// Reading the configuration or writing the answer failed.
    pub const IO: u32 = 5;
    /// The configuration is no JSON object.
    pub const DECODE: u32 = 6;
    /// The configuration is malformed or contradicts itself.
    pub const CONFIG: u32 = 7;
    /// The namespace is unusable: it can't be opened, or is the plugin's own.
    pub const NETNS: u32 = 8;
    /// A passing condition: the same request may succeed later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: an ADD could not be served now.
    pub const UNAVAILABLE: u32 = 50;
    /// STATUS: as [`UNAVAILABLE`], and containers already attached may be cut off.
    pub const UNAVAILABLE_DEGRADED: u32 = 51;
    /// The attachment, or an interface of its name, exists already.
    pub const ALREADY_ATTACHED: u32 = 100;
    /// No address is free, or a requested one can't be had.
    pub const NO_ADDRESS: u32 = 101;
    /// The kernel refused an operation.
    pub const KERNEL: u32 = 102;
    /// A delegated plugin can't be run, or answered with what is neither a result nor an error object.
    pub const DELEGATE: u32 = 103;
    /// CHECK: what is there is not what ADD made.
    pub const DRIFTED: u32 = 104;
    /// A host port is published for another attachment.
    pub const PORT_TAKEN: u32 = 105;
    /// A defect of the plugin itself.
    pub const INTERNAL: u32 = 999;
}

/// An error as the protocol carries it. Prints as its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CniError {
    code: u32,
    message: String,
    details: String,
}

impl CniError {
    /// An error of one of the codes in [`code`]; line breaks and other control characters in the message become
    /// spaces, and what else shows nothing of itself, such as what turns the direction of writing, is escaped.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.contains(char::is_control) {
            message = message.replace(char::is_control, " ");
        }
        if !message.is_ascii() {
            let shown =
                |c: char| if c.escape_debug().len() > 2 { c.escape_debug().to_string() } else { c.into() };
            message = message.chars().map(shown).collect();
        }
        Self { code, message, details: String::new() }
    }

    /// The error with its cause chain as message, each cause once, joined by `: `.
    pub fn from_chain(code: u32, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(code, message)
    }

    /// The same with further details, which may have several lines.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The same with what was being done put before the message.
    #[must_use]
    pub fn context(self, operation: &str) -> Self {
        Self::new(self.code, format!("{operation}: {}", self.message)).with_details(self.details)
    }

    /// The same without the phrases by which containerd's go-cni takes a failed DEL for a successful one and forgets
    /// the attachment for good. Every error that DEL reports goes through this.
    #[must_use]
    pub fn for_del(mut self) -> Self {
        for text in [&mut self.message, &mut self.details] {
            *text = replace_folded(text, "no such file or directory", "absent");
            *text = replace_folded(text, "not found", "missing");
        }
        self
    }

    /// One of [`code`], or whatever a delegated plugin gave.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The message: one line, unless a delegated plugin wrote it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Further details, often empty.
    pub fn details(&self) -> &str {
        &self.details
    }

    /// The error object.
    pub fn to_json(&self, version: Version) -> Value {
        let mut object = Map::new();
        object.insert("cniVersion".into(), version.as_str().into());
        object.insert("code".into(), self.code.into());
        object.insert("msg".into(), self.message.as_str().into());
        if !self.details.is_empty() {
            object.insert("details".into(), self.details.as_str().into());
        }
        object.into()
    }

    /// Reads another plugin's error object, text unchanged; none if the value is no error object.
    pub fn parse(value: &Value) -> Option<Self> {
        let object = json::Object::root(value)?;
        let code = object.whole("code").ok().flatten()?;
        let text = |key| object.text(key).ok().flatten().unwrap_or_default().to_owned();
        let (message, details) = (text("msg"), text("details"));
        let code = u32::try_from(code).ok()?;
        if code == 0 && message.is_empty() {
            return None;
        }
        Some(Self { code, message, details })
    }
}

/// `text` with each occurrence of `pattern` (lower-case ASCII), in any case, replaced.
fn replace_folded(text: &str, pattern: &str, replacement: &str) -> String {
    let folded = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (start, found) in folded.match_indices(pattern) {
        out.push_str(&text[end..start]);
        out.push_str(replacement);
        end = start + found.len();
    }
    out.push_str(&text[end..]);
    out
}

#[cfg(test)]
mod tests;
