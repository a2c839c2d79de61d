//! A machine of its own for programs that want a whole one: container runtimes with their daemons.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use selvedge_netns::Namespace;

use crate::stage;

mod ran;

pub use ran::Ran;

/// Namespaces for mounts, processes and the network, held by a first process.
///
/// `/run`, `/dev/shm`, `/opt` and `/var/lib` are empty, `/etc` is a copy; what is written there goes with the machine. Control
/// groups of runtimes are below one of its own. When this is dropped, or the test process ends in whatever way, all its
/// processes are killed and its control groups removed.
#[derive(Debug)]
pub struct Machine {
    /// Ends the machine when its stdin is closed.
    keeper: Child,
    init: u32,
    whole: bool,
    node: Namespace,
}

impl Machine {
    /// Makes one, with its loopback up. `None` if this user may not, which has been said by
    /// [`skipped`](crate::skipped).
    ///
    /// # Panics
    /// If it can't be made for another reason.
    pub fn boot() -> Option<Self> {
        Self::keep(&[])
    }

    /// Makes one for a kubelet: with a host name, and namespaces for System V's objects and control groups too, every
    /// controller among them. What is written to `/etc`, `/opt` and `/var/lib` stays in the folder `disk`, for a machine
    /// that is booted from it later.
    ///
    /// # Panics
    /// If it can't be made for another reason than that this user may not.
    pub fn boot_whole(hostname: &str, disk: &Path) -> Option<Self> {
        Self::keep(&[("WHOLE", OsStr::new(hostname)), ("DISK", disk.as_os_str())])
    }

    fn keep(shape: &[(&str, &OsStr)]) -> Option<Self> {
        static MACHINES: AtomicU32 = AtomicU32::new(0);
        drop(stage::namespace()?);
        let name = format!("selvedge-tests-{}-{}", process::id(), MACHINES.fetch_add(1, Ordering::Relaxed));
        let mut keeper = Command::new("sh")
            .args(["-c", include_str!("machine/keep.sh"), "keep.sh", &name, include_str!("machine/init.sh")])
            .envs(shape.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What ends a test by the terminal must not end what cleans up after it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("start a machine with sh: {error}"));
        let mut said = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            let read = BufReader::new(stdout).read_line(&mut said);
            read.unwrap_or_else(|error| panic!("hear of a machine: {error}"));
        }
        let init = said.trim().parse().unwrap_or_else(|_| panic!("a machine didn't start: {said:?}"));
        let node = Namespace::open(Path::new(&format!("/proc/{init}/ns/net")));
        let whole = !shape.is_empty();
        Some(Self { keeper, init, whole, node: node.unwrap_or_else(|error| panic!("{error:?}")) })
    }

    /// Its network.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// Where a path of its is for others.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// A program to be executed on it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--net", "--pid"]);
        command.args(self.whole.then_some(["--uts", "--ipc", "--cgroup"]).into_iter().flatten());
        command.arg("--").arg(program);
        command
    }

    /// Makes a file on it, and the folders above.
    ///
    /// # Panics
    /// If that can't be done.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) {
        let path = self.path(inside);
        let write = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, content)
        };
        write().unwrap_or_else(|error| panic!("write {path:?}: {error}"));
    }

    /// Puts a program into one of its folders, by its own name.
    ///
    /// # Panics
    /// If that can't be done.
    pub fn install(&self, program: &Path, folder: &str) {
        let name = program.file_name().unwrap_or_default();
        let folder = self.path(folder);
        let copied =
            fs::create_dir_all(&folder).and_then(|()| fs::copy(program, folder.join(name)).map(drop));
        copied.unwrap_or_else(|error| panic!("copy {program:?} to {folder:?}: {error}"));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It has its control groups away when it ends; what failed it has said.
        drop(self.keeper.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::within;

    fn groups(name: &str) -> Vec<PathBuf> {
        let controllers = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let folders = controllers.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        folders.map(|folder| folder.join(name)).filter(|group| group.exists()).collect()
    }

    #[test]
    fn a_machine_keeps_what_is_written_on_it_to_itself() {
        let Some(machine) = Machine::boot() else { return };
        for file in ["/run/selvedge-tests", "/opt/selvedge-tests", "/var/lib/cni/x", "/etc/cni/x"] {
            machine.write(file, "");
            assert!(machine.command("test").args(["-e", file]).status().unwrap().success(), "{file}");
            assert!(!Path::new(file).exists(), "{file} is on the host");
        }
        let own = Namespace::current().unwrap().identity();
        assert_ne!(machine.node().identity(), own);
        assert_eq!(machine.command("ls").arg("/sys/class/net").output().unwrap().stdout, b"lo\n");
    }

    #[test]
    fn nothing_is_left_of_a_machine_whose_test_is_gone() {
        let Some(mut machine) = Machine::boot() else { return };
        let name = format!("selvedge-tests-{}", process::id());
        let (init, name) = (machine.init, fs::read_to_string(machine.path("/run/name")).unwrap_or(name));
        let groups_before = groups(name.trim());
        assert!(!groups_before.is_empty(), "no control group of {name}");
        let inside = machine.path("/sys/fs/cgroup");
        let below = fs::read_dir(&inside).unwrap().flatten().map(|entry| entry.path()).find(|p| p.is_dir());
        fs::create_dir_all(below.unwrap_or(inside).join("a/b")).unwrap();
        machine.command("sh").args(["-c", "sleep 1000 & sleep 1000 &"]).status().unwrap();
        // The end of a process closes its pipes, whatever ended it.
        drop(machine.keeper.stdin.take());
        within(10.0, "the machine goes", || {
            let process = Path::new(&format!("/proc/{init}")).exists();
            let left = groups(name.trim());
            if process || !left.is_empty() { Err(format!("{process} {left:?}")) } else { Ok(()) }
        });
    }
}
