//! The lab's own processes. None of them is started by hand: `selvedgectl lab supervise` is what `run` and `up` start.
//!
//! The first makes the namespaces and starts the second in them, which is the PID namespace's first process: it builds
//! the lab and serves it. All that the lab ever starts lives in that PID namespace, so when the second ends, by itself
//! or by a signal, the kernel ends the rest, and with the last of them go mounts and network namespaces. The second in
//! turn ends when whoever started the lab hangs up, unless the lab is to stand on.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal, setsid};

use selvedge_model::chain;

use crate::cluster::{Cluster, LabError, Setup};
use crate::contain;
use crate::patience::patience;
use crate::wire::{Reply, Request, Start, Wire, receive};

/// The arguments with which the first of the lab's processes is started, a socket as its standard input.
pub const SUPERVISE: [&str; 2] = ["lab", "supervise"];

/// The argument that the second process has on top.
pub const INSIDE: &str = "--inside";

/// The directory of the lab's files, in its own `/run`.
const FILES: &str = "/run/selvedge-lab";

/// Where the namespaces are kept by name, in the lab's own `/run`: where `ip netns` looks for them.
const NETNS: &str = "/run/netns";

/// How long somebody who connected may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first process: makes the namespaces, then waits for the second. The process must have one thread only.
pub fn outside() -> ExitCode {
    let ended = contain::unshare().map_err(|error| chain(&error)).and_then(|()| {
        let program =
            std::env::current_exe().map_err(|error| format!("find the running program: {error}"))?;
        let status = Command::new(&program).args(SUPERVISE).arg(INSIDE).status();
        status.map_err(|error| format!("start {program:?} in the lab's namespaces: {error}"))
    });
    match ended {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(text) => {
            // If nobody is there to hear it, nobody is there to be told.
            front().and_then(|mut front| front.send(&Reply::Failed(text))).ok();
            ExitCode::FAILURE
        }
    }
}

/// The second process: builds the lab and serves it until it is told to take it down.
pub fn inside() -> ExitCode {
    let Ok(mut front) = front() else { return ExitCode::FAILURE };
    let Ok(Some(start)) = front.receive::<Start>() else { return ExitCode::FAILURE };
    match stand(&start, front) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

/// The connection to whoever started the lab.
fn front() -> io::Result<Wire> {
    Wire::new(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn stand(start: &Start, front: Wire) -> Result<(), ()> {
    let (reader, writer) = front.split();
    let standing = Arc::new(AtomicBool::new(false));
    let requests = listen_to_front(reader, Arc::clone(&standing));
    let mut say = writer_of(writer);
    let built = build(start, &mut say);
    let (mut cluster, listener) = match built {
        Ok(built) => built,
        Err(text) => {
            say(&Reply::Failed(text));
            return Err(());
        }
    };
    standing.store(listener.is_some(), Ordering::SeqCst);
    say(&Reply::Status(cluster.status()));
    match listener {
        None => serve_front(&mut cluster, &requests, say),
        Some(listener) => serve_all(&mut cluster, &listener),
    }
    Ok(())
}

/// Reads what whoever started the lab asks for. When they hang up, everything ends, unless the lab stands on.
fn listen_to_front(mut reader: io::BufReader<UnixStream>, standing: Arc<AtomicBool>) -> Receiver<Request> {
    let (sender, requests) = channel();
    thread::spawn(move || {
        while let Ok(Some(request)) = receive(&mut reader) {
            if sender.send(request).is_err() {
                return;
            }
        }
        if !standing.load(Ordering::SeqCst) {
            end();
        }
    });
    requests
}

#[expect(clippy::exit, reason = "the end of this process is what takes the lab away, whatever it is doing")]
fn end() {
    std::process::exit(1)
}

/// A function that sends replies; that nobody listens any more is noticed by the one who reads.
fn writer_of(mut stream: UnixStream) -> impl FnMut(&Reply) {
    move |reply| {
        let line = serde_json::to_string(reply).unwrap_or_default();
        io::Write::write_all(&mut stream, format!("{line}\n").as_bytes()).ok();
    }
}

fn build(start: &Start, say: &mut impl FnMut(&Reply)) -> Result<(Cluster, Option<UnixListener>), String> {
    // Whoever kills the first process means the lab.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|errno| chain(&errno))?;
    let listener = match &start.standing {
        None => None,
        Some(path) => {
            setsid().map_err(|errno| chain(&errno))?;
            // The socket is the host's, so it is made before the host's /run is out of sight.
            Some(UnixListener::bind(path).map_err(|error| format!("listen at {}: {error}", path.display()))?)
        }
    };
    contain::furnish().map_err(|error| chain(&error))?;
    let setup = Setup {
        shape: start.recipe.shape.clone(),
        bin_dir: start.recipe.bin_dir.clone(),
        files: PathBuf::from(FILES),
        netns: PathBuf::from(NETNS),
    };
    for directory in [&setup.files, &setup.netns] {
        make(directory)?;
    }
    let built = Cluster::build(setup, |doing| say(&Reply::Progress(doing.to_owned())));
    Ok((built.map_err(|error| chain(&error))?, listener))
}

fn make(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| format!("make {}: {error}", directory.display()))
}

fn serve_front(cluster: &mut Cluster, requests: &Receiver<Request>, mut say: impl FnMut(&Reply)) {
    while let Ok(request) = requests.recv() {
        say(&answer(cluster, request));
        if request == Request::Down {
            return;
        }
    }
}

fn serve_all(cluster: &mut Cluster, listener: &UnixListener) {
    for stream in listener.incoming().flatten() {
        // One request a connection, and one connection at a time: nobody may keep the others waiting.
        let asked = stream.set_read_timeout(Some(patience(PATIENCE))).and_then(|()| Wire::new(stream));
        let Ok(mut wire) = asked else { continue };
        let Ok(Some(request)) = wire.receive::<Request>() else { continue };
        // Whoever has hung up in the meantime does not want the answer.
        wire.send(&answer(cluster, request)).ok();
        if request == Request::Down {
            return;
        }
    }
}

fn answer(cluster: &mut Cluster, request: Request) -> Reply {
    let failed = |error: LabError| Reply::Failed(chain(&error));
    match request {
        Request::Status => Reply::Status(cluster.status()),
        Request::Words => Reply::Words(cluster.words()),
        Request::Matrix => cluster.matrix().map_or_else(failed, Reply::Matrix),
        Request::Down => cluster.detach_pods().map_or_else(failed, Reply::Down),
    }
}
