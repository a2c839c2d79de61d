//! One timed call of a CNI plugin.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::BenchError;

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb<'a> {
    Add,
    /// With what ADD printed.
    Del(&'a Value),
    Version,
}

impl Verb<'_> {
    /// As CNI_COMMAND spells it.
    fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del(_) => "DEL",
            Self::Version => "VERSION",
        }
    }
}

/// A plugin's program, and the network configuration it is called with.
#[derive(Debug, Clone)]
pub(crate) struct Plugin {
    pub(crate) program: PathBuf,
    pub(crate) config: Value,
}

/// Whom a call is about.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// The path of its namespace.
    pub(crate) netns: PathBuf,
}

/// A container id as runtimes make them, 64 hexadecimal digits that differ from the first on; the same for the same
/// number.
pub(crate) fn container_id(number: u64) -> String {
    // Odd, and so without a repetition: 2^64 divided by the golden ratio.
    let scattered = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{scattered:016x}").repeat(4)
}

/// A call with everything ready, so that nothing but the program is timed.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    verb: &'static str,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Call {
    /// Writes the call's input to a folder, where its output will go too, so that no pipe is waited for.
    pub(crate) fn prepare(
        plugin: &Plugin,
        verb: Verb<'_>,
        container: &Container,
        folder: &Path,
    ) -> Result<Self, BenchError> {
        let file = |kind| folder.join(format!("{}.{kind}", container.id));
        let (stdin, stdout, stderr) = (file("stdin"), file("stdout"), file("stderr"));
        let created = |path| File::create(path).map_err(|source| BenchError::file("create", path, source));
        let mut config = plugin.config.clone();
        if let Verb::Del(previous) = verb {
            config["prevResult"] = previous.clone();
        }
        fs::write(&stdin, config.to_string()).map_err(|source| BenchError::file("write", &stdin, source))?;
        let input = File::open(&stdin).map_err(|source| BenchError::file("open", &stdin, source))?;
        let mut command = Command::new(&plugin.program);
        command.env_clear().stdin(input).stdout(created(&stdout)?).stderr(created(&stderr)?);
        command.env("CNI_COMMAND", verb.name()).env("CNI_CONTAINERID", &container.id);
        command.env("CNI_IFNAME", "eth0").env("CNI_NETNS", &container.netns);
        command.envs(plugin.program.parent().map(|folder| ("CNI_PATH", folder)));
        Ok(Self { command, verb: verb.name(), stdout, stderr })
    }

    /// Runs the program with a stdout that takes nothing until it waits for that, reads the most that it has had
    /// resident, in bytes, and lets it end; what it printed.
    pub(crate) fn peak_memory(mut self) -> Result<(u64, String), BenchError> {
        let program = PathBuf::from(self.command.get_program());
        let failed = |source| BenchError::file("run", &program, source);
        let (mut reader, mut writer) = std::io::pipe().map_err(failed)?;
        writer.write_all(&[b' '; PIPE]).map_err(failed)?;
        let mut child = self.command.stdout(writer).spawn().map_err(failed)?;
        // It has the other end of the pipe too.
        drop(self.command);
        let until = Instant::now() + PATIENCE;
        while !writes(child.id()) && Instant::now() < until && child.try_wait().map_err(failed)?.is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        let bytes = peak_of(child.id());
        let mut output = String::new();
        reader.read_to_string(&mut output).map_err(failed)?;
        let status = child.wait().map_err(failed)?;
        match bytes.filter(|_| status.success()) {
            Some(bytes) => Ok((bytes, output.trim().to_owned())),
            None => Err(BenchError::Call { program: program.clone(), verb: self.verb, status, output }),
        }
    }

    /// Runs the program to its end, in the caller's namespaces, and says when that was and what it printed.
    pub(crate) fn run(mut self) -> Result<(Instant, String), BenchError> {
        let status = self.command.status();
        let ended = Instant::now();
        let program = || PathBuf::from(self.command.get_program());
        let status = status.map_err(|source| BenchError::file("run", &program(), source))?;
        let read = |path| fs::read_to_string(path).map_err(|source| BenchError::file("read", path, source));
        let output = read(&self.stdout)?;
        if status.success() {
            return Ok((ended, output));
        }
        let output = format!("{output}\n{}", read(&self.stderr)?);
        Err(BenchError::Call { program: program(), verb: self.verb, status, output })
    }
}

/// What fills a pipe.
const PIPE: usize = 64 << 10;

/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// True if a thread of a process waits until it can write to a pipe.
fn writes(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let waits = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("wchan")).unwrap_or_default();
    threads.map(waits).any(|place| place.contains("pipe_write"))
}

/// The most memory that a process has had resident until now, in bytes.
fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
