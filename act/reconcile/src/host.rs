//! The real node: its kernel and the directory of its CNI configuration.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_datapath::converge::{Observed, Plugin, Step};
use selvedge_datapath::foreign::{ForwardChain, Place};
use selvedge_datapath::state::Sysctl;
use selvedge_datapath::step::NetStep;
use selvedge_datapath::{attachment, firewall, peers};
use selvedge_model::{IfName, NetworkName, Tracked};
use selvedge_netlink::{NetlinkError, RouteSocket, Sysctls};
use selvedge_nft::{Conntrack, Features, Mirror, NftError, NftSocket};
use selvedge_ruleset::{Listed, Table, TableId};
use selvedge_wireguard::{KeyError, WireguardError};
use selvedge_xtables::XtablesError;
use tracing::warn;

use selvedge_forward::ForwardError;

use crate::forwarder::Tunnel;
use crate::forwarders::{Forwarders, Seen};
use crate::host::unannounced::Unannounced;
use crate::install::{self, PluginFile};
use crate::looping::Kernel;

/// What of the node belongs to this agent.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The network's name, which our rules in foreign chains bear.
    pub network: NetworkName,
    /// The bridge's name.
    pub bridge: IfName,
    /// The conflist's place.
    pub conflist: PathBuf,
    /// The plugin to install, and where; none if somebody else installs it.
    pub plugin: Option<(PathBuf, PathBuf)>,
    /// What stands for `/proc/sys`.
    pub sysctls: PathBuf,
    /// The file that says that this node has served pods since it was booted.
    pub ready: PathBuf,
    /// Whether foreign forward chains are looked at.
    pub forward_accept: bool,
    /// What forwards and encrypts; none where nobody is to.
    pub tunnel: Option<Tunnel>,
}

/// Why the node couldn't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Links, addresses, routes, sysctls.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// nftables and connection tracking.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The legacy tables.
    #[error(transparent)]
    Xtables(#[from] XtablesError),
    /// What a forwarder answered, or that none did.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// A forwarder is known not to answer.
    #[error("{said}")]
    Hung {
        /// The same in words.
        said: String,
    },
    /// Our own WireGuard key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It isn't there any more.
    #[error("there is no WireGuard key {}", path.display())]
    NoKey {
        /// Its file.
        path: PathBuf,
    },
    /// The kernel's WireGuard.
    #[error(transparent)]
    Wireguard(#[from] WireguardError),
    /// There is no forwarder, nor a program to be one.
    #[error("there is no forwarder for {task}, and the agent was not told to start anything (--tunnel)")]
    NoForwarder {
        /// What it would do.
        task: &'static str,
    },
    /// The forwarder doesn't start.
    #[error("start {} {task}; it says why in {}", program.display(), log.display())]
    Forwarder {
        /// The program.
        program: PathBuf,
        /// What it is to do.
        task: &'static str,
        /// Where it says why.
        log: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The plugin.
    #[error("install the plugin {}", path.display())]
    Plugin {
        /// Its place.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file of ours, or beside one.
    #[error("{what} {}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The conflist.
    #[error("write {}", path.display())]
    Conflist {
        /// Its place.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The node that this process runs on, in the network namespace of the thread that made it and uses it.
#[derive(Debug)]
pub struct Host {
    route: RouteSocket,
    nft: NftSocket,
    tables: Mirror,
    /// Other people's forward chains, and the generation of rules that they were seen in.
    forward: Option<(u32, Vec<ForwardChain>)>,
    conntrack: Conntrack,
    sysctls: Sysctls,
    paths: Paths,
    plugin: Option<PluginFile>,
    forwarders: Option<Forwarders>,
    /// What [`Kernel::glance`] compares with: the unannounced part of the last observation. None once that has been
    /// changed by ourselves: what somebody else changes back at once must not pass for what was seen.
    last: Option<Unannounced>,
    /// The interfaces of the last observation that hear routers.
    hearing: Vec<IfName>,
    /// Whether word was left that pods are served.
    served: bool,
}

impl Host {
    /// Opens the sockets.
    ///
    /// # Errors
    /// A socket that can't be had, for want of CAP_NET_ADMIN most likely.
    pub fn open(paths: Paths) -> Result<Self, HostError> {
        Ok(Self {
            route: RouteSocket::open()?.with_sysctls(Sysctls::at(paths.sysctls.clone())),
            nft: NftSocket::open()?,
            tables: Mirror::new([firewall::AGENT, firewall::GUARD]),
            forward: None,
            conntrack: Conntrack::open()?,
            sysctls: Sysctls::at(paths.sysctls.clone()),
            plugin: paths.plugin.clone().map(|(from, to)| PluginFile::new(from, to)),
            forwarders: paths.tunnel.clone().map(Forwarders::new),
            paths,
            last: None,
            hearing: Vec::new(),
            served: false,
        })
    }

    /// What the kernel's nftables can do.
    ///
    /// # Errors
    /// What the kernel said to the question.
    pub fn features(&mut self) -> Result<Features, HostError> {
        Ok(self.nft.features()?)
    }

    /// True if the kernel has VXLAN.
    pub fn has_vxlan(&mut self) -> bool {
        self.route.has_vxlan()
    }

    /// True if the kernel has WireGuard, where anything is to forward for this node at all.
    pub fn has_wireguard(&self) -> bool {
        self.forwarders.as_ref().is_some_and(Forwarders::kernel_encrypts)
    }

    fn unannounced(&mut self) -> Result<Unannounced, HostError> {
        let of_bridge = attachment::bridge_sysctls(&self.paths.bridge).map(|(key, _)| key);
        let forwarding = [Sysctl::Ipv4Forward, Sysctl::Ipv6Forward];
        let accept_ra = |device: &IfName| Sysctl::Ipv6Conf(Some(device.clone()), "accept_ra");
        let keys = of_bridge.into_iter().chain(attachment::BRIDGE_NETFILTER).chain(forwarding);
        let keys = keys.chain(self.hearing.iter().map(accept_ra)).chain(peers::sysctls());
        Ok(Unannounced {
            sysctls: self.read_sysctls(keys)?,
            legacy: if self.paths.forward_accept {
                selvedge_xtables::forward_chains(&self.paths.network)?
            } else {
                Vec::new()
            },
            plugin: self.plugin.as_ref().map(|p| p.look().map_err(|why| at(p, why))).transpose()?,
            forwarders: self.forwarders.as_mut().map(Forwarders::glance),
            configurations: install::names_beside(&self.paths.conflist).map_err(|source| {
                HostError::File { what: "list what is beside", path: self.paths.conflist.clone(), source }
            })?,
            conflist: read(&self.paths.conflist)?,
        })
    }

    /// Other people's forward chains, looked for again where anybody has changed any rules since.
    fn forward_chains(&mut self) -> Result<Vec<ForwardChain>, HostError> {
        let generation = self.tables.generation();
        match &self.forward {
            Some((seen, forward)) if Some(*seen) == generation => Ok(forward.clone()),
            _ => {
                let forward = self.nft.forward_chains(&self.paths.network)?;
                self.forward = generation.map(|generation| (generation, forward.clone()));
                Ok(forward)
            }
        }
    }

    /// The values of those that are there.
    fn read_sysctls(
        &self,
        keys: impl IntoIterator<Item = Sysctl>,
    ) -> Result<BTreeMap<Sysctl, String>, HostError> {
        let mut values = BTreeMap::new();
        for key in keys {
            match self.sysctls.read(&key) {
                Ok(value) => {
                    values.insert(key, value);
                }
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(values)
    }

    fn apply_one(&mut self, step: &Step) -> Result<(), HostError> {
        match step {
            Step::Net(step) => Ok(self.route.apply_until_failure(std::slice::from_ref(step), None)?),
            Step::Forwarder(step) => {
                let none = HostError::NoForwarder { task: "anything" };
                self.forwarders.as_mut().map_or(Err(none), |forwarders| forwarders.apply(step))
            }
            Step::Rules(_, transaction) => Ok(self.tables.apply(&mut self.nft, transaction)?),
            Step::Accept(Place::Legacy(version), rules) => {
                selvedge_xtables::accept(*version, &self.paths.network, rules)?;
                Ok(())
            }
            Step::Accept(Place::Nft(table, chain), rules) => {
                Ok(self.nft.set_accept(table, chain, &self.paths.network, rules)?)
            }
            Step::Plugin => match &self.plugin {
                Some(plugin) => plugin.install().map_err(|source| at(plugin, source)),
                None => Ok(()),
            },
            Step::Conflist(text) => install::conflist(&self.paths.conflist, text)
                .map_err(|source| HostError::Conflist { path: self.paths.conflist.clone(), source }),
            Step::Superseded(name) => {
                let path = self.paths.conflist.with_file_name(name);
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        Err(HostError::File { what: "remove", path, source })
                    }
                    Ok(()) | Err(_) => Ok(()),
                }
            }
        }
    }
}

impl Kernel for Host {
    type Error = HostError;

    /// The tables are read before the links: an element whose port isn't among the links then really has none. Tables
    /// that are read alone are none that anybody else has changed since.
    fn observe(&mut self) -> Result<Observed, HostError> {
        let tables = self.tables.list(&mut self.nft)?;
        let mut forward = if self.paths.forward_accept { self.forward_chains()? } else { Vec::new() };
        // Before the links: one that is there has made its device.
        let Seen { forwarder, wireguard, key } = match &mut self.forwarders {
            Some(forwarders) => forwarders.observe()?,
            None => Seen::default(),
        };
        let mut network = self.route.observe()?;
        self.route.observe_overlays(&mut network)?;
        let hearing = network.links.iter().filter(|(_, link)| link.hears_routers());
        self.hearing = hearing.map(|(name, _)| name.clone()).collect();
        let unannounced = self.unannounced()?;
        let sysctls = unannounced.sysctls.clone();
        forward.extend(unannounced.legacy.iter().cloned());
        let (configurations, conflist) = (unannounced.configurations.clone(), unannounced.conflist.clone());
        self.last = Some(unannounced);
        // Looked at again after that: what is put there meanwhile is found by the next glance.
        let plugin = match &mut self.plugin {
            Some(plugin) => plugin.compare().map_err(|source| at(plugin, source))?,
            None => Plugin::default(),
        };
        let texts = install::texts_beside(&self.paths.conflist, &configurations);
        Ok(Observed {
            network,
            forwarder,
            wireguard,
            key,
            sysctls,
            tables,
            forward,
            plugin,
            configurations,
            texts,
            conflist,
        })
    }

    fn apply(&mut self, steps: &[Step]) -> Vec<Result<(), HostError>> {
        // Runs of network steps go to the kernel together; a changed node can have a thousand routes.
        let mut outcomes = Vec::with_capacity(steps.len());
        let mut rest = steps;
        while let Some(first) = rest.first() {
            let run: Vec<NetStep> = rest.iter().map_while(net).cloned().collect();
            if run.is_empty() {
                outcomes.push(self.apply_one(first));
            } else {
                outcomes.extend(self.route.apply(&run, None).into_iter().map(|outcome| Ok(outcome?)));
            }
            rest = &rest[run.len().max(1)..];
        }
        if steps.iter().any(is_unannounced) {
            self.last = None;
        }
        outcomes
    }

    fn glance(&mut self) -> Option<String> {
        let Some(last) = self.last.clone() else { return Some("what was just changed".to_owned()) };
        let now = self.unannounced().ok()?;
        if let Some(what) = now.differs_from(&last) {
            return Some(what);
        }
        // It can be written once its directory is there.
        let ready = &self.paths.ready;
        let lost = self.served && !ready.exists() && ready.parent().is_some_and(Path::is_dir);
        lost.then(|| format!("{} is gone", ready.display()))
    }

    fn flows(&mut self, keep: &dyn Fn(&Tracked) -> bool) -> Result<Vec<Tracked>, HostError> {
        Ok(self.conntrack.flows(keep)?)
    }

    fn forget(&mut self, flows: &[Tracked]) -> Result<(), HostError> {
        Ok(self.conntrack.forget(flows)?)
    }

    fn tables(&mut self) -> Result<Option<Arc<Listed>>, HostError> {
        Ok(self.tables.unless_changed(&mut self.nft)?)
    }

    fn knows(&self, generation: u32) -> bool {
        self.tables.knows(generation)
    }

    fn share(&mut self, tables: &BTreeMap<TableId, Table>) {
        self.tables.share(tables);
    }

    fn serves(&mut self) {
        self.served = true;
        if let Err(error) = File::options().create(true).append(true).open(&self.paths.ready) {
            warn!(path = %self.paths.ready.display(), %error, "can't leave word that pods are served");
        }
    }
}

fn at(plugin: &PluginFile, source: io::Error) -> HostError {
    HostError::Plugin { path: plugin.place().to_owned(), source }
}

fn net(step: &Step) -> Option<&NetStep> {
    match step {
        Step::Net(step) => Some(step),
        Step::Forwarder(_) | Step::Rules(..) | Step::Accept(..) => None,
        Step::Plugin | Step::Conflist(_) | Step::Superseded(_) => None,
    }
}

/// Whether a step changes what nobody is told of.
fn is_unannounced(step: &Step) -> bool {
    match step {
        Step::Net(step) => matches!(step, NetStep::SetSysctl { .. }),
        Step::Accept(place, _) => matches!(place, Place::Legacy(_)),
        Step::Forwarder(_) | Step::Plugin | Step::Conflist(_) | Step::Superseded(_) => true,
        Step::Rules(..) => false,
    }
}

fn read(path: &Path) -> Result<Option<String>, HostError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HostError::File { what: "read", path: path.to_owned(), source }),
    }
}

mod unannounced;
