//! The configuration file: YAML, every key optional, unknown keys refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use selvedge_datapath::node::Attach;
use selvedge_model::transport::{Choice, NoTransport, Transport};
use selvedge_model::{IfName, Mtu, NetworkName};
use selvedge_policy::Unknown;
use selvedge_source::yaml::{self, Fault, Field, Located};

/// How the agent runs its node. The default is an empty file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// `attach`: how new pods are attached, `routed` (the default) or `bridge`.
    pub(crate) attach: Attach,
    /// `bridge`: the bridge's name, `cni0` by default.
    pub(crate) bridge: IfName,
    /// `transport`: how packets reach other nodes, `auto` by default. A Node's annotation goes before it.
    pub(crate) transport: Choice,
    /// `vxlan`: what all nodes must have alike to reach each other by it.
    pub(crate) vxlan: Vxlan,
    /// `udp`: what all nodes must have alike to reach each other in plain UDP.
    pub(crate) udp: Udp,
    /// `wireguard`: what nodes need to reach each other encrypted.
    pub(crate) wireguard: Wireguard,
    /// `encryption`: whether pods of other nodes may be reached in the clear, `none` (they may) by default.
    pub(crate) encryption: Encryption,
    /// `clusterCidrs`: the addresses that pods have, on whatever node; none by default. With `encryption: strict`
    /// nothing goes there in the clear, not even to a node that isn't known yet.
    pub(crate) cluster_cidrs: Vec<IpNet>,
    /// `network`: the pod network's name in CNI, `selvedge` by default.
    pub(crate) network: NetworkName,
    /// `conflistName`: the file in the CNI configuration directory, `10-selvedge.conflist` by default. Container
    /// runtimes take the first file in the order of names.
    pub(crate) conflist_name: ConflistName,
    /// `logFile`: where the plugin logs, besides stderr. An absolute path; none by default.
    pub(crate) log_file: Option<PathBuf>,
    /// `mtu`: the pods' MTU, 1280 to 65535; the uplink's by default.
    pub(crate) mtu: Option<Mtu>,
    /// `masquerade`: what leaves the pod network with the node's address.
    pub(crate) masquerade: Masquerade,
    /// `forwardAccept`: whether accept rules are put into other tables' chains that drop forwarded packets; `true` by
    /// default.
    pub(crate) forward_accept: bool,
    /// `removeTaint`: whether the Node's taint `selvedge.dev/agent-not-ready` is taken away once pods are served; `false`
    /// by default.
    pub(crate) remove_taint: bool,
    /// `policy`: how NetworkPolicies are enforced.
    pub(crate) policy: Policy,
    /// `resyncSeconds`: how often everything is compared although nothing was heard, 1 to 3600, 30 by default.
    pub(crate) resync: Duration,
}

/// `vxlan`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vxlan {
    /// `vni`: the network identifier, 1 to 16777215, 83 by default.
    pub(crate) vni: u32,
    /// `port`: the UDP port, 4789 by default.
    pub(crate) port: u16,
}

/// `udp`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Udp {
    /// `port`: the UDP port, 8383 by default.
    pub(crate) port: u16,
}

/// `wireguard`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wireguard {
    /// `port`: the UDP port, 51820 by default, which all nodes must have alike.
    pub(crate) port: u16,
    /// `keys`: a directory that all nodes share, with the public key of each in a file of its name. An absolute path;
    /// none by default. Nodes of the Kubernetes API have annotations instead.
    pub(crate) keys: Option<PathBuf>,
}

/// `encryption`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// `none`: what transports say.
    None,
    /// `strict`: nothing is sent to pods of other nodes but by WireGuard.
    Strict,
}

/// `masquerade`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Masquerade {
    /// `enabled`: `true` by default.
    pub(crate) enabled: bool,
    /// `exclude`: destinations outside the pod network that see the pods' own addresses; none by default.
    pub(crate) exclude: Vec<IpNet>,
}

/// `policy`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// `whenAgentDown`: whether a pod that comes while no agent runs waits for one, `closed` (the default), or is wired
    /// and `open` to everybody until there is one.
    pub(crate) when_agent_down: Unknown,
}

/// A file name that container runtimes read as a list of plugins: it ends in `.conflist` and is not hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConflistName(String);

impl ConflistName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The file is refused. Displayed as `FILE:LINE:COLUMN: KEY: what is wrong`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{fault}", origin.display())]
pub(crate) struct ConfigError {
    /// The file.
    pub(crate) origin: PathBuf,
    /// The place in it and what is wrong there.
    pub(crate) fault: Located,
}

impl Config {
    /// What `encryption: strict` can't keep from being sent in the clear, for want of `clusterCidrs`.
    pub(crate) fn leaves_open(&self) -> Option<String> {
        let open = self.encryption == Encryption::Strict && self.cluster_cidrs.is_empty();
        let why = "encryption: strict without clusterCidrs: what pods send to those of a node that isn't known, or \
                   isn't any more, can leave in the clear";
        open.then(|| why.to_owned())
    }
}

impl Default for Config {
    fn default() -> Self {
        let builtin = "is a valid name";
        Self {
            attach: Attach::Routed,
            bridge: "cni0".parse().expect(builtin),
            transport: Choice::Auto,
            vxlan: Vxlan { vni: 83, port: 4789 },
            udp: Udp { port: 8383 },
            wireguard: Wireguard { port: 51820, keys: None },
            encryption: Encryption::None,
            cluster_cidrs: Vec::new(),
            network: "selvedge".parse().expect(builtin),
            conflist_name: ConflistName("10-selvedge.conflist".to_owned()),
            log_file: None,
            mtu: None,
            masquerade: Masquerade { enabled: true, exclude: Vec::new() },
            forward_accept: true,
            remove_taint: false,
            policy: Policy { when_agent_down: Unknown::Closed },
            resync: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Reads a configuration; `origin` is the file that errors name.
    pub(crate) fn parse(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        read(text).map_err(|fault| ConfigError { origin: origin.to_owned(), fault })
    }
}

const KEYS: [&str; 17] = [
    "attach",
    "bridge",
    "transport",
    "vxlan",
    "udp",
    "wireguard",
    "encryption",
    "clusterCidrs",
    "network",
    "conflistName",
    "logFile",
    "mtu",
    "masquerade",
    "forwardAccept",
    "removeTaint",
    "policy",
    "resyncSeconds",
];

fn read(text: &str) -> Result<Config, Located> {
    let mut documents = yaml::documents(text.as_bytes(), &[]);
    let mut config = Config::default();
    let Some(document) = documents.next().transpose()? else { return Ok(config) };
    let root = Field::root(&document);
    if let Some(second) = documents.next().transpose()? {
        let one = "a configuration is one document; this is a second one".to_owned();
        return Err(Field::root(&second).fault(Fault::Refused(one)));
    }
    if root.is_null() {
        return Ok(config);
    }
    root.only(&KEYS)?;
    set(&mut config.attach, &root, "attach", attach)?;
    set(&mut config.bridge, &root, "bridge", bridge)?;
    set(&mut config.transport, &root, "transport", transport)?;
    set(&mut config.vxlan, &root, "vxlan", vxlan)?;
    set(&mut config.udp, &root, "udp", udp)?;
    set(&mut config.wireguard, &root, "wireguard", wireguard)?;
    each_has_a_port_of_its_own(&root, &config)?;
    // What is strict depends on the transport, which is read by now.
    set(&mut config.encryption, &root, "encryption", |field| encryption(field, config.transport))?;
    set(&mut config.cluster_cidrs, &root, "clusterCidrs", cidrs)?;
    set(&mut config.network, &root, "network", |field| field.parse())?;
    set(&mut config.conflist_name, &root, "conflistName", conflist_name)?;
    set(&mut config.log_file, &root, "logFile", |field| absolute(field).map(Some))?;
    set(&mut config.mtu, &root, "mtu", |field| mtu(field).map(Some))?;
    set(&mut config.masquerade, &root, "masquerade", masquerade)?;
    set(&mut config.forward_accept, &root, "forwardAccept", |field| field.boolean())?;
    set(&mut config.remove_taint, &root, "removeTaint", |field| field.boolean())?;
    set(&mut config.policy, &root, "policy", policy)?;
    set(&mut config.resync, &root, "resyncSeconds", resync)?;
    Ok(config)
}

fn bridge(field: &Field<'_>) -> Result<IfName, Located> {
    let name: IfName = field.parse()?;
    name.can_be_made().map_err(|why| field.fault(Fault::Refused(why.to_string())))?;
    Ok(name)
}

/// Replaces a default if the key is there.
fn set<T>(
    default: &mut T,
    parent: &Field<'_>,
    key: &str,
    read: impl FnOnce(&Field<'_>) -> Result<T, Located>,
) -> Result<(), Located> {
    if let Some(field) = parent.get(key)? {
        *default = read(&field)?;
    }
    Ok(())
}

fn attach(field: &Field<'_>) -> Result<Attach, Located> {
    match field.text()? {
        "routed" => Ok(Attach::Routed),
        "bridge" => Ok(Attach::Bridge),
        other => Err(field.refuse(other, "is neither routed nor bridge")),
    }
}

fn transport(field: &Field<'_>) -> Result<Choice, Located> {
    let word = field.text()?;
    word.parse().map_err(|why: NoTransport| field.refuse(word, why.to_string()))
}

fn vxlan(field: &Field<'_>) -> Result<Vxlan, Located> {
    field.only(&["vni", "port"])?;
    let mut vxlan = Config::default().vxlan;
    set(&mut vxlan.vni, field, "vni", |vni| match vni.number()? {
        number @ 1..=0x00ff_ffff => Ok(number),
        other => Err(vni.refuse(&other.to_string(), "is not between 1 and 16777215")),
    })?;
    set(&mut vxlan.port, field, "port", port)?;
    Ok(vxlan)
}

fn udp(field: &Field<'_>) -> Result<Udp, Located> {
    field.only(&["port"])?;
    let mut udp = Config::default().udp;
    set(&mut udp.port, field, "port", port)?;
    Ok(udp)
}

fn wireguard(field: &Field<'_>) -> Result<Wireguard, Located> {
    field.only(&["port", "keys"])?;
    let mut wireguard = Config::default().wireguard;
    set(&mut wireguard.port, field, "port", port)?;
    set(&mut wireguard.keys, field, "keys", |keys| absolute(keys).map(Some))?;
    Ok(wireguard)
}

/// Whoever comes second to a port would hear nothing.
fn each_has_a_port_of_its_own(root: &Field<'_>, config: &Config) -> Result<(), Located> {
    let ports = [
        ("vxlan", config.vxlan.port),
        ("udp", config.udp.port),
        ("wireguard", config.wireguard.port),
        ("the agents, who ask each other there", selvedge_probe::PORT),
    ];
    for (key, port) in ports {
        let given = root.get(key)?.map(|field| field.get("port")).transpose()?.flatten();
        let other = ports.iter().find(|(other, theirs)| *other != key && *theirs == port);
        if let (Some(field), Some((other, _))) = (given, other) {
            return Err(field.refuse(&port.to_string(), format!("is the port of {other}")));
        }
    }
    Ok(())
}

fn encryption(field: &Field<'_>, transport: Choice) -> Result<Encryption, Located> {
    match field.text()? {
        "none" => Ok(Encryption::None),
        "strict" if transport == Choice::Of(Transport::Wireguard) => Ok(Encryption::Strict),
        "strict" => Err(field.refuse("strict", "needs transport: wireguard")),
        other => Err(field.refuse(other, "is neither none nor strict")),
    }
}

fn cidrs(field: &Field<'_>) -> Result<Vec<IpNet>, Located> {
    field.items()?.map(|cidr| cidr.cidr()).collect()
}

fn port(field: &Field<'_>) -> Result<u16, Located> {
    let number = field.number()?;
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| field.refuse(&number.to_string(), "is not between 1 and 65535"))
}

fn conflist_name(field: &Field<'_>) -> Result<ConflistName, Located> {
    let name = field.text()?;
    let stem = name.strip_suffix(".conflist").unwrap_or_default();
    if stem.is_empty() || stem.starts_with('.') || name.contains(['/', '\0']) || name.len() > 255 {
        return Err(field.refuse(name, "is no file name that ends in .conflist and isn't hidden"));
    }
    Ok(ConflistName(name.to_owned()))
}

fn absolute(field: &Field<'_>) -> Result<PathBuf, Located> {
    let path = field.text()?;
    if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') {
        return Ok(path.into());
    }
    Err(field.refuse(path, "is no absolute path of a file"))
}

fn mtu(field: &Field<'_>) -> Result<Mtu, Located> {
    Mtu::new(field.number()?).map_err(|error| field.fault(Fault::Refused(error.to_string())))
}

fn masquerade(field: &Field<'_>) -> Result<Masquerade, Located> {
    field.only(&["enabled", "exclude"])?;
    let mut masquerade = Config::default().masquerade;
    set(&mut masquerade.enabled, field, "enabled", |enabled| enabled.boolean())?;
    set(&mut masquerade.exclude, field, "exclude", cidrs)?;
    Ok(masquerade)
}

fn policy(field: &Field<'_>) -> Result<Policy, Located> {
    field.only(&["whenAgentDown"])?;
    let mut policy = Config::default().policy;
    set(&mut policy.when_agent_down, field, "whenAgentDown", |when| match when.text()? {
        "closed" => Ok(Unknown::Closed),
        "open" => Ok(Unknown::Open),
        other => Err(when.refuse(other, "is neither closed nor open")),
    })?;
    Ok(policy)
}

fn resync(field: &Field<'_>) -> Result<Duration, Located> {
    match field.number()? {
        seconds @ 1..=3600 => Ok(Duration::from_secs(seconds.into())),
        other => Err(field.refuse(&other.to_string(), "is not between 1 and 3600")),
    }
}

#[cfg(test)]
mod tests;
