//! Forwarders: asked, told, started and ended.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_datapath::converge::Forwarder;
use selvedge_forward::{Client, ForwardError, Task, file};
use tracing::warn;

use crate::host::HostError;

/// How long a forwarder may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// How long a forwarder may take to answer anything at all.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(1);

/// How long one that hasn't answered just before may take to answer.
const PATIENCE_THEN: Duration = Duration::from_millis(200);

/// For how long one that didn't answer isn't asked again, in parts of the time that it hasn't answered for, and at least
/// and at most: nothing else is done while it is asked.
const REST: u32 = 8;
const REST_LEAST: Duration = Duration::from_millis(300);
const REST_MOST: Duration = Duration::from_secs(10);

/// For how long one doesn't answer before it is killed.
const OVERDUE: Duration = Duration::from_secs(5);

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
    /// Set while it doesn't answer.
    silence: Option<Silence>,
}

/// That a forwarder doesn't answer.
#[derive(Debug)]
struct Silence {
    /// When that was first seen.
    since: Instant,
    /// When it was seen last.
    seen: Instant,
    /// The same in words.
    said: String,
    /// Whether we see its process.
    in_sight: bool,
}

impl Silence {
    fn lasts(&self) -> Duration {
        self.seen.duration_since(self.since)
    }

    /// How long to leave it alone.
    fn rest(&self) -> Duration {
        (self.lasts() / REST).clamp(REST_LEAST, REST_MOST)
    }
}

/// What is quickly seen of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// There is none.
    Nobody,
    /// One that answers.
    Answers,
    /// One that doesn't.
    Hangs,
    /// One that hasn't for so long that it is to be killed.
    Overdue,
}

impl<T: Task> Process<T> {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Self { client: Client::of(&tunnel.run_dir), tunnel, child: None, silence: None }
    }

    /// How it is.
    pub(crate) fn observe(&mut self) -> Forwarder<T> {
        // One that has ended is nobody's child any more once that was heard.
        self.child.take_if(|child| !matches!(child.try_wait(), Ok(None)));
        if self.silence.is_some() && self.glance_at(Instant::now()) != Sight::Answers {
            return self.hung().unwrap_or(Forwarder::Missing);
        }
        let got = self.client.get();
        match self.heard(got) {
            Ok(Some(report)) => Forwarder::There(report.forwarding),
            Ok(None) => Forwarder::Missing,
            Err(_) => self.hung().unwrap_or(Forwarder::Strange),
        }
    }

    /// Whether there is one and answers, which is quickly seen.
    pub(crate) fn glance(&mut self) -> Sight {
        self.glance_at(Instant::now())
    }

    /// One that didn't answer is asked again with less patience, and not if it has just been asked. Before it is killed
    /// it gets as much time as any.
    fn glance_at(&mut self, now: Instant) -> Sight {
        let patience = match &self.silence {
            Some(silence) if now.duration_since(silence.seen) < silence.rest() => return self.sight(),
            Some(silence) if now.duration_since(silence.since) < OVERDUE || !self.may_kill() => PATIENCE_THEN,
            _ => PATIENCE_AT_FIRST,
        };
        let answered = self.client.answers(patience);
        match self.heard(answered) {
            Ok(Some(())) => Sight::Answers,
            Ok(None) => Sight::Nobody,
            // It is there at least.
            Err(_) if self.silence.is_none() => Sight::Answers,
            Err(_) => self.sight(),
        }
    }

    /// How one is that doesn't answer, by what was heard of it last.
    fn sight(&self) -> Sight {
        if self.is_overdue() { Sight::Overdue } else { Sight::Hangs }
    }

    /// Only where others would be started by us: elsewhere who starts them sees to them.
    fn may_kill(&self) -> bool {
        self.tunnel.program.is_some() && self.silence.as_ref().is_some_and(|silence| silence.in_sight)
    }

    /// Whether it was asked again after that time, and didn't answer then either.
    fn is_overdue(&self) -> bool {
        let most = OVERDUE + PATIENCE_AT_FIRST;
        let long = |silence: &Silence| silence.lasts() >= most;
        self.may_kill() && self.silence.as_ref().is_some_and(long)
    }

    fn hung(&self) -> Option<Forwarder<T>> {
        let said = self.silence.as_ref()?.said.clone();
        Some(Forwarder::Hung { said, overdue: self.is_overdue() })
    }

    /// Remembers whether it has answered.
    fn heard<O>(&mut self, outcome: Result<O, ForwardError>) -> Result<O, ForwardError> {
        match &outcome {
            Err(why @ ForwardError::Hung { pid, .. }) => {
                let seen = Instant::now();
                let since = self.silence.as_ref().map_or(seen, |silence| silence.since);
                let said = format!("{}: {why}", T::NAME);
                self.silence = Some(Silence { since, seen, said, in_sight: pid.is_some() });
            }
            _ => self.silence = None,
        }
        outcome
    }

    /// Fails where it is known not to answer: nothing waits for it twice.
    fn unless_hung(&self) -> Result<(), HostError> {
        match &self.silence {
            Some(silence) => Err(HostError::Hung { said: silence.said.clone() }),
            None => Ok(()),
        }
    }

    /// Starts one, after the end of one that can't be spoken to, and waits until it listens. One that somebody else has
    /// started since it was looked for serves as well.
    pub(crate) fn start(&mut self) -> Result<(), HostError> {
        if self.is_overdue() {
            self.kill()?;
        }
        self.unless_hung()?;
        let got = self.client.get();
        match self.heard(got) {
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
    pub(crate) fn tell(&mut self, forwarding: &T) -> Result<(), HostError> {
        self.unless_hung()?;
        let told = self.client.set(forwarding);
        Ok(self.heard(told)?)
    }

    /// Kills it, and waits until it doesn't listen any more, as it does at once.
    fn kill(&mut self) -> Result<(), HostError> {
        if self.client.kill()? && wait(|| Ok::<_, HostError>(!self.client.is_there()))? {
            warn!(forwarder = T::NAME, "killed: it didn't answer");
            self.silence = None;
        }
        Ok(())
    }

    /// Ends it, and waits until it doesn't listen any more.
    pub(crate) fn end(&mut self) -> Result<(), HostError> {
        if self.is_overdue() {
            self.kill()?;
            return self.unless_hung();
        }
        self.unless_hung()?;
        let ended = self.client.end();
        match self.heard(ended) {
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
    fn one_that_does_not_answer_is_waited_for_once_and_then_named_by_every_step() {
        let folder = env::temp_dir().join(format!("selvedge-forwarder-{}-hung", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(file::<Forwarding>(&folder, "sock")).unwrap();
        let mut process = Process::<Forwarding>::new(Tunnel { program: None, run_dir: folder.clone() });
        let told = Forwarding { port: 1, local: "10.0.0.1".parse().unwrap(), peers: Vec::new() };
        let began = Instant::now();
        assert_eq!(process.glance(), Sight::Hangs);
        let Forwarder::Hung { said, overdue: false } = process.observe() else { panic!("it hangs") };
        assert!(said.contains(&format!("(process {}) doesn't answer", process::id())), "{said}");
        for outcome in [process.start(), process.tell(&told), process.end()] {
            assert!(matches!(outcome, Err(HostError::Hung { said: same }) if same == said));
        }
        assert!(began.elapsed() < 2 * PATIENCE_AT_FIRST, "{:?}", began.elapsed());
        // Nobody kills what he couldn't start again, however long it takes.
        let Some(silence) = &mut process.silence else { panic!("it hangs") };
        silence.since -= 3 * OVERDUE;
        assert_eq!(process.glance(), Sight::Hangs);
        process.tunnel.program = Some(PathBuf::new());
        assert_eq!(process.glance(), Sight::Overdue);
        drop(listener);
        if let Some(silence) = &mut process.silence {
            silence.seen -= 2 * OVERDUE;
        }
        assert_eq!(process.glance(), Sight::Nobody);
        assert_eq!(process.observe(), Forwarder::Missing);
        fs::remove_dir_all(folder).unwrap();
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
