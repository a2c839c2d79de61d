//! Programs that run on a machine for long.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Machine;

use crate::kubernetes::folder::{Folder, Programs};

/// One of them, killed with its machine.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    pid: PathBuf,
}

impl Daemon {
    /// Starts it in the machine's control groups; its log is `logs/NAME.log` of the cluster's folder.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(
        (machine, name): (&Machine, &str),
        (folder, programs): (&Folder, &Programs),
        line: &[String],
    ) -> Self {
        let log = folder.make("logs").join(format!("{name}.log"));
        let pid = machine.path(&format!("/run/{name}.pid"));
        let script = "pid=$1 log=$2; shift 2
            for group in /sys/fs/cgroup/*/cgroup.procs; do echo 0 >\"$group\"; done
            echo $$ >\"$pid\"; exec \"$@\" >>\"$log\" 2>&1";
        let mut command = machine.command("sh");
        command.args(["-c", script, name]).arg(format!("/run/{name}.pid")).arg(log).args(line);
        command.env_clear().env("PATH", programs.path()).stdin(Stdio::null());
        Self { child: command.spawn().unwrap(), pid }
    }

    /// Kills it, as kill -9 does, and waits for its end.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn kill(mut self, machine: &Machine) {
        let pid = fs::read_to_string(&self.pid).unwrap();
        machine.kill(pid.trim().parse().unwrap());
        self.child.wait().unwrap();
    }

    /// Looks whether it runs.
    ///
    /// # Panics
    /// If it has ended.
    pub fn must_run(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "{} has ended", self.pid.display());
    }
}

/// The words of a command line: the program, then what is split at white space.
pub fn line(program: &Path, arguments: &str) -> Vec<String> {
    let words = arguments.split_whitespace().map(str::to_owned);
    std::iter::once(program.display().to_string()).chain(words).collect()
}

/// A command on a machine with the cluster's programs.
pub fn command(machine: &Machine, programs: &Programs, program: &Path) -> Command {
    let mut command = machine.command(program);
    command.env_clear().env("PATH", programs.path()).env("HOME", "/run");
    command
}
