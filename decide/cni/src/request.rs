//! A request: the environment and stdin, read together in the order in which the reference implementation checks
//! them.

use selvedge_model::AttachmentKey;

use crate::args::CniArgs;
use crate::conf::{Document, NetConf, RemovalConf, Source, network_name};
use crate::env::{Command, Environment, command, missing_variables};
use crate::error::{CniError, code};
use crate::gc::ValidAttachments;
use crate::json::Object;
use crate::result::PrevResult;
use crate::version::Version;

/// The most that is read from stdin, in bytes. A caller reads one byte more, to see that there is more.
pub const MAX_STDIN: usize = 4 << 20;

/// What a runtime asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Attach a container.
    Add(Box<Add>),
    /// Detach it.
    Del(Box<Del>),
    /// Say whether the attachment is still as it was made.
    Check(Box<Check>),
    /// Remove what belongs to no valid attachment.
    Gc(Box<Gc>),
    /// Say whether an ADD could be served.
    Status(Box<Status>),
    /// Say which versions are spoken, in an answer of this version ([`crate::version::reply`]).
    Version(Version),
}

/// Attach a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// Which container, by which interface.
    pub attachment: AttachmentKey,
    /// The container's namespace.
    pub netns: Netns,
    /// CNI_ARGS
    pub args: CniArgs,
    /// The configuration.
    pub conf: NetConf,
    /// What the plugins before ours made. It has no interface of ours in any namespace; the answer is
    /// [`PrevResult::extended`] with what we make.
    pub prev_result: Option<PrevResult>,
}

/// Detach a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Del {
    /// Which container, by which interface.
    pub attachment: AttachmentKey,
    /// CNI_NETNS, which may be missing, gone, or no longer the container's.
    pub netns: Option<String>,
    /// The configuration.
    pub conf: RemovalConf,
}

/// Say whether an attachment is still as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which container, by which interface.
    pub attachment: AttachmentKey,
    /// The container's namespace.
    pub netns: Netns,
    /// CNI_ARGS
    pub args: CniArgs,
    /// The configuration.
    pub conf: NetConf,
    /// What the whole chain made.
    pub prev_result: PrevResult,
}

/// Remove what belongs to no valid attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gc {
    /// The configuration.
    pub conf: RemovalConf,
    /// What must stay.
    pub valid: ValidAttachments,
}

/// Say whether an ADD could be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The configuration.
    pub conf: NetConf,
}

/// The container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    /// CNI_NETNS exactly as given, which the result's `sandbox` repeats.
    pub path: String,
    /// CNI_NETNS_OVERRIDE: it may be the plugin's own namespace.
    pub may_be_ours: bool,
}

impl Request {
    /// Reads a request. VERSION is the only verb that does without stdin.
    ///
    /// Checks in this order, with these codes: verb and required variables (4), stdin (5, 6), the network's name (7),
    /// the attachment's (4), the version (1), then everything else.
    pub fn parse(environment: &Environment, stdin: &[u8]) -> Result<Self, CniError> {
        let command = command(environment)?.ok_or_else(|| missing_variables(&["CNI_COMMAND"]))?;
        if command == Command::Version {
            return Ok(Self::Version(Version::of_answer(stdin)));
        }
        environment.require(command)?;
        if stdin.len() > MAX_STDIN {
            let message = format!("network configuration on stdin: is longer than {MAX_STDIN} bytes");
            return Err(CniError::new(code::IO, message));
        }
        let document = Document::read(stdin)?;
        let conf = document.object()?;
        network_name(&conf)?;
        let call =
            Call { command, environment, source: &Source { conf: &conf, stdin, path: &environment.path() } };
        call.read()
    }
}

/// A request whose parts are at hand but not yet read.
struct Call<'a> {
    command: Command,
    environment: &'a Environment,
    source: &'a Source<'a>,
}

impl Call<'_> {
    fn read(&self) -> Result<Request, CniError> {
        match self.command {
            Command::Add => self.add().map(|add| Request::Add(Box::new(add))),
            Command::Del => self.del().map(|del| Request::Del(Box::new(del))),
            Command::Check => self.check().map(|check| Request::Check(Box::new(check))),
            Command::Gc => self.gc().map(|gc| Request::Gc(Box::new(gc))),
            Command::Status => self.status().map(|status| Request::Status(Box::new(status))),
            Command::Version => Ok(Request::Version(Version::of_answer(self.source.stdin))),
        }
    }

    fn add(&self) -> Result<Add, CniError> {
        let attachment = self.environment.attachment()?;
        // DEL takes such a name: what a runtime has once asked for, it must be able to take back.
        let refused = |why| CniError::new(code::ENVIRONMENT, format!("CNI_IFNAME: {why}"));
        attachment.ifname.can_be_made().map_err(refused)?;
        let version = self.version()?;
        let conf = NetConf::read(self.source)?;
        let prev_result = self.prev_result(version)?;
        if let Some(prev) = &prev_result {
            refuse_second_interface(prev, &attachment)?;
        }
        let args = CniArgs::parse(self.environment.args()?)?;
        Ok(Add { attachment, netns: self.netns()?, args, conf, prev_result })
    }

    fn del(&self) -> Result<Del, CniError> {
        let attachment = self.environment.attachment()?;
        let conf = RemovalConf::read(self.source)?;
        Ok(Del { attachment, netns: self.environment.netns().ok().flatten(), conf })
    }

    fn check(&self) -> Result<Check, CniError> {
        let attachment = self.environment.attachment()?;
        let version = self.version()?;
        let conf = NetConf::read(self.source)?;
        let missing = || CniError::new(code::CONFIG, "prevResult is missing, and CHECK needs it");
        let prev_result = self.prev_result(version)?.ok_or_else(missing)?;
        let args = CniArgs::parse(self.environment.args()?)?;
        Ok(Check { attachment, netns: self.netns()?, args, conf, prev_result })
    }

    fn gc(&self) -> Result<Gc, CniError> {
        self.version()?;
        Ok(Gc { conf: RemovalConf::read(self.source)?, valid: ValidAttachments::stated_in(self.conf())? })
    }

    fn status(&self) -> Result<Status, CniError> {
        self.version()?;
        Ok(Status { conf: NetConf::read(self.source)? })
    }

    fn conf(&self) -> &Object<'_> {
        self.source.conf
    }

    fn version(&self) -> Result<Version, CniError> {
        let version = Version::stated_in(self.conf())?;
        version.allows(self.command)?;
        Ok(version)
    }

    fn netns(&self) -> Result<Netns, CniError> {
        let path = self.environment.netns()?.ok_or_else(|| missing_variables(&["CNI_NETNS"]))?;
        Ok(Netns { path, may_be_ours: self.environment.netns_override() })
    }

    fn prev_result(&self, version: Version) -> Result<Option<PrevResult>, CniError> {
        let field = self.conf().get("prevResult");
        field.map(|field| PrevResult::read(&field, version)).transpose()
    }
}

/// We make the interface ourselves, so a chain in which another plugin made it already can't be served; after plugins
/// that made something else, we add to what they did.
fn refuse_second_interface(prev: &PrevResult, attachment: &AttachmentKey) -> Result<(), CniError> {
    let same = |name: &str| name == attachment.ifname.as_str();
    if !prev.result().interfaces.iter().any(|i| i.sandbox.is_some() && same(&i.name)) {
        return Ok(());
    }
    let message = format!(
        "prevResult: an earlier plugin of the chain made {} already; selvedge makes it itself, so put selvedge first",
        attachment.ifname
    );
    Err(CniError::new(code::CONFIG, message))
}

#[cfg(test)]
mod tests;
