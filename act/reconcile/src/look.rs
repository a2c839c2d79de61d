//! A look at the node before anything is changed: what `selvedge-datapath`'s preflight judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs};
use selvedge_datapath::preflight::{Facts, Looked, Verdict};
use selvedge_netlink::RouteSocket;
use selvedge_nft::NftSocket;

use crate::host::HostError;
use crate::install;
use crate::probe;
use crate::removal::Places;

/// The type of a tmpfs.
const TMPFS: i64 = 0x0102_1994;

/// What is looked at beside the kernel.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Where the agent's files are to be.
    pub places: Places,
    /// The plugin to install; none if somebody else does.
    pub given: Option<PathBuf>,
    /// What stands for `/proc/sys`.
    pub sysctls: PathBuf,
    /// Where HTTP is to be served.
    pub listen: SocketAddr,
}

/// Looks; changes nothing.
///
/// # Errors
/// What of the node's network can't be read.
pub fn look(sight: &Sight) -> Result<Facts, HostError> {
    let network = RouteSocket::open()?.observe()?;
    let mut forward = NftSocket::open()?.forward_chains(&sight.places.network)?;
    forward.extend(selvedge_xtables::forward_chains(&sight.places.network)?);
    Ok(Facts {
        features: probe::features(),
        network,
        forward,
        places: places(sight),
        listen: listen(sight.listen, &sight.places.run_dir),
        taken: Vec::new(),
        passed_over: Vec::new(),
        pod_cidrs: BTreeSet::new(),
        no_cluster: None,
        no_node: None,
    })
}

/// The names of what is in the directory of configurations, and what is written in those that runtimes read.
///
/// # Errors
/// If it can't be read.
pub fn configurations(places: &Places) -> Result<(Vec<String>, BTreeMap<String, String>), HostError> {
    let names = install::names_beside(&places.conflist).map_err(|source| HostError::File {
        what: "list what is beside",
        path: places.conflist.clone(),
        source,
    })?;
    let texts = install::texts_beside(&places.conflist, &names);
    Ok((names, texts))
}

fn places(sight: &Sight) -> Vec<Looked> {
    let Places { conflist, plugin, run_dir, .. } = &sight.places;
    let directory = |path: &Path| path.parent().unwrap_or_else(|| Path::new("/")).to_owned();
    let mut places = vec![looked("CNI configurations", &directory(conflist), writable(&directory(conflist)))];
    let mut plugins = writable(&directory(plugin));
    if let (None, Ok(_there), Some((verdict, _))) = (&sight.given, fs::metadata(plugin), &mut plugins) {
        // As in an image that has the plugin, whose agent installs none.
        *verdict = Verdict::Note;
    }
    places.push(looked("plugins", &directory(plugin), plugins));
    places.push(match &sight.given {
        Some(given) => looked("the plugin to install", given, executable(given)),
        None => looked("the plugin", plugin, installed(plugin)),
    });
    let state = writable(run_dir).or_else(|| lasting(run_dir));
    places.push(looked("state", run_dir, state));
    let forward = sight.sysctls.join("net/ipv4/ip_forward");
    let wrong = access(&forward, Access::WRITE_OK)
        .err()
        .map(|why| (Verdict::Blocks, format!("not writable ({why})")));
    places.push(looked("sysctls", &forward, wrong));
    places
}

fn looked(what: &str, path: &Path, wrong: Option<(Verdict, String)>) -> Looked {
    Looked { what: format!("{what} in {}", path.display()), wrong }
}

/// What keeps a directory, which may yet have to be made, from being written.
fn writable(directory: &Path) -> Option<(Verdict, String)> {
    let there = nearest(directory);
    let wrong = access(there, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some((Verdict::Blocks, format!("{} is not writable ({wrong})", there.display())))
}

/// What keeps the plugin that somebody else installs from being run. Before the installation there is none.
fn installed(plugin: &Path) -> Option<(Verdict, String)> {
    let is_missing = fs::metadata(plugin).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if is_missing {
        let text = "no plugin yet: the DaemonSet installs it; or name one with --plugin";
        return Some((Verdict::Note, text.to_owned()));
    }
    executable(plugin)
}

/// What keeps a file from being run as a plugin.
fn executable(file: &Path) -> Option<(Verdict, String)> {
    match fs::metadata(file) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some((Verdict::Blocks, "it is no program that can be run".to_owned())),
        Err(error) => Some((Verdict::Blocks, error.to_string())),
    }
}

/// Says so where leases would outlive a reboot, whose pods don't.
fn lasting(directory: &Path) -> Option<(Verdict, String)> {
    let found = statfs(nearest(directory)).ok()?;
    let text = "not on tmpfs: each lease waits for the disk, and a reboot leaves old ones to be sorted out";
    (found.f_type as i64 != TMPFS).then(|| (Verdict::Warning, text.to_owned()))
}

/// The directory, or the nearest above it that is there.
fn nearest(directory: &Path) -> &Path {
    directory.ancestors().find(|path| path.is_dir()).unwrap_or_else(|| Path::new("/"))
}

/// Whether an address can be listened on; an agent of ours that does so already is nobody else.
fn listen(address: SocketAddr, run_dir: &Path) -> Looked {
    let is_ours = || UnixStream::connect(run_dir.join("agent.sock")).is_ok();
    let wrong = TcpListener::bind(address).err().filter(|_taken| !is_ours());
    let wrong = wrong.map(|error| (Verdict::Blocks, error.to_string()));
    Looked { what: address.to_string(), wrong }
}
