//! A call of the plugin under strace: its system calls recorded, killed at one of them, or one of them failed.
//!
//! strace counts the calls of each thread by themselves: the Nth of a name is that of whichever thread comes to it
//! first.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use selvedge_netns::Namespace;
use selvedge_tests::{Call, Stage, skipped};

/// Why the sweeps cannot run here.
const NO_STRACE: &str = "no strace that may trace and inject";

/// SIGKILL.
const KILLED: i32 = 9;

/// strace, which this user may use to inject.
pub(crate) struct Strace {
    /// What it prints, anew for each call.
    record: PathBuf,
}

/// How a call ended, whatever it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How.
    pub(crate) status: ExitStatus,
    /// Everything on stdout.
    pub(crate) stdout: String,
    /// Everything on stderr.
    pub(crate) stderr: String,
}

/// A system call of a call: its name, and its number among those of the same name in one thread, from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// The system call's name.
    pub(crate) name: String,
    /// Which of them.
    pub(crate) number: u32,
    /// True if the plugin itself makes it, and not the loader or the language's runtime before it.
    pub(crate) own: bool,
}

/// What strace does at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inject {
    /// Kills the process before the system call is carried out.
    Kill,
    /// Has the system call fail with this error, and carries nothing out.
    Error(&'static str),
}

/// The points of a recorded call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recording {
    /// Every point that strace can be told.
    pub(crate) points: Vec<Point>,
    /// The system calls it has seen.
    pub(crate) seen: usize,
}

impl Recording {
    /// The system calls of further threads that strace can't be told, because the first thread comes to that number of
    /// that name before them. In the plugin a further thread opens a socket in the pod's namespace while the first one
    /// waits for it, and changes nothing that outlives the process.
    pub(crate) fn beside(&self) -> usize {
        self.seen - self.points.len()
    }
}

impl Strace {
    /// strace for a stage; `None` where there is none that may inject, which has been said.
    pub(crate) fn new(stage: &Stage) -> Option<Self> {
        let injected = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=mkdir",
                "-e",
                "inject=mkdir:signal=KILL:when=1",
            ])
            .args(["mkdir", "/proc/selvedge"])
            .stderr(Stdio::null())
            .status();
        if injected.is_ok_and(|status| status.signal() == Some(KILLED)) {
            return Some(Self { record: stage.folder().join("strace") });
        }
        skipped(NO_STRACE);
        None
    }

    /// Makes a call, which must succeed, and records its system calls.
    pub(crate) fn record(&self, call: &Call, node: &Namespace) -> Recording {
        let ended = self.run(call, &["-s", "0"], node);
        assert!(ended.status.success(), "the call fails undisturbed: {}{}", ended.stdout, ended.stderr);
        recording(&fs::read_to_string(&self.record).unwrap())
    }

    /// Makes a call and injects something at a point; how the call ended, and whether it came to that point.
    pub(crate) fn disturb(
        &self,
        call: &Call,
        (point, inject): (&Point, Inject),
        node: &Namespace,
    ) -> (Ended, bool) {
        let Point { name, number, .. } = point;
        let what = match inject {
            Inject::Kill => "signal=KILL".to_owned(),
            Inject::Error(error) => format!("error={error}"),
        };
        let (trace, inject_it) = (format!("trace={name}"), format!("inject={name}:{what}:when={number}"));
        let mut options = vec!["-s", "0", "-e", trace.as_str(), "-e", inject_it.as_str()];
        // With a filter in the kernel the signal would come only after the system call.
        if inject != Inject::Kill {
            options.push("--seccomp-bpf");
        }
        let ended = self.run(call, &options, node);
        let reached = match inject {
            Inject::Kill => ended.status.signal() == Some(KILLED),
            Inject::Error(_) => fs::read_to_string(&self.record).unwrap().contains("(INJECTED)"),
        };
        (ended, reached)
    }

    fn run(&self, call: &Call, options: &[&str], node: &Namespace) -> Ended {
        let record = self.record.display().to_string();
        let words = ["strace", "-f", "-qq", "-o", record.as_str()].into_iter().chain(options.iter().copied());
        let output = call.clone().under(words).start(node).output();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// Reads lines like `1234 openat(AT_FDCWD, ""..., O_RDONLY) = 3` in the order in which the calls began.
fn recording(text: &str) -> Recording {
    let mut threads: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    let mut recording = Recording::default();
    // The plugin's first act is to read its configuration.
    let mut own = false;
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        // Not the second halves of calls, signals and ends.
        let Some((name, arguments)) = rest.trim_start().split_once('(').filter(|(name, _)| is_name(name))
        else {
            continue;
        };
        // By this one strace becomes the plugin.
        if name == "execve" {
            continue;
        }
        own |= name == "read" && arguments.starts_with("0,");
        let number = threads.entry(thread).or_default().entry(name).or_default();
        *number += 1;
        recording.seen += 1;
        let known = recording.points.iter().any(|point| point.name == name && point.number == *number);
        if !known {
            recording.points.push(Point { name: name.to_owned(), number: *number, own });
        }
    }
    recording
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn a_recording_counts_the_calls_of_each_thread_by_themselves() {
    let text = "7 execve(\"\"..., [\"\"...], 0x7 /* 40 vars */) = 0\n\
                7 read(3, \"\"..., 832) = 832\n\
                7 read(0, \"\"..., 8192) = 154\n\
                7 futex(0x7f, FUTEX_WAIT, 28117, NULL <unfinished ...>\n\
                8 read(4, \"\"..., 8192) = 154\n\
                8 +++ exited with 0 +++\n\
                7 <... futex resumed>) = 0\n\
                7 --- SIGTERM {si_signo=SIGTERM} ---\n\
                7 read(5, \"\"..., 8192) = 154\n";
    let recording = recording(text);
    let point = |name: &str, number, own| Point { name: name.to_owned(), number, own };
    assert_eq!((recording.seen, recording.beside()), (5, 1));
    let expected =
        [point("read", 1, false), point("read", 2, true), point("futex", 1, true), point("read", 3, true)];
    assert_eq!(recording.points, expected);
}
