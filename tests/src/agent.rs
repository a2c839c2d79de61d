//! A node agent under test: started, asked, killed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use selvedge_netns::Namespace;
use selvedge_reconcile::Status;
use serde_json::{Value, json};

use crate::{bin_dir, program, within};

/// A running agent, killed when dropped and when the test process is.
#[derive(Debug)]
pub struct Agent {
    pid: Pid,
    folder: PathBuf,
    /// Ends with the agent, and has its exit status.
    keeper: Option<JoinHandle<ExitStatus>>,
}

impl Agent {
    /// Starts the agent of a node in its namespace and returns at once. Below `folder` are its configuration
    /// `agent.yaml`, and what it makes itself; `source` is the flag that names what tells of the cluster, and its path.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(name: &str, node: &Namespace, (folder, source): (&Path, (&str, &Path))) -> Self {
        Self::start_with(name, node, (folder, source, &[]))
    }

    /// The same with more flags; the plugins' directory may be among them.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start_with(name: &str, node: &Namespace, on: (&Path, (&str, &Path), &[(&str, &Path)])) -> Self {
        let (folder, command) = (on.0, command(name, on));
        let node = node.try_clone().unwrap_or_else(|error| panic!("{error}"));
        let (sender, started) = mpsc::channel();
        // The kernel counts as the parent the thread that started the program: it lives as long as the program does.
        let keeper = thread::spawn(move || {
            let ran = node.run(|| keep(command, &sender));
            ran.unwrap_or_else(|error| panic!("{error}"))
        });
        let pid = started.recv().unwrap_or_else(|_gone| panic!("start selvedge-agent with setpriv"));
        Self { pid, folder: folder.to_owned(), keeper: Some(keeper) }
    }

    /// Kills it, as kill -9 does, and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let keeper = self.keeper.take().unwrap_or_else(|| panic!("the agent has ended before"));
        within(20.0, "the agent ends", || {
            if keeper.is_finished() { Ok(()) } else { Err(format!("it still runs\n{}", self.log())) }
        });
        keeper.join().unwrap_or_else(|_panic| panic!("the agent's thread panicked"))
    }

    /// Has it stand still.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Has it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// What it answers on its socket to a request; nothing if it doesn't.
    pub fn ask(&self, request: &Value) -> Option<Value> {
        let mut socket = UnixStream::connect(self.socket()).ok()?;
        socket.write_all(format!("{request}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// What it says of itself, once it says something.
    ///
    /// # Panics
    /// If it doesn't in time.
    pub fn status(&self) -> Status {
        within(10.0, "the agent says how it is", || {
            let answer = self.ask(&json!({"get": "status"})).ok_or_else(|| self.log())?;
            serde_json::from_value(answer).map_err(|error| error.to_string())
        })
    }

    /// Waits until it serves pods by what it knows of the cluster.
    ///
    /// # Panics
    /// If it doesn't in time.
    pub fn wait_until_ready(&self) {
        within(20.0, "the agent is ready", || {
            let status = self.status();
            let by_what_was = format!("{:?}", status.state).contains("no complete listing");
            if status.state.serves() && !by_what_was {
                Ok(())
            } else {
                Err(format!("{:?}\n{}", status.state, self.log()))
            }
        });
    }

    /// Its process.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/agent.sock")
    }

    /// What it, and those before it on its node, printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself. Nobody else can have its number before the keeper has seen that.
        kill_process(self.pid, signal).ok();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take().filter(|keeper| !keeper.is_finished()) {
            self.signal(Signal::KILL);
            drop(keeper.join());
        }
    }
}

fn command(name: &str, (folder, source, more): (&Path, (&str, &Path), &[(&str, &Path)])) -> Command {
    let log = File::options().create(true).append(true).open(folder.join("agent.log"));
    let log = log.unwrap_or_else(|error| panic!("open the log in {folder:?}: {error}"));
    let mut command = Command::new("setpriv");
    // What deploy/selvedge.yaml grants it, and nothing more.
    command.args(["--bounding-set", "-all,+net_admin", "--inh-caps", "-all", "--no-new-privs"]);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program("selvedge-agent"));
    command.args(["--node", name, source.0]).arg(source.1);
    command.arg("--config").arg(folder.join("agent.yaml"));
    command.arg("--cni-conf-dir").arg(folder.join("net.d"));
    let bin_dir = bin_dir();
    let plugins = ("--cni-bin-dir", bin_dir.as_path());
    let usual = Some(plugins).filter(|(flag, _)| more.iter().all(|(other, _)| other != flag));
    usual.iter().chain(more).for_each(|(flag, value)| {
        command.arg(flag).arg(value);
    });
    command.arg("--run-dir").arg(folder.join("run"));
    let told = log.try_clone().unwrap_or_else(|error| panic!("open the log in {folder:?}: {error}"));
    command.stdin(Stdio::null()).stdout(told).stderr(log);
    command
}

fn keep(mut command: Command, started: &mpsc::Sender<Pid>) -> ExitStatus {
    let child = command.spawn();
    let mut child = child.unwrap_or_else(|error| panic!("start selvedge-agent with setpriv: {error}"));
    // Whoever waits for it may have given up.
    started.send(Pid::from_child(&child)).ok();
    child.wait().unwrap_or_else(|error| panic!("wait for selvedge-agent: {error}"))
}
