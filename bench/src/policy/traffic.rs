//! One pod that asks another, again and again.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown, sockopt};
use rustix::thread::{CpuSet, sched_setaffinity};
use selvedge_netns::Namespace;

use crate::error::BenchError;

/// The port that policies admit between the two pods.
pub(crate) const ADMITTED: u16 = 8080;
/// One that no policy does.
pub(crate) const REFUSED: u16 = 8081;

/// How long nothing comes of one that is refused.
const SILENCE: Duration = Duration::from_millis(400);

/// A pod that gives back every byte it gets, one connection at a time, on each of its ports.
#[derive(Debug)]
pub(crate) struct Echo {
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn serve(pod: &Namespace) -> Result<Self, BenchError> {
        let mut echo = Self { listeners: Vec::new(), threads: Vec::new() };
        for port in [ADMITTED, REFUSED] {
            let listener = pod.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
            let listener = listener.map_err(|source| BenchError::system("listen in a pod", source))?;
            let kept = listener.try_clone();
            echo.listeners.push(kept.map_err(|source| BenchError::system("listen in a pod", source))?);
            echo.threads.push(thread::spawn(move || {
                stay_on_one_core();
                // A listener that is shut down accepts no more.
                while let Ok((stream, _)) = listener.accept() {
                    // Whoever asks ends a connection by a reset.
                    drop(give_back(stream));
                }
            }));
        }
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        for listener in &self.listeners {
            shutdown(listener, Shutdown::Both).ok();
        }
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn give_back(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// For so long, one connection after another: a byte there, a byte back, and a reset, which leaves nothing behind. How
/// long each took, and all of them.
pub(crate) fn connections(
    pod: &Namespace,
    to: [u8; 4],
    time: Duration,
) -> Result<(Vec<Duration>, Duration), BenchError> {
    let to = SocketAddr::from((to, ADMITTED));
    ask(pod, move || {
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < time {
            let begins = Instant::now();
            let mut stream = connect(to)?;
            exchange(&mut stream)?;
            sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO))?;
            drop(stream);
            times.push(begins.elapsed());
        }
        Ok((times, began.elapsed()))
    })
}

/// For so long, a byte there and a byte back on one connection; how long each took.
pub(crate) fn exchanges(pod: &Namespace, to: [u8; 4], time: Duration) -> Result<Vec<Duration>, BenchError> {
    let to = SocketAddr::from((to, ADMITTED));
    ask(pod, move || {
        let mut stream = connect(to)?;
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < time {
            let begins = Instant::now();
            exchange(&mut stream)?;
            times.push(begins.elapsed());
        }
        Ok(times)
    })
}

/// Whether a connection to the port comes about that no policy admits.
pub(crate) fn is_open(pod: &Namespace, to: [u8; 4]) -> Result<bool, BenchError> {
    let to = SocketAddr::from((to, REFUSED));
    Ok(pod.run(|| TcpStream::connect_timeout(&to, SILENCE).is_ok())?)
}

fn ask<T: Send>(pod: &Namespace, work: impl FnOnce() -> io::Result<T> + Send) -> Result<T, BenchError> {
    let done = pod.run(|| {
        stay_on_one_core();
        work()
    })?;
    done.map_err(|source| BenchError::system("ask one pod from the other", source))
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])
}

/// Both pods on the same core: so all that is between them is work of that core, and none waits for the other to wake.
fn stay_on_one_core() {
    stay_on_core(0);
}

/// Has this thread run there alone.
pub(crate) fn stay_on_core(number: usize) {
    let mut core = CpuSet::new();
    core.set(number);
    // Where this may not be done, they are wherever they are.
    sched_setaffinity(None, &core).ok();
}
