//! Flows on which bytes go all the time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketType};
use selvedge_netns::Namespace;

/// How often each end that talks sends a byte.
const BEAT: Duration = Duration::from_millis(5);
/// Silence of that length is taken for the end.
const SILENCE: Duration = Duration::from_millis(500);
/// What may take its time, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

/// A flow, on which one end or both talk until it is dropped.
pub(super) struct Talk {
    what: &'static str,
    /// The protocol and the port that its answers come from.
    pub(super) to: (u8, u16),
    began: Instant,
    /// What arrived at each end that is talked to.
    heard: Vec<Arc<Heard>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Who talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Talks {
    Both,
    /// Only the end that was called.
    Server,
}

/// What has arrived at one end.
#[derive(Default)]
struct Heard {
    bytes: AtomicU64,
    /// When the last one did, in microseconds since the talk began.
    last: AtomicU64,
}

/// One end of a flow.
enum Line {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Talk {
    /// A connection from a namespace, from that port or any, to a port of another one, called by an address that leads
    /// there.
    pub(super) fn tcp(
        what: &'static str,
        (from, source): (&Namespace, Option<SocketAddr>),
        (to, port, at): (&Namespace, u16, SocketAddr),
        who: Talks,
    ) -> Self {
        let listener = to.run(|| TcpListener::bind(("::", port)).unwrap()).unwrap();
        let caller = from.run(|| dial(source, at)).unwrap();
        let caller = caller.unwrap_or_else(|error| panic!("{what}: connect to {at}: {error}"));
        let (called, _) = listener.accept().unwrap();
        sockopt::set_socket_linger(&called, Some(Duration::ZERO)).unwrap();
        Self::new(what, (6, port), [Line::Tcp(caller), Line::Tcp(called)], who)
    }

    /// Datagrams between two addresses, both ways from the first one on.
    pub(super) fn udp(what: &'static str, ends: [(&Namespace, SocketAddr); 2]) -> Self {
        let [one, other] = ends;
        let line = |(namespace, own): (&Namespace, SocketAddr), peer: SocketAddr| {
            let socket = namespace.run(|| UdpSocket::bind(own).unwrap()).unwrap();
            namespace.run(|| socket.connect(peer).unwrap()).unwrap();
            socket
        };
        let (caller, called) = (line(one, other.1), line(other, one.1));
        // It is the first end that opens the flow.
        called.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let until = Instant::now() + PATIENCE;
        let arrives = || caller.send(b"x").is_ok() && called.recv(&mut [0; 8]).is_ok();
        while !arrives() {
            assert!(Instant::now() < until, "{what}: nothing arrives");
        }
        Self::new(what, (17, other.1.port()), [Line::Udp(caller), Line::Udp(called)], Talks::Both)
    }

    fn new(what: &'static str, to: (u8, u16), [caller, called]: [Line; 2], who: Talks) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut talk = Self { what, to, began: Instant::now(), heard: Vec::new(), stop, threads: Vec::new() };
        let [caller, called] = [caller, called].map(Arc::new);
        talk.way(&called, &caller);
        if who == Talks::Both {
            talk.way(&caller, &called);
        }
        talk.goes_on();
        talk
    }

    /// One end talks, the other listens.
    fn way(&mut self, from: &Arc<Line>, to: &Arc<Line>) {
        let heard = Arc::new(Heard::default());
        self.heard.push(Arc::clone(&heard));
        let (stop, from) = (Arc::clone(&self.stop), Arc::clone(from));
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // What is cut may tell so by an error; it tries again all the same.
                drop(from.send());
                thread::sleep(BEAT);
            }
        }));
        let (stop, to, began) = (Arc::clone(&self.stop), Arc::clone(to), self.began);
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(count) = to.receive() {
                    heard.bytes.fetch_add(u64::try_from(count).unwrap(), Ordering::Relaxed);
                    let now = u64::try_from(began.elapsed().as_micros()).unwrap();
                    heard.last.store(now, Ordering::Relaxed);
                }
            }
        }));
    }

    fn bytes(&self) -> Vec<u64> {
        self.heard.iter().map(|heard| heard.bytes.load(Ordering::Relaxed)).collect()
    }

    /// More arrives at each end that is talked to.
    pub(super) fn goes_on(&self) {
        let before = self.bytes();
        let until = Instant::now() + PATIENCE;
        while !self.bytes().iter().zip(&before).all(|(now, before)| now >= &(before + 10)) {
            assert!(
                Instant::now() < until,
                "{}: it stood still at {before:?}: {:?}",
                self.what,
                self.bytes()
            );
            thread::sleep(BEAT);
        }
    }

    /// Nothing arrives any more at either end; prints how long after that moment something last did.
    pub(super) fn is_cut(&self, since: Instant) {
        let until = Instant::now() + PATIENCE;
        let mut before = self.bytes();
        loop {
            thread::sleep(SILENCE);
            let now = self.bytes();
            if now == before {
                break;
            }
            assert!(Instant::now() < until, "{}: it goes on: {before:?}, {now:?}", self.what);
            before = now;
        }
        let last = self.heard.iter().map(|heard| heard.last.load(Ordering::Relaxed)).max().unwrap_or(0);
        let last = Duration::from_micros(last).saturating_sub(since.saturating_duration_since(self.began));
        println!("{}: the last byte arrived {last:?} after the change began", self.what);
    }
}

impl Drop for Talk {
    /// Ends at both ends at once, without a word to the other.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

impl Line {
    fn send(&self) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => {
                let mut stream: &TcpStream = stream;
                stream.write(b"x")
            }
            Self::Udp(socket) => socket.send(b"x"),
        }
    }

    fn receive(&self) -> io::Result<usize> {
        let mut buffer = [0; 512];
        let wait = Some(Duration::from_millis(50));
        let count = match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(wait)?;
                let mut stream: &TcpStream = stream;
                stream.read(&mut buffer)?
            }
            Self::Udp(socket) => {
                socket.set_read_timeout(wait)?;
                socket.recv(&mut buffer)?
            }
        };
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }
}

/// Connects from an address, which may have been used a moment ago. What is left open is broken off, not ended.
fn dial(source: Option<SocketAddr>, at: SocketAddr) -> io::Result<TcpStream> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket: OwnedFd = rustix::net::socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    if let Some(source) = source {
        rustix::net::bind(&socket, &source)?;
    }
    rustix::net::connect(&socket, &at)?;
    Ok(TcpStream::from(socket))
}
