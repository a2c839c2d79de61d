//! The end of a node's service: what of ours is on it is found, and taken away.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use selvedge_cni::conflist::{Whose, network, whose};
use selvedge_datapath::firewall::{AGENT, GUARD, PLUGIN};
use selvedge_datapath::foreign::Place;
use selvedge_datapath::removal::{Marked, Removal};
use selvedge_datapath::step::NetStep;
use selvedge_model::NetworkName;
use selvedge_netlink::RouteSocket;
use selvedge_nft::{Conntrack, NftSocket};
use selvedge_ruleset::{Change, Transaction};

use crate::host::HostError;
use crate::install;

/// What the agent and the plugin keep in the run directory.
const STATE: [&str; 14] = [
    "agent.sock",
    "given-up",
    "ipam",
    "node.lock",
    "ready",
    "reap.lock",
    "tunnel-udp.lock",
    "tunnel-udp.log",
    "tunnel-udp.sock",
    "tunnel-wireguard.lock",
    "tunnel-wireguard.log",
    "tunnel-wireguard.sock",
    "wireguard.key",
    "wireguard.key.new",
];

/// Where on the disk something of ours may be.
#[derive(Debug, Clone)]
pub struct Places {
    /// The agent's network.
    pub network: NetworkName,
    /// The agent's conflist.
    pub conflist: PathBuf,
    /// The plugin.
    pub plugin: PathBuf,
    /// The state.
    pub run_dir: PathBuf,
}

/// A node that is to be left as if we had never been there.
#[derive(Debug)]
pub struct Leaving {
    route: RouteSocket,
    nft: NftSocket,
    places: Places,
}

impl Leaving {
    /// Opens the sockets.
    ///
    /// # Errors
    /// A socket that can't be had, for want of CAP_NET_ADMIN most likely.
    pub fn open(places: Places) -> Result<Self, HostError> {
        Ok(Self { route: RouteSocket::open()?, nft: NftSocket::open()?, places })
    }

    /// What of ours is there.
    ///
    /// # Errors
    /// What can't be read.
    pub fn find(&mut self) -> Result<Marked, HostError> {
        let mut marked = Marked { network: self.route.observe()?, ..Marked::default() };
        marked.tables = self.nft.list(&[AGENT, GUARD, PLUGIN])?;
        let mut networks = self.configurations(&mut marked)?;
        networks.extend(marked.networks());
        networks.insert(self.places.network.clone());
        for network in networks {
            let mut chains = self.nft.forward_chains(&network)?;
            chains.extend(selvedge_xtables::forward_chains(&network)?);
            marked.forward.insert(network, chains);
        }
        let state = STATE.map(|name| self.places.run_dir.join(name));
        marked.state = state.iter().filter(|path| is_there(path)).map(text).collect();
        let plugin = &self.places.plugin;
        marked.plugin = is_there(plugin).then(|| text(plugin));
        marked.drafts = self.drafts()?;
        Ok(marked)
    }

    /// Makes a step. What is gone already was taken away by somebody else.
    ///
    /// # Errors
    /// Why it can't be made.
    pub fn remove(&mut self, step: &Removal) -> Result<(), HostError> {
        match step {
            Removal::Path(path) => remove(Path::new(path)),
            Removal::Link(name) => self.net(NetStep::DeleteLink { name: name.clone() }),
            Removal::Route(route) => self.net(NetStep::DeleteRoute(route.clone())),
            Removal::Connections(address) => Ok(Conntrack::open()?.flush_address(*address)?),
            Removal::Table(table) => {
                let mut transaction = Transaction::default();
                transaction.push(table, Change::DeleteTable);
                Ok(self.nft.apply(&transaction)?)
            }
            Removal::Accept(network, Place::Legacy(version)) => {
                selvedge_xtables::accept(*version, network, &[])?;
                Ok(())
            }
            Removal::Accept(network, Place::Nft(table, chain)) => {
                Ok(self.nft.set_accept(table, chain, network, &[])?)
            }
        }
    }

    /// Removes the run directory, if nobody keeps anything else in it.
    pub fn close(&self) {
        // Where somebody does, or it is a mount, it stays.
        fs::remove_dir(&self.places.run_dir).ok();
    }

    fn net(&mut self, step: NetStep) -> Result<(), HostError> {
        Ok(self.route.apply_until_failure(&[step], None)?)
    }

    /// Enters those that runtimes read, each by what is written in it, and what killed writes of ours left. Gives the
    /// networks of ours among them, whose rules may be in other people's chains though no link tells of them.
    fn configurations(&self, marked: &mut Marked) -> Result<BTreeSet<NetworkName>, HostError> {
        let conflist = &self.places.conflist;
        let names = install::names_beside(conflist).map_err(failed("list what is beside", conflist))?;
        let mut ours = BTreeSet::from([conflist.clone()]);
        let mut networks = BTreeSet::new();
        for (name, written) in install::texts_beside(conflist, &names) {
            let path = conflist.with_file_name(name);
            match whose(&written, &self.places.run_dir) {
                Whose::Agents => {
                    networks.extend(network(&written));
                    marked.conflists.insert(text(&path));
                    ours.insert(path);
                }
                Whose::Callers => {
                    marked.callers.insert(text(&path));
                }
                Whose::Others => {}
            }
        }
        let drafts = ours.iter().map(|path| install::draft_of(path)).filter(|draft| is_there(draft));
        marked.conflists.extend(drafts.map(text));
        Ok(networks)
    }

    fn drafts(&self) -> Result<BTreeSet<String>, HostError> {
        let plugin = &self.places.plugin;
        let names = install::names_beside(plugin).map_err(failed("list what is beside", plugin))?;
        let paths = names.iter().map(|name| plugin.with_file_name(name));
        Ok(paths.filter(|path| install::is_draft_of(path, plugin)).map(text).collect())
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

fn remove(path: &Path) -> Result<(), HostError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostError {
    let path = path.to_owned();
    move |source| HostError::File { what, path, source }
}
