//! As many bytes as one pod can send another in a while, and what the machine has done for them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use rustix::param::clock_ticks_per_second;
use selvedge_netns::Namespace;

use crate::error::BenchError;
use crate::policy::traffic::stay_on_core;

/// Beside the ports of the other traffic.
const PORT: u16 = 8090;
/// What is handed to the kernel, and taken from it, at once.
const CHUNK: usize = 128 << 10;
/// Who sends, and who receives; where there is one core alone, both are on it.
const CORES: (usize, usize) = (0, 1);

/// A pod that takes all that comes, and says at the end how much it was.
#[derive(Debug)]
pub(crate) struct Sink {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

/// What one stream came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    bytes: u64,
    took: Duration,
    /// What all processors of the machine were busy for meanwhile, whoever with.
    busy: Duration,
}

impl Sink {
    pub(crate) fn open(pod: &Namespace) -> Result<Self, BenchError> {
        let failed = |source| BenchError::system("listen in a pod", source);
        let listener = pod.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))?.map_err(failed)?;
        let taking = listener.try_clone().map_err(failed)?;
        let thread = thread::spawn(move || {
            stay_on_core(CORES.1);
            // A listener that is shut down accepts no more. Who sends no more hears nothing, and says so.
            while let Ok((stream, _)) = taking.accept() {
                drop(take(stream));
            }
        });
        Ok(Self { listener, thread: Some(thread) })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        shutdown(&self.listener, Shutdown::Both).ok();
        self.thread.take().map(JoinHandle::join).map(drop).unwrap_or_default();
    }
}

fn take(mut stream: TcpStream) -> io::Result<()> {
    let (mut chunk, mut bytes) = (vec![0; CHUNK], 0_u64);
    loop {
        match stream.read(&mut chunk)? {
            0 => return stream.write_all(&bytes.to_be_bytes()),
            some => bytes += some as u64,
        }
    }
}

/// Sends for so long.
pub(crate) fn send(pod: &Namespace, to: [u8; 4], time: Duration) -> Result<Moved, BenchError> {
    let sent = pod.run(|| {
        stay_on_core(CORES.0);
        let mut stream = TcpStream::connect(SocketAddr::from((to, PORT)))?;
        let chunk = vec![0; CHUNK];
        let (before, began) = (busy()?, Instant::now());
        while began.elapsed() < time {
            stream.write_all(&chunk)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes)?;
        let took = began.elapsed();
        Ok(Moved { bytes: u64::from_be_bytes(bytes), took, busy: busy()?.saturating_sub(before) })
    })?;
    sent.map_err(|source: io::Error| BenchError::system("send from one pod to the other", source))
}

impl Moved {
    /// In Gbit/s.
    pub(crate) fn rate(&self) -> f64 {
        self.gigabits() / self.took.as_secs_f64()
    }

    /// The machine's time for a gigabit, in milliseconds.
    pub(crate) fn cost(&self) -> f64 {
        self.busy.as_secs_f64() * 1e3 / self.gigabits()
    }

    fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9
    }
}

/// What all processors have been busy for since the machine was started: with programs, the kernel and interrupts.
fn busy() -> io::Result<Duration> {
    let text = fs::read_to_string(Path::new("/proc/stat"))?;
    let ticks = ticks(&text).ok_or_else(|| io::Error::other("/proc/stat has no line of all processors"))?;
    Ok(Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).unwrap_or(100))
}

/// The ticks of the first line but those of idling and of waiting for disks; those of guests are among a program's.
fn ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, interrupts, soft, stolen, ..] = fields[..] else { return None };
    Some(user + nice + system + interrupts + soft + stolen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idling_and_waiting_is_not_being_busy() {
        let stat = "cpu  1 20 300 999999 888888 4000 50000 600000 70 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(ticks(stat), Some(654_321));
        assert_eq!(ticks("intr 1 2 3"), None);
    }

    #[test]
    fn a_gigabit_in_a_second_is_a_rate_of_one() {
        let (bytes, took) = (125_000_000, Duration::from_secs(1));
        let moved = Moved { bytes, took, busy: Duration::from_millis(300) };
        assert_eq!((moved.rate(), moved.cost()), (1.0, 300.0));
    }
}
