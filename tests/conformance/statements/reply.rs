//! What a plugin answered, read without trusting it.

use std::process::Output;

use serde_json::Value;

/// Why a statement is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unmet {
    /// What is different, in words that are the same in each run.
    Differs(String),
    /// Why the question makes no sense.
    NotApplicable(&'static str),
}

impl From<String> for Unmet {
    fn from(why: String) -> Self {
        Self::Differs(why)
    }
}

impl From<&str> for Unmet {
    fn from(why: &str) -> Self {
        Self::Differs(why.to_owned())
    }
}

/// What a call left.
#[derive(Debug)]
pub(crate) struct Reply {
    verb: &'static str,
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// An error object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u64,
    pub(crate) message: String,
    pub(crate) details: String,
}

impl Reply {
    pub(crate) fn new(verb: &'static str, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { verb, code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// What is on stdout, if that is one document.
    pub(crate) fn document(&self) -> Option<Value> {
        serde_json::from_str(&self.stdout).ok()
    }

    /// The document of a call that must have succeeded with one.
    pub(crate) fn result(&self) -> Result<Value, Unmet> {
        self.done()?;
        self.document().ok_or_else(|| format!("{} prints no result", self.verb).into())
    }

    /// A call that must have succeeded.
    pub(crate) fn done(&self) -> Result<(), Unmet> {
        if self.succeeded() {
            return Ok(());
        }
        let code = self.document().and_then(|document| document["code"].as_u64());
        Err(match (self.code, code) {
            (None, _) => format!("{} is ended by a signal", self.verb).into(),
            (_, None) => format!("{} fails without an error object", self.verb).into(),
            (_, Some(code)) => format!("{} fails with code {code}", self.verb).into(),
        })
    }

    /// The error object of a call that must have failed.
    pub(crate) fn refused(&self) -> Result<Refusal, Unmet> {
        if self.succeeded() {
            return Err(format!("{} succeeds", self.verb).into());
        }
        let object = self.document();
        let text = |key: &str| object.as_ref().and_then(|object| object[key].as_str()).map(str::to_owned);
        let code = object.as_ref().and_then(|object| object["code"].as_u64());
        match (code, text("msg")) {
            (Some(code), Some(message)) => {
                Ok(Refusal { code, message, details: text("details").unwrap_or_default() })
            }
            _ => Err(format!("{} fails without an error object", self.verb).into()),
        }
    }

    /// The error object of a call that must have failed with one of these codes.
    pub(crate) fn refused_with(&self, codes: &[u64]) -> Result<Refusal, Unmet> {
        let refusal = self.refused()?;
        if codes.contains(&refusal.code) {
            return Ok(refusal);
        }
        Err(format!("{} fails with code {}", self.verb, refusal.code).into())
    }

    /// The error object of a call that must have failed with a code of the plugin's own.
    pub(crate) fn refused_by_itself(&self) -> Result<Refusal, Unmet> {
        let refusal = self.refused()?;
        if refusal.code >= 100 {
            return Ok(refusal);
        }
        Err(format!("{} fails with code {}", self.verb, refusal.code).into())
    }
}

/// What a statement says of a result.
pub(crate) trait ResultText {
    /// The text at a path, or nothing.
    fn text(&self, pointer: &str) -> &str;

    /// The list at a path, or none.
    fn list(&self, pointer: &str) -> &[Value];

    /// The addresses without their prefix lengths.
    fn addresses(&self) -> Vec<&str>;

    /// The first interface in a sandbox.
    fn inside(&self) -> &Value;

    /// The name of the host's end: the last interface without a sandbox.
    fn host_end(&self) -> Result<&str, Unmet>;
}

impl ResultText for Value {
    fn text(&self, pointer: &str) -> &str {
        self.pointer(pointer).and_then(Self::as_str).unwrap_or_default()
    }

    fn list(&self, pointer: &str) -> &[Value] {
        self.pointer(pointer).and_then(Self::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn addresses(&self) -> Vec<&str> {
        let nets = self.list("/ips").iter().map(|ip| ip.text("/address"));
        nets.map(|net| net.split('/').next().unwrap_or_default()).collect()
    }

    fn inside(&self) -> &Value {
        let inside = self.list("/interfaces").iter().find(|interface| !interface.text("/sandbox").is_empty());
        inside.unwrap_or(&Self::Null)
    }

    fn host_end(&self) -> Result<&str, Unmet> {
        let host = self.list("/interfaces").iter().rfind(|interface| interface.text("/sandbox").is_empty());
        host.map(|host| host.text("/name"))
            .ok_or_else(|| "the result names no interface of the host's".into())
    }
}
