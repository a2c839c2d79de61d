//! Forwarders: asked, told, started and ended.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_datapath::converge::Forwarder;
use selvedge_forward::{Client, ForwardError, Task, file};

use crate::host::HostError;

/// How long a forwarder may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// The program and where it works.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// The program; none where somebody else starts it.
    pub program: Option<PathBuf>,
    /// The directory for its socket.
    pub run_dir: PathBuf,
}

/// A forwarder of this node, whether there is one or not.
#[derive(Debug)]
pub(crate) struct Process<T> {
    tunnel: Tunnel,
    client: Client<T>,
    /// One that we have started, for its exit status.
    child: Option<Child>,
}

impl<T: Task> Process<T> {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Self { client: Client::of(&tunnel.run_dir), tunnel, child: None }
    }

    /// How it is.
    pub(crate) fn observe(&mut self) -> Forwarder<T> {
        // One that has ended is nobody's child any more once that was heard.
        self.child.take_if(|child| !matches!(child.try_wait(), Ok(None)));
        match self.client.get() {
            Ok(Some(report)) => Forwarder::There(report.forwarding),
            Ok(None) => Forwarder::Missing,
            Err(_) => Forwarder::Strange,
        }
    }

    /// Whether one listens, which is quickly seen.
    pub(crate) fn is_there(&self) -> bool {
        self.client.is_there()
    }

    /// Starts one, after the end of one that can't be spoken to, and waits until it listens. One that somebody else has
    /// started since it was looked for serves as well.
    pub(crate) fn start(&mut self) -> Result<(), HostError> {
        match self.client.get() {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(_) => self.end()?,
        }
        let Some(program) = &self.tunnel.program else {
            return Err(HostError::NoForwarder { task: T::NAME });
        };
        let log = file::<T>(&self.tunnel.run_dir, "log");
        let spawned = || -> io::Result<Child> {
            let log = File::options().create(true).append(true).open(&log)?;
            let mut command = Command::new(program);
            command.args([T::NAME, "--run-dir"]).arg(&self.tunnel.run_dir);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
        };
        let failed = |source| HostError::Forwarder {
            program: program.clone(),
            task: T::NAME,
            log: log.clone(),
            source,
        };
        let mut child = spawned().map_err(failed)?;
        let ready = || match child.try_wait() {
            Ok(Some(status)) => Err(failed(io::Error::other(status.to_string()))),
            _ => Ok(self.client.is_there()),
        };
        let listens = wait(ready)?;
        self.child = Some(child);
        if listens { Ok(()) } else { Err(failed(io::ErrorKind::TimedOut.into())) }
    }

    /// Tells it what to do.
    pub(crate) fn tell(&self, forwarding: &T) -> Result<(), HostError> {
        Ok(self.client.set(forwarding)?)
    }

    /// Ends it, and waits until it doesn't listen any more.
    pub(crate) fn end(&self) -> Result<(), HostError> {
        match self.client.end() {
            // Another version may say so in other words.
            Ok(()) | Err(ForwardError::Strange { .. }) => {}
            Err(why) => return Err(why.into()),
        }
        if wait(|| Ok::<_, HostError>(!self.client.is_there()))? {
            return Ok(());
        }
        let still = "it does not end".to_owned();
        Err(ForwardError::Refused(still).into())
    }
}

/// Looks until it is so; false if it takes too long.
fn wait<E>(mut look: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let late = Instant::now() > deadline;
        if look()? {
            return Ok(true);
        }
        if late {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::process;

    use selvedge_forward::{Answer, Counts, PROTOCOL, Report};
    use selvedge_model::Forwarding;

    use super::*;

    /// Who answers as a forwarder of that protocol does, until it is asked for its end.
    fn answering(folder: &Path, protocol: u32) -> thread::JoinHandle<()> {
        fs::create_dir_all(folder).unwrap();
        let listener = UnixListener::bind(file::<Forwarding>(folder, "sock")).unwrap();
        let report = Report {
            protocol,
            pid: process::id(),
            version: String::new(),
            device: String::new(),
            queues: 1,
            forwarding: None::<Forwarding>,
            counters: Counts::default(),
        };
        thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let end = line.contains("end");
                let answer = if end { Answer::Done(true) } else { Answer::State(report.clone()) };
                writeln!(&stream, "{}", serde_json::to_string(&answer).unwrap()).ok();
                if end {
                    break;
                }
            }
        })
    }

    #[test]
    fn a_forwarder_that_came_meanwhile_is_taken_and_one_that_cannot_be_spoken_to_is_ended() {
        for (protocol, ended) in [(PROTOCOL, false), (PROTOCOL + 1, true)] {
            let folder = env::temp_dir().join(format!("selvedge-forwarder-{}-{protocol}", process::id()));
            let forwarder = answering(&folder, protocol);
            let mut process = Process::<Forwarding>::new(Tunnel { program: None, run_dir: folder.clone() });
            let started = process.start();
            assert_eq!(started.is_err(), ended, "{started:?}");
            if !ended {
                process.client.end().unwrap();
            }
            forwarder.join().unwrap();
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
