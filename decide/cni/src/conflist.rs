//! The configuration that the agent writes for the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

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
    /// Whether pods are wired while no agent runs; they would wait for it otherwise.
    pub without_agent: bool,
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
    if conflist.without_agent {
        set("whenAgentDown", "open".into());
    }
    set("capabilities", CAPABILITIES.map(|capability| (capability.to_owned(), true)).into_iter().collect());
    plugin.into()
}

fn texts(items: &[impl ToString]) -> Value {
    items.iter().map(ToString::to_string).collect()
}

/// By what a node serves its pods, as far as the file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The node's pools, its pod CIDRs; at least one.
    pub subnets: Vec<IpNet>,
    /// The node's own addresses.
    pub node_addresses: Vec<IpAddr>,
}

/// What a file says that an agent wrote for a network, today or before the machine was booted; `None` if it is none.
pub fn served(text: &str, network: &NetworkName) -> Option<Served> {
    let list: Value = serde_json::from_str(text).ok()?;
    if list.get("name")? != network.as_str() {
        return None;
    }
    let plugin = list.get("plugins")?.as_array()?.iter().find(|plugin| calls_us(plugin))?;
    let subnets: Vec<IpNet> = parsed(plugin.get("subnet")?)?;
    let node_addresses = parsed(plugin.get("nodeAddresses")?)?;
    (!subnets.is_empty()).then_some(Served { subnets, node_addresses })
}

/// Whose a configuration is that runtimes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The agent's: in it our plugin is told of the socket of an agent with this run directory.
    Agents,
    /// Somebody's who has our plugin called without that agent.
    Callers,
    /// Somebody's who has nothing to do with us.
    Others,
}

/// Whose a configuration is, by its text, whatever the network in it is called.
pub fn whose(text: &str, run_dir: &Path) -> Whose {
    let Ok(list) = serde_json::from_str::<Value>(text) else { return Whose::Others };
    let plugins = list.get("plugins").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let socket = |plugin: &Value| plugin.get("agent")?.as_str().map(|socket| Path::new(socket).to_owned());
    let is_agents = |plugin: &Value| socket(plugin).is_some_and(|path| path.parent() == Some(run_dir));
    match plugins.iter().any(|plugin| calls_us(plugin) && is_agents(plugin)) {
        true => Whose::Agents,
        false if has_us_called(&list) => Whose::Callers,
        false => Whose::Others,
    }
}

/// The network that a configuration is for, by its text.
pub fn network(text: &str) -> Option<NetworkName> {
    serde_json::from_str::<Value>(text).ok()?.get("name")?.as_str()?.parse().ok()
}

fn calls_us(plugin: &Value) -> bool {
    plugin.get("type").is_some_and(|name| name == "selvedge")
}

/// Looks at every depth: a plugin that calls others keeps their configurations within its own.
fn has_us_called(value: &Value) -> bool {
    match value {
        Value::Object(fields) => calls_us(value) || fields.values().any(has_us_called),
        Value::Array(items) => items.iter().any(has_us_called),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Of the configurations beside the one called `ours`, by name, those that an agent with this run directory wrote when
/// its own was called so, and that nobody has edited since: the very bytes that are written for what they say.
pub fn superseded(texts: &BTreeMap<String, String>, ours: &str, run_dir: &Path) -> BTreeSet<String> {
    let as_written = |text: &str| written(text).is_some_and(|values| render(&values) == text);
    let others = texts.iter().filter(|(name, _)| *name != ours);
    let ours = others.filter(|(_, text)| whose(text, run_dir) == Whose::Agents && as_written(text));
    ours.map(|(name, _)| name.clone()).collect()
}

/// The values that a file was written for, if an agent may have written it.
fn written(text: &str) -> Option<AgentConflist> {
    let list: Value = serde_json::from_str(text).ok()?;
    let [plugin] = list.get("plugins")?.as_array()?.as_slice() else { return None };
    let word = |key: &str| plugin.get(key)?.as_str().map(str::to_owned);
    let attach = match word("attach")?.as_str() {
        "routed" => Attach::Routed,
        "bridge" => Attach::Bridge { bridge: word("bridge")?.parse().ok()? },
        _ => return None,
    };
    Some(AgentConflist {
        name: list.get("name")?.as_str()?.parse().ok()?,
        attach,
        subnets: parsed(plugin.get("subnet")?)?,
        mtu: Mtu::new(plugin.get("mtu")?.as_u64()?.try_into().ok()?).ok()?,
        run_dir: word("runDir")?,
        agent: word("agent")?,
        node_addresses: parsed(plugin.get("nodeAddresses")?)?,
        log_file: word("logFile"),
        without_agent: word("whenAgentDown").is_some_and(|when| when == "open"),
    })
}

/// The configurations of other networks beside ours: a runtime takes the first in the order of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rivals {
    /// Those that it takes instead of ours, in their order.
    pub before: Vec<String>,
    /// Those that it passes over as long as ours is there.
    pub after: Vec<String>,
}

/// True if a runtime reads a file of that name as a configuration.
pub fn is_read(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| ["conf", "conflist", "json"].contains(&extension))
}

/// What else a runtime finds among the names of its configuration directory, beside the one of ours.
pub fn rivals<'a>(names: impl IntoIterator<Item = &'a str>, ours: &str) -> Rivals {
    let mut others: Vec<String> =
        names.into_iter().filter(|name| *name != ours && is_read(name)).map(str::to_owned).collect();
    others.sort();
    let (before, after) = others.into_iter().partition(|name| name.as_str() < ours);
    Rivals { before, after }
}

fn parsed<T: FromStr>(items: &Value) -> Option<Vec<T>> {
    items.as_array()?.iter().map(|item| item.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
