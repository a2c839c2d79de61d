//! The configuration that the agent writes for the runtime.

use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::{Mtu, NetworkName};
use serde_json::{Map, Value, json};

use crate::conf::Attach;

/// The network that an agent runs, as the plugin must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConflist {
    /// The network's name.
    pub name: NetworkName,
    /// How pods are attached.
    pub attach: Attach,
    /// The node's pools, its pod CIDRs.
    pub subnets: Vec<IpNet>,
    /// The pods' MTU.
    pub mtu: Mtu,
    /// The directory of the state, absolute.
    pub run_dir: String,
    /// The agent's socket, absolute.
    pub agent: String,
    /// The node's own addresses.
    pub node_addresses: Vec<IpAddr>,
    /// Where the plugin's log lines go beside stderr, absolute.
    pub log_file: Option<String>,
}

/// What a runtime may ask of us; it tells a plugin only what its configuration lists.
const CAPABILITIES: [&str; 5] = ["bandwidth", "dns", "ips", "mac", "portMappings"];

/// The file: JSON for people to read, nothing in it that changes as nodes come and go, the same bytes for the same values, a line break at its end.
pub fn render(conflist: &AgentConflist) -> String {
    let list = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": conflist.name.as_str(),
        "plugins": [plugin(conflist)],
    });
    format!("{list:#}\n")
}

fn plugin(conflist: &AgentConflist) -> Value {
    let mut plugin = Map::new();
    let mut set = |key: &str, value: Value| plugin.insert(key.to_owned(), value);
    set("type", "selvedge".into());
    match &conflist.attach {
        Attach::Routed => set("attach", "routed".into()),
        Attach::Bridge { bridge } => {
            set("attach", "bridge".into());
            set("bridge", bridge.as_str().into())
        }
    };
    set("subnet", texts(&conflist.subnets));
    set("mtu", conflist.mtu.bytes().into());
    set("nodeAddresses", texts(&conflist.node_addresses));
    set("runDir", conflist.run_dir.as_str().into());
    set("agent", conflist.agent.as_str().into());
    if let Some(log_file) = &conflist.log_file {
        set("logFile", log_file.as_str().into());
    }
    set("capabilities", CAPABILITIES.map(|capability| (capability.to_owned(), true)).into_iter().collect());
    plugin.into()
}

fn texts(items: &[impl ToString]) -> Value {
    items.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
