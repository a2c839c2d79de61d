//! runtimeConfig: what a runtime fills in because our configuration names a capability (CONVENTIONS, "Dynamic plugin
//! specific fields").

use std::collections::BTreeMap;

use selvedge_model::{Bandwidth, NetworkName, PortMapping};

use super::bandwidth::limits;
use super::pools::{RangeSet, range_sets};
use super::ports::port_mappings;
use crate::args::Requested;
use crate::dns::Dns;
use crate::error::CniError;
use crate::json::{Field, Object};

/// What of runtimeConfig we honour. Empty unless the runtime says something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeConfig {
    /// `ips` and `mac`
    pub requested: Requested,
    /// `ipRanges`, to come before the configuration's own.
    pub ip_ranges: Vec<RangeSet>,
    /// `dns`
    pub dns: Dns,
    /// `portMappings`
    pub port_mappings: Vec<PortMapping>,
    /// `aliases`: further names of the container in this network.
    pub aliases: Vec<String>,
    /// `io.kubernetes.cri.pod-annotations`
    pub pod_annotations: BTreeMap<String, String>,
    /// `cgroupPath`
    pub cgroup_path: Option<String>,
    /// `bandwidth`
    pub bandwidth: Bandwidth,
}

impl RuntimeConfig {
    /// Reads `runtimeConfig`. What is asked for and not supported yet fails with code 2, once all of it has been found
    /// well formed.
    pub(super) fn stated_in(conf: &Object<'_>, network: &NetworkName) -> Result<Self, CniError> {
        let Some(runtime) = conf.object("runtimeConfig")? else { return Ok(Self::default()) };
        let known = Self {
            requested: requested(&runtime)?,
            ip_ranges: range_sets(&runtime, "ipRanges")?,
            dns: Dns::stated_by_runtime(&runtime)?,
            port_mappings: port_mappings(&runtime)?,
            aliases: aliases(&runtime, network)?,
            pod_annotations: annotations(&runtime)?,
            cgroup_path: runtime.text("cgroupPath")?.map(str::to_owned),
            bandwidth: match runtime.object("bandwidth")? {
                Some(stated) => limits(&stated)?,
                None => Bandwidth::default(),
            },
        };
        let demands = [
            ("deviceID", runtime.text("deviceID")?.is_some()),
            ("infinibandGUID", runtime.text("infinibandGUID")?.is_some()),
        ];
        match demands.into_iter().find(|(_, demanded)| *demanded) {
            Some((key, _)) => Err(runtime.need(key)?.unsupported("is not supported yet")),
            None => Ok(known),
        }
    }
}

/// The `ips` and `mac` of runtimeConfig and of args.cni.
pub(super) fn requested(object: &Object<'_>) -> Result<Requested, CniError> {
    let mut requested = Requested { ips: Vec::new(), mac: object.parsed("mac")? };
    for ip in object.list("ips")? {
        requested.add(ip.parsed()?);
    }
    Ok(requested)
}

/// A list, as the conventions say, or podman's map from networks to lists.
fn aliases(runtime: &Object<'_>, network: &NetworkName) -> Result<Vec<String>, CniError> {
    match runtime.get("aliases") {
        Some(field) if field.value().is_object() => {
            let networks = field.object()?;
            let ours = networks.entries().find(|(name, _)| *name == network.as_str());
            ours.map_or_else(|| Ok(Vec::new()), |(_, list)| texts(&list))
        }
        Some(field) => texts(&field),
        None => Ok(Vec::new()),
    }
}

fn texts(field: &Field<'_>) -> Result<Vec<String>, CniError> {
    field.list()?.iter().map(|item| item.text().map(str::to_owned)).collect()
}

fn annotations(runtime: &Object<'_>) -> Result<BTreeMap<String, String>, CniError> {
    let Some(map) = runtime.object("io.kubernetes.cri.pod-annotations")? else { return Ok(BTreeMap::new()) };
    let mut annotations = BTreeMap::new();
    for (key, value) in map.entries() {
        annotations.insert(key.to_owned(), value.text()?.to_owned());
    }
    Ok(annotations)
}

#[cfg(test)]
mod tests;
