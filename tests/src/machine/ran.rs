//! Programs that run on a machine to their end, and its processes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use selvedge_netns::Namespace;

use super::Machine;

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    /// The program and its arguments.
    pub line: String,
    /// The exit code; none if it was killed.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    /// Runs a command to its end, without anything on stdin.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output();
        let Output { status, stdout, stderr } = output.unwrap_or_else(|e| panic!("run {command:?}: {e}"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let arguments = command.get_args().map(|argument| argument.to_string_lossy());
        let line = arguments.skip_while(|argument| argument != "--").skip(1).collect::<Vec<_>>().join(" ");
        Self { line, code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// What it wrote to stdout, without the last line's end; it must have succeeded.
    ///
    /// # Panics
    /// If it hasn't.
    pub fn must_succeed(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}\n{}{}", self.line, self.stdout, self.stderr);
        self.stdout.trim_end()
    }

    /// What it wrote to stderr; it must have failed by itself.
    ///
    /// # Panics
    /// If it has succeeded or was killed.
    pub fn must_fail(&self) -> &str {
        let failed = self.code.is_some_and(|code| code != 0);
        assert!(failed, "{}: {:?}\n{}{}", self.line, self.code, self.stdout, self.stderr);
        self.stderr.trim_end()
    }
}

impl Machine {
    /// Runs a program on it to its end.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        Ran::of(self.command(program).args(arguments))
    }

    /// Has the libraries of unpacked Debian packages found on it, where it has none by their names.
    ///
    /// # Panics
    /// If they can't be mounted.
    pub fn find_libraries(&self, packages: &Path) {
        let libraries =
            fs::read_dir(packages.join("usr/lib")).unwrap_or_else(|e| panic!("{packages:?}: {e}"));
        let folders = libraries.flatten().map(|entry| entry.path());
        for unpacked in folders.filter(|path| path.to_string_lossy().contains("-linux-gnu")) {
            let installed = Path::new("/usr/lib").join(unpacked.file_name().unwrap_or_default());
            let installed = installed.display().to_string();
            let layers = format!("lowerdir={installed}:{}", unpacked.display());
            self.run("mount", &["-t", "overlay", "-o", &layers, "overlay", &installed]).must_succeed();
        }
    }

    /// Its processes of a name (the first 15 bytes of the program's), as it counts them.
    ///
    /// # Panics
    /// If they can't be listed.
    pub fn processes(&self, name: &str) -> Vec<u32> {
        let listed = fs::read_dir(self.path("/proc")).unwrap_or_else(|error| panic!("{error}"));
        let ids = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let named = |id: &u32| {
            let comm = fs::read_to_string(self.path(&format!("/proc/{id}/comm")));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        };
        ids.filter(named).collect()
    }

    /// Kills one of its processes, as kill -9 does.
    ///
    /// # Panics
    /// If there is no such process any more.
    pub fn kill(&self, process: u32) {
        self.run("sh", &["-c", &format!("kill -9 {process}")]).must_succeed();
    }

    /// The network namespace of one of its processes.
    ///
    /// # Panics
    /// If there is no such process.
    pub fn network_of(&self, process: u32) -> Namespace {
        let path = self.path(&format!("/proc/{process}/ns/net"));
        Namespace::open(&path).unwrap_or_else(|error| panic!("{error:?}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Machine, within};

    #[test]
    fn a_machines_processes_are_found_and_killed_by_its_own_numbers() {
        let Some(machine) = Machine::boot() else { return };
        let waits = || machine.processes("tail").pop();
        machine.run("sh", &["-c", "tail -f /dev/null >/dev/null 2>&1 &"]).must_succeed();
        let id = within(20.0, "tail runs", || waits().ok_or_else(String::new));
        assert_eq!(machine.network_of(id).identity(), machine.node().identity());
        machine.kill(id);
        within(20.0, "tail is gone and buried", || waits().map_or(Ok(()), |id| Err(id.to_string())));
        assert_eq!(machine.run("cat", &["/nowhere"]).must_fail(), "cat: /nowhere: No such file or directory");
    }

    #[test]
    fn memory_that_processes_of_a_machine_share_is_not_shared_with_others() {
        let Some(machine) = Machine::boot() else { return };
        machine.run("sh", &["-c", ": >/dev/shm/selvedge-tests-shared"]).must_succeed();
        assert!(!std::path::Path::new("/dev/shm/selvedge-tests-shared").exists());
    }
}
