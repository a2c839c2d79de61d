//! The network configuration (specification, section 1, and this plugin's own keys).

mod bandwidth;
mod pools;
mod ports;
mod removal;
mod runtime;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use selvedge_model::names::{HOST_VETH_PREFIX, SHAPER_PREFIX};
use selvedge_model::{Bandwidth, IfName, Mtu, NameError, NetworkName};
use serde_json::Value;

use crate::args::{CniArgs, Requested};
use crate::delegate::{Delegate, PluginName};
use crate::dns::Dns;
use crate::env::missing_variables;
use crate::error::{CniError, code};
use crate::json::{Field, Object};
use crate::version::Version;

pub use pools::{Pools, Range, RangeSet};
pub(crate) use pools::{pod_address, refuse_attributes};
pub use removal::RemovalConf;
pub use runtime::RuntimeConfig;

/// Where our state lives unless the configuration says otherwise.
const RUN_DIR: &str = "/run/selvedge";

/// The bridge unless the configuration names another.
const BRIDGE: &str = "cni0";

/// The configuration as ADD, CHECK and STATUS need it: whole and valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConf {
    /// `cniVersion`; the answer is written in it.
    pub version: Version,
    /// `name`
    pub name: NetworkName,
    /// `attach` and `bridge`
    pub attach: Attach,
    /// `network`: the whole pod network, towards which nothing is masqueraded. May be empty.
    pub network: Vec<IpNet>,
    /// `ipam`, `subnet` and the runtime's ipRanges.
    pub ipam: Ipam,
    /// `mtu`; 0 counts as absent.
    pub mtu: Option<Mtu>,
    /// `ipMasq`: whether the plugin masquerades. Unless stated, it does exactly if there is no agent to do so.
    pub ip_masq: bool,
    /// `runDir`
    pub run_dir: PathBuf,
    /// `agent`: its socket; none means that the plugin works alone.
    pub agent: Option<PathBuf>,
    /// `whenAgentDown`: true for `open`, where a pod doesn't wait until the agent has its policy in force; `closed` unless
    /// stated.
    pub without_agent: bool,
    /// `nodeAddresses`: the node's own addresses, the source towards the pods.
    pub node_addresses: Vec<IpAddr>,
    /// `logFile`
    pub log_file: Option<PathBuf>,
    /// `dns`
    pub dns: Dns,
    /// `args.cni`
    pub args: Requested,
    /// `runtimeConfig`
    pub runtime: RuntimeConfig,
    /// `ingressRate` and its like, and the runtime's `bandwidth` for a direction that the configuration doesn't limit.
    pub bandwidth: Bandwidth,
}

/// How a pod is attached to its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// By a veth to which its addresses are routed.
    Routed,
    /// By a veth whose host end is a port of this bridge.
    Bridge {
        /// The bridge's name.
        bridge: IfName,
    },
}

/// Who allocates the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipam {
    /// This plugin, out of these pools.
    BuiltIn(Pools),
    /// Another plugin.
    Delegated(Delegate),
}

impl NetConf {
    /// Reads the configuration as a runtime hands it over; `path` is what CNI_PATH holds.
    ///
    /// Fails with code 6 if it is no JSON object, 1 on its version, 2 on a value that is not supported, 4 if another
    /// IPAM plugin is named without a path to search, and 7 on everything else.
    pub fn parse(stdin: &[u8], path: &[PathBuf]) -> Result<Self, CniError> {
        let document = Document::read(stdin)?;
        Self::read(&Source { conf: &document.object()?, stdin, path })
    }

    /// What is asked for this attachment. For addresses, runtimeConfig and args.cni together take the place of
    /// CNI_ARGS; for the MAC, the first of the three that names one counts.
    pub fn requested(&self, args: &CniArgs) -> Requested {
        let mut requested = Requested::default();
        for ip in self.runtime.requested.ips.iter().chain(&self.args.ips) {
            requested.add(*ip);
        }
        if requested.ips.is_empty() {
            requested.ips.clone_from(&args.requested.ips);
        }
        requested.mac = self.runtime.requested.mac.or(self.args.mac).or(args.requested.mac);
        requested
    }

    /// The result's `dns`: the runtime's, else the configuration's, else what the IPAM plugin said.
    pub fn result_dns(&self, ipam: Dns) -> Dns {
        [&self.runtime.dns, &self.dns].into_iter().find(|dns| !dns.is_empty()).cloned().unwrap_or(ipam)
    }

    pub(crate) fn read(source: &Source<'_>) -> Result<Self, CniError> {
        let conf = source.conf;
        let name = network_name(conf)?;
        let version = Version::stated_in(conf)?;
        if let Some(plugin) = conf.get("type") {
            plugin.parsed::<PluginName>()?;
        }
        let runtime = RuntimeConfig::stated_in(conf, &name)?;
        let agent = conf.path("agent")?;
        let limits = bandwidth::limits(conf)?;
        Ok(Self {
            version,
            name,
            attach: Attach::stated_in(conf)?,
            network: networks(conf)?,
            ipam: ipam(source, &runtime.ip_ranges)?,
            mtu: mtu(conf)?,
            ip_masq: conf.flag("ipMasq")?.unwrap_or_else(|| agent.is_none()),
            run_dir: run_dir(conf)?,
            agent,
            without_agent: without_agent(conf)?,
            node_addresses: conf
                .one_or_more("nodeAddresses")?
                .iter()
                .map(Field::ip)
                .collect::<Result<_, _>>()?,
            log_file: conf.path("logFile")?,
            dns: Dns::stated_in(conf)?,
            args: requested_by_args(conf)?,
            bandwidth: Bandwidth {
                ingress: limits.ingress.or(runtime.bandwidth.ingress),
                egress: limits.egress.or(runtime.bandwidth.egress),
            },
            runtime,
        })
    }
}

impl Attach {
    /// Absent means a bridge, as in configurations written for the bridge plugin.
    fn stated_in(conf: &Object<'_>) -> Result<Self, CniError> {
        let refused = |why: NameError| CniError::new(code::CONFIG, format!("bridge: {why}"));
        match conf.text("attach")? {
            Some("routed") => Ok(Self::Routed),
            None | Some("bridge") => {
                let bridge: IfName = conf.text("bridge")?.unwrap_or(BRIDGE).parse().map_err(refused)?;
                bridge.can_be_made().map_err(refused)?;
                let ours = |prefix: &&str| bridge.as_str().starts_with(prefix);
                if let Some(prefix) = [HOST_VETH_PREFIX, SHAPER_PREFIX].into_iter().find(ours) {
                    let why = format_args!("begins with {prefix}, as the pods' devices do");
                    return Err(conf.need("bridge")?.wrong(why));
                }
                Ok(Self::Bridge { bridge })
            }
            Some(_) => Err(conf.need("attach")?.unsupported("is neither \"routed\" nor \"bridge\"")),
        }
    }
}

/// The bytes of stdin, read as JSON.
pub(crate) struct Document(Value);

/// A configuration with what a delegated plugin needs beside it.
pub(crate) struct Source<'a> {
    /// The configuration.
    pub(crate) conf: &'a Object<'a>,
    /// The bytes that it was read from.
    pub(crate) stdin: &'a [u8],
    /// The directories of CNI_PATH.
    pub(crate) path: &'a [PathBuf],
}

impl Document {
    /// Fails with code 6 on broken JSON.
    pub(crate) fn read(stdin: &[u8]) -> Result<Self, CniError> {
        let broken = |why| CniError::new(code::DECODE, format!("network configuration on stdin: {why}"));
        serde_json::from_slice(stdin).map(Self).map_err(broken)
    }

    /// Fails with code 6 on JSON that is no object.
    pub(crate) fn object(&self) -> Result<Object<'_>, CniError> {
        let message = "network configuration on stdin: is no JSON object";
        Object::root(&self.0).ok_or_else(|| CniError::new(code::DECODE, message))
    }
}

/// `name`, which nothing works without.
pub(crate) fn network_name(conf: &Object<'_>) -> Result<NetworkName, CniError> {
    conf.need("name")?.parsed()
}

/// The plugin that `ipam.type` names; none means ours.
fn ipam_plugin(conf: &Object<'_>) -> Result<Option<PluginName>, CniError> {
    let Some(ipam) = conf.object("ipam")? else { return Ok(None) };
    Ok(ipam.parsed::<PluginName>("type")?.filter(|plugin| !plugin.is_built_in()))
}

fn ipam(source: &Source<'_>, runtime_ranges: &[RangeSet]) -> Result<Ipam, CniError> {
    match ipam_plugin(source.conf)? {
        None => Ok(Ipam::BuiltIn(Pools::stated_in(source.conf, runtime_ranges)?)),
        Some(_) if source.path.is_empty() => Err(missing_variables(&["CNI_PATH"])),
        Some(plugin) => Ok(Ipam::Delegated(Delegate::new(plugin, source))),
    }
}

fn networks(conf: &Object<'_>) -> Result<Vec<IpNet>, CniError> {
    conf.one_or_more("network")?.iter().map(pools::part_of_the_world).collect()
}

fn mtu(conf: &Object<'_>) -> Result<Option<Mtu>, CniError> {
    let Some(field) = conf.get("mtu") else { return Ok(None) };
    let bytes =
        u32::try_from(field.whole()?).map_err(|_too_great| field.wrong("is outside 1280 to 65535"))?;
    if bytes == 0 {
        return Ok(None);
    }
    Mtu::new(bytes).map(Some).map_err(|why| CniError::new(code::CONFIG, format!("{}: {why}", field.path())))
}

fn run_dir(conf: &Object<'_>) -> Result<PathBuf, CniError> {
    Ok(conf.path("runDir")?.unwrap_or_else(|| Path::new(RUN_DIR).to_owned()))
}

fn without_agent(conf: &Object<'_>) -> Result<bool, CniError> {
    match conf.text("whenAgentDown")? {
        None | Some("closed") => Ok(false),
        Some("open") => Ok(true),
        Some(_) => Err(conf.need("whenAgentDown")?.unsupported("is neither \"closed\" nor \"open\"")),
    }
}

fn requested_by_args(conf: &Object<'_>) -> Result<Requested, CniError> {
    let args = conf.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
    args.map_or_else(|| Ok(Requested::default()), |args| runtime::requested(&args))
}

#[cfg(test)]
mod tests;
