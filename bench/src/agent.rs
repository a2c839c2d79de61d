//! A running agent: its memory, and how fast it follows its manifests.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::node::{ADDRESS, Node};
use crate::spread::Spread;
use crate::watch::RouteWatch;

/// How long an agent may take to make its node ready, and to follow one change.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between the changes, so that each is one of its own.
const BETWEEN_CHANGES: Duration = Duration::from_millis(50);
/// Until an agent's memory is read.
const AT_REST: Duration = Duration::from_secs(3);

/// An agent on a node, killed when dropped and when the benchmark is.
#[derive(Debug)]
pub(crate) struct Agent {
    folder: PathBuf,
    pid: Pid,
    keeper: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts an agent with the manifests of so many nodes, and waits until it has made its own ready.
    pub(crate) fn start(programs: &Path, node: &Node, nodes: u16) -> Result<Self, BenchError> {
        let folder = node.folder().to_owned();
        for name in ["manifests", "conf", "run"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(|source| BenchError::file("create", &path, source))?;
        }
        write(&folder.join("agent.yaml"), "attach: routed\ntransport: direct\n")?;
        write_manifest(&folder, 0, ADDRESS.parse().unwrap_or(Ipv4Addr::UNSPECIFIED))?;
        for number in 1..nodes {
            write_manifest(&folder, number, peer_address(number))?;
        }
        let (pid, keeper) = keep(node, command(programs, &folder)?)?;
        let agent = Self { folder, pid, keeper: Some(keeper) };
        agent.wait_until_ready()?;
        Ok(agent)
    }

    /// What the conflist that the agent wrote hands to the plugin.
    pub(crate) fn plugin_config(&self) -> Result<Value, BenchError> {
        let path = self.conflist().ok_or_else(|| self.failed("it wrote no conflist"))?;
        let text = fs::read(&path).map_err(|source| BenchError::file("read", &path, source))?;
        let list: Value = serde_json::from_slice(&text)
            .map_err(|source| BenchError::system("read the conflist", source))?;
        let mut config = list["plugins"][0].clone();
        config["cniVersion"] = list["cniVersion"].clone();
        config["name"] = list["name"].clone();
        Ok(config)
    }

    /// The resident memory in bytes, once nothing has happened for a while.
    pub(crate) fn memory_at_rest(&self) -> Result<u64, BenchError> {
        thread::sleep(AT_REST);
        let path = PathBuf::from(format!("/proc/{}/status", self.pid.as_raw_nonzero()));
        let status = fs::read_to_string(&path).map_err(|source| BenchError::file("read", &path, source))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(|| self.failed("it has no VmRSS"))
    }

    /// Gives another node a new address again and again, and times each from the manifest's renaming to the kernel's
    /// notice of the route.
    pub(crate) fn time_to_route(&self, node: &Node, changes: u8) -> Result<Spread, BenchError> {
        let watch = node.namespace().run(|| RouteWatch::open(PATIENCE))??;
        let mut times = Vec::new();
        for change in 1..=changes {
            let gateway = Ipv4Addr::new(172, 30, 200, change);
            let began = write_manifest(&self.folder, 1, gateway)?;
            let seen = watch.wait_for(gateway)?.ok_or_else(|| self.failed("it made no route in time"))?;
            times.push(seen - began);
            thread::sleep(BETWEEN_CHANGES);
        }
        Spread::in_turn(&times).ok_or_else(|| self.failed("no manifest was changed"))
    }

    fn wait_until_ready(&self) -> Result<(), BenchError> {
        let deadline = Instant::now() + PATIENCE;
        while self.conflist().is_none() {
            if Instant::now() > deadline || self.keeper.as_ref().is_some_and(JoinHandle::is_finished) {
                return Err(self.failed("it wrote no conflist"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn conflist(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.folder.join("conf")).ok()?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "conflist"))
    }

    fn failed(&self, what: &str) -> BenchError {
        let log = fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default();
        BenchError::Agent { what: what.to_owned(), log }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(kill_process(self.pid, Signal::KILL).map_err(|errno| errno.to_string()));
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
    }
}

fn command(programs: &Path, folder: &Path) -> Result<Command, BenchError> {
    let path = folder.join("agent.log");
    let log = File::create(&path).map_err(|source| BenchError::file("create", &path, source))?;
    // The signal comes when the thread that started it ends, and so with this process.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(programs.join("selvedge-agent"));
    command.args(["--node", &name(0), "--listen", "127.0.0.1:0", "--cni-bin-dir"]).arg(programs);
    for (flag, file) in [
        ("--manifests", "manifests"),
        ("--config", "agent.yaml"),
        ("--cni-conf-dir", "conf"),
        ("--run-dir", "run"),
    ] {
        command.arg(flag).arg(folder.join(file));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(command)
}

/// Runs a program in a node's namespace, on a thread that lives as long as the program does.
fn keep(node: &Node, mut command: Command) -> Result<(Pid, JoinHandle<()>), BenchError> {
    let namespace = node.namespace().try_clone()?;
    let (sender, started) = mpsc::channel();
    let keeper = thread::spawn(move || {
        let ran = namespace.run(|| match command.spawn() {
            Ok(mut child) => {
                drop(sender.send(Ok(Pid::from_child(&child))));
                drop(child.wait());
            }
            Err(error) => drop(sender.send(Err(error))),
        });
        drop(ran);
    });
    let failed = |source| BenchError::system("start selvedge-agent (with setpriv of util-linux)", source);
    let started = started.recv().map_err(|_closed| failed(std::io::ErrorKind::Other.into()))?;
    Ok((started.map_err(failed)?, keeper))
}

/// Writes a node's manifest, the way a careful writer does, and says when it was in place.
fn write_manifest(folder: &Path, number: u16, address: Ipv4Addr) -> Result<Instant, BenchError> {
    let cidr = if number == 0 { "10.244.0.0/16".to_owned() } else { peer_cidr(number) };
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name(number)},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}
    });
    let (draft, path) =
        (folder.join("draft.json"), folder.join("manifests").join(format!("{}.json", name(number))));
    write(&draft, &node.to_string())?;
    let began = Instant::now();
    fs::rename(&draft, &path).map_err(|source| BenchError::file("put in place", &path, source))?;
    Ok(began)
}

fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    fs::write(path, text).map_err(|source| BenchError::file("write", path, source))
}

fn name(number: u16) -> String {
    format!("node-{number}")
}

fn peer_address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(172, 30, 100 + high, low)
}

fn peer_cidr(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("10.{high}.{low}.0/24")
}
