//! A container runtime, as far as the lab needs one: it executes network plugins as the CNI specification (1.1.0,
//! section 3 and 4) has a runtime do it.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ipnet::IpNet;
use selvedge_model::PodKey;
use selvedge_netns::{Namespace, NetnsError};
use serde_json::{Map, Value};

use crate::manifest::uid;

/// A network configuration list, as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Conflist {
    name: Value,
    version: Value,
    plugins: Vec<Map<String, Value>>,
}

/// A pod to attach: who it is, and where its plugins run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sandbox<'a> {
    /// The pod.
    pub pod: &'a PodKey,
    /// The path of its namespace.
    pub netns: &'a Path,
    /// The namespace of its node.
    pub node: &'a Namespace,
    /// Where the plugins are.
    pub plugins: &'a Path,
}

/// What a runtime remembers of an attachment: the last plugin's result.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    result: Value,
}

/// Why a pod could not be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// The conflist can't be read.
    #[error("read the network configuration {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The conflist is no JSON.
    #[error("the network configuration {path:?} is no JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where not.
        source: serde_json::Error,
    },
    /// The conflist lacks what a runtime needs.
    #[error("the network configuration {path:?} has no {what}")]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// The node's namespace could not be entered.
    #[error("execute a plugin for {pod}")]
    Namespace {
        /// The pod.
        pod: PodKey,
        /// Why.
        source: NetnsError,
    },
    /// The plugin could not be executed.
    #[error("execute {program:?} for {pod}")]
    Execute {
        /// The pod.
        pod: PodKey,
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The plugin reported an error, or none but failed.
    #[error("{verb} of {pod} by plugin {plugin}: {message}")]
    Plugin {
        /// The pod.
        pod: PodKey,
        /// CNI_COMMAND.
        verb: &'static str,
        /// The plugin's type.
        plugin: String,
        /// Its words.
        message: String,
    },
}

impl Conflist {
    /// Reads a conflist.
    pub(crate) fn read(path: &Path) -> Result<Self, CniError> {
        let path_of = || path.to_owned();
        let text = fs::read(path).map_err(|source| CniError::Read { path: path_of(), source })?;
        let list: Value =
            serde_json::from_slice(&text).map_err(|source| CniError::Json { path: path_of(), source })?;
        let lacks = |what| CniError::Incomplete { path: path_of(), what };
        let plugins = list.get("plugins").and_then(Value::as_array).ok_or_else(|| lacks("plugins"))?;
        Ok(Self {
            name: list.get("name").cloned().ok_or_else(|| lacks("name"))?,
            version: list.get("cniVersion").cloned().ok_or_else(|| lacks("cniVersion"))?,
            plugins: plugins.iter().filter_map(Value::as_object).cloned().collect(),
        })
    }

    /// Attaches a pod: ADD of every plugin in order, each given the result of the one before. After an error the
    /// plugins are told to delete, as a runtime does.
    pub(crate) fn add(&self, sandbox: Sandbox<'_>) -> Result<Attached, CniError> {
        let mut result = Value::Null;
        for plugin in &self.plugins {
            match self.execute(sandbox, ("ADD", plugin), &result) {
                Ok(output) => result = output,
                Err(error) => {
                    // The ADD's error is the one to report.
                    self.del(sandbox, &Attached { result }).ok();
                    return Err(error);
                }
            }
        }
        Ok(Attached { result })
    }

    /// Detaches a pod: DEL of every plugin in reverse order, all of them even after an error.
    pub(crate) fn del(&self, sandbox: Sandbox<'_>, attached: &Attached) -> Result<(), CniError> {
        let deleted =
            self.plugins.iter().rev().map(|p| self.execute(sandbox, ("DEL", p), &attached.result).map(drop));
        deleted.fold(Ok(()), Result::and)
    }

    /// Executes one plugin in the node's namespace; its result, `null` if it printed none.
    fn execute(
        &self,
        sandbox: Sandbox<'_>,
        (verb, plugin): (&'static str, &Map<String, Value>),
        previous: &Value,
    ) -> Result<Value, CniError> {
        let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        let mut config = plugin.clone();
        config.insert("name".to_owned(), self.name.clone());
        config.insert("cniVersion".to_owned(), self.version.clone());
        if !previous.is_null() {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        let program = sandbox.plugins.join(kind);
        let mut command = command(&program, verb, sandbox);
        let ran = sandbox.node.run(|| feed(&mut command, &Value::Object(config).to_string()));
        let pod = || sandbox.pod.clone();
        let output = ran
            .map_err(|source| CniError::Namespace { pod: pod(), source })?
            .map_err(|source| CniError::Execute { pod: pod(), program, source })?;
        read_output(&output).map_err(|message| CniError::Plugin {
            pod: pod(),
            verb,
            plugin: kind.to_owned(),
            message,
        })
    }
}

impl Attached {
    /// The pod's addresses, as the result states them.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.result.get("ips").and_then(Value::as_array);
        let address = |ip: &Value| Some(ip.get("address")?.as_str()?.parse::<IpNet>().ok()?.addr());
        ips.into_iter().flatten().filter_map(address).collect()
    }
}

fn command(program: &Path, verb: &str, sandbox: Sandbox<'_>) -> Command {
    let PodKey { namespace, name } = sandbox.pod;
    let container = format!("{namespace}_{name}");
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
         K8S_POD_INFRA_CONTAINER_ID={container};K8S_POD_UID={}",
        uid(sandbox.pod)
    );
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", sandbox.netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", sandbox.plugins)
        .env("CNI_ARGS", args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a program with a text as its input.
fn feed(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why by its output.
        stdin.write_all(input.as_bytes()).ok();
    }
    child.wait_with_output()
}

/// The plugin's result, or its error in words.
fn read_output(output: &Output) -> Result<Value, String> {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let printed: Result<Value, _> = serde_json::from_slice(&output.stdout);
    if output.status.success() {
        return match printed {
            Ok(result) => Ok(result),
            Err(_) if output.stdout.trim_ascii().is_empty() => Ok(Value::Null),
            Err(error) => Err(format!("its result is no JSON: {error}")),
        };
    }
    let field = |name: &str| printed.as_ref().ok()?.get(name)?.as_str().map(str::to_owned);
    let Some(message) = field("msg") else { return Err(format!("{}: {said}", output.status)) };
    let code = printed.as_ref().ok().and_then(|error| error.get("code")?.as_u64()).unwrap_or_default();
    let details = field("details").filter(|details| !details.is_empty());
    Err(format!("code {code}: {message}{}", details.map(|d| format!("; {d}")).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
