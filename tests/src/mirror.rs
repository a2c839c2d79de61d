//! Somebody in a pod who tells whoever asks by whom he was asked.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use selvedge_lab::patience::patience;
use selvedge_model::Transport;
use selvedge_netns::Namespace;

/// How long an answer over TCP may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a datagram is sent, and how long each answer is waited for.
const DATAGRAMS: (usize, Duration) = (5, Duration::from_millis(400));

/// How long nothing must come for nothing to be there.
const SILENCE: Duration = Duration::from_millis(400);

/// Who answered, and as whom he was asked.
pub type Heard = (String, SocketAddr);

/// Answers on a TCP and a UDP port of a namespace, in both families, until dropped.
#[derive(Debug)]
pub struct Mirror {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Mirror {
    /// Begins to answer, in front of each answer a name.
    ///
    /// # Panics
    /// If it can't.
    pub fn serve(place: &Namespace, port: u16, name: &str) -> Self {
        let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listen = || -> io::Result<_> {
            let (tcp, udp) = (TcpListener::bind(at)?, UdpSocket::bind(at)?);
            tcp.set_nonblocking(true)?;
            udp.set_read_timeout(Some(Duration::from_millis(20)))?;
            Ok((tcp, udp))
        };
        let listening = place.run(listen).unwrap_or_else(|error| panic!("{error}"));
        let (tcp, udp) = listening.unwrap_or_else(|error| panic!("listen on port {port}: {error}"));
        let stop = Arc::new(AtomicBool::new(false));
        let over = |work: Box<dyn Fn() + Send>| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    work();
                }
            })
        };
        let names = [name.to_owned(), name.to_owned()];
        let [first, second] = names;
        let threads = vec![
            over(Box::new(move || answer_stream(&tcp, &first))),
            over(Box::new(move || answer_datagram(&udp, &second))),
        ];
        Self { stop, threads }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn answer(name: &str, asked_by: SocketAddr) -> String {
    format!("{name} {}", SocketAddr::new(asked_by.ip().to_canonical(), asked_by.port()))
}

fn answer_stream(tcp: &TcpListener, name: &str) {
    match tcp.accept() {
        Ok((mut stream, from)) => drop(stream.write_all(answer(name, from).as_bytes())),
        Err(_) => thread::sleep(Duration::from_millis(2)),
    }
}

fn answer_datagram(udp: &UdpSocket, name: &str) {
    let mut asked = [0; 16];
    if let Ok((length, from)) = udp.recv_from(&mut asked) {
        // The question comes first, so that nobody takes a late answer for one to his last question.
        drop(udp.send_to(&[&asked[..length], answer(name, from).as_bytes()].concat(), from));
    }
}

/// Asks from a namespace; who answered, and as whom he was asked.
///
/// # Errors
/// What the system says, and where no answer comes in time.
pub fn ask(from: &Namespace, transport: Transport, at: SocketAddr) -> io::Result<Heard> {
    let answer = from.run(|| match transport {
        Transport::Tcp => ask_stream(at),
        Transport::Udp => Asker::new(from, at.is_ipv4(), 0)?.ask(at),
        Transport::Sctp => Err(ErrorKind::Unsupported.into()),
    });
    answer.map_err(io::Error::other)?
}

/// Fails if a namespace gets an answer there.
///
/// # Panics
/// If it does.
pub fn must_be_silent(from: &Namespace, transport: Transport, at: SocketAddr) {
    let heard = from.run(|| match transport {
        Transport::Tcp => TcpStream::connect_timeout(&at, patience(SILENCE)).map(drop).err(),
        Transport::Udp => Asker::new(from, at.is_ipv4(), 0)
            .and_then(|asker| asker.ask_once(at, patience(SILENCE)))
            .map(drop)
            .err(),
        Transport::Sctp => Some(ErrorKind::Unsupported.into()),
    });
    let refused = heard.unwrap_or_else(|error| panic!("{error}"));
    assert!(refused.is_some(), "{transport} {at} answers");
}

fn ask_stream(at: SocketAddr) -> io::Result<Heard> {
    let mut stream = TcpStream::connect_timeout(&at, patience(PATIENCE))?;
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    understood(&text)
}

/// Asks over UDP, from one port all the time.
#[derive(Debug)]
pub struct Asker {
    socket: UdpSocket,
    asked: Cell<u32>,
}

impl Asker {
    /// In a namespace, from a port of its own or any.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(place: &Namespace, v4: bool, port: u16) -> io::Result<Self> {
        let any = if v4 { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = place.run(|| UdpSocket::bind((any, port))).map_err(io::Error::other)??;
        Ok(Self { socket, asked: Cell::new(0) })
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// What the system says, and where no answer comes in time.
    pub fn ask(&self, at: SocketAddr) -> io::Result<Heard> {
        let (tries, wait) = (DATAGRAMS.0, patience(DATAGRAMS.1));
        let mut last = self.ask_once(at, wait);
        for _ in 1..tries {
            if last.is_ok() {
                break;
            }
            last = self.ask_once(at, wait);
        }
        last
    }

    /// Asks once.
    ///
    /// # Errors
    /// What the system says, and where no answer comes in time.
    pub fn ask_once(&self, at: SocketAddr, wait: Duration) -> io::Result<Heard> {
        self.asked.set(self.asked.get() + 1);
        let question = self.asked.get().to_be_bytes();
        self.socket.send_to(&question, at)?;
        let until = Instant::now() + wait;
        let mut text = [0; 128];
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left))?;
            let (length, from) = self.socket.recv_from(&mut text)?;
            let Some(answer) = text[..length].strip_prefix(&question) else { continue };
            if from != at {
                return Err(io::Error::other(format!("{from} answers for {at}")));
            }
            return understood(&String::from_utf8_lossy(answer));
        }
    }
}

fn understood(text: &str) -> io::Result<Heard> {
    let parsed = text.split_once(' ').and_then(|(name, seen)| Some((name.to_owned(), seen.parse().ok()?)));
    parsed.ok_or_else(|| io::Error::other(format!("no answer: {text:?}")))
}
