//! TCP between namespaces: somebody who answers, a stream that must not break, connections that must succeed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::Shutdown as Both;
use selvedge_lab::patience::patience;
use selvedge_netns::Namespace;

/// The port that is answered.
const PORT: u16 = 7;

/// How long a packet may be on its way, with all its repetitions, before a connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends back whatever comes on a TCP port of a namespace, in both families, until dropped.
#[derive(Debug)]
pub struct Echo {
    listener: Arc<TcpListener>,
    acceptor: Option<JoinHandle<()>>,
}

/// A connection to an [`Echo`] on which numbers go there and back all the time.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<io::Result<u64>>,
    reader: JoinHandle<io::Result<(u64, Duration)>>,
}

/// One new connection to an [`Echo`] after another.
#[derive(Debug)]
pub struct Knocking {
    stop: Arc<AtomicBool>,
    knocker: JoinHandle<io::Result<u64>>,
}

impl Echo {
    /// Begins to answer in a namespace.
    ///
    /// # Panics
    /// If it can't.
    pub fn serve(place: &Namespace) -> Self {
        let listener = place.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)));
        let listener = listener.unwrap_or_else(|error| panic!("{error}"));
        let listener = Arc::new(listener.unwrap_or_else(|error| panic!("listen on port {PORT}: {error}")));
        let accepting = Arc::clone(&listener);
        let acceptor = thread::spawn(move || {
            // Accepting fails once the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                thread::spawn(move || echo(&stream));
            }
        });
        Self { listener, acceptor: Some(acceptor) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let told = rustix::net::shutdown(&self.listener, Both::Both);
        if let Some(acceptor) = self.acceptor.take().filter(|_| told.is_ok()) {
            drop(acceptor.join());
        }
    }
}

/// Ends when the other side does, in whatever way.
fn echo(stream: &TcpStream) {
    let (mut from, mut to) = (stream, stream);
    drop(io::copy(&mut from, &mut to));
    drop(stream.shutdown(Shutdown::Write));
}

/// Connects from a namespace to the echo at an address.
///
/// # Errors
/// What the system says, at the latest after some seconds.
pub fn connect(from: &Namespace, to: IpAddr) -> io::Result<TcpStream> {
    let connected = from.run(|| TcpStream::connect_timeout(&SocketAddr::new(to, PORT), patience(PATIENCE)));
    let stream = connected.map_err(io::Error::other)??;
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    stream.set_write_timeout(Some(patience(PATIENCE)))?;
    Ok(stream)
}

/// Connects from a namespace to the echo at an address and has one byte sent back.
///
/// # Errors
/// As [`connect`], and where no answer comes.
pub fn knock(from: &Namespace, to: IpAddr) -> io::Result<()> {
    let mut stream = connect(from, to)?;
    stream.write_all(&[42])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer == [42] { Ok(()) } else { Err(io::Error::other("another byte came back")) }
}

impl Stream {
    /// Opens the connection and begins.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn open(from: &Namespace, to: IpAddr) -> io::Result<Self> {
        Self::open_for(from, to, PATIENCE)
    }

    /// One that counts as broken only after so long a silence.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn open_for(from: &Namespace, to: IpAddr, silence: Duration) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let sending = connect(from, to)?;
        sending.set_read_timeout(Some(patience(silence)))?;
        sending.set_write_timeout(Some(patience(silence)))?;
        let receiving = sending.try_clone()?;
        let stopped = Arc::clone(&stop);
        let writer = thread::spawn(move || send_numbers(sending, &stopped));
        let reader = thread::spawn(move || receive_numbers(receiving));
        Ok(Self { stop, writer, reader })
    }

    /// Ends the stream; how many numbers went there and back.
    ///
    /// # Panics
    /// If the connection broke, or a number was lost or altered.
    pub fn close(self) -> u64 {
        self.close_timed().0
    }

    /// Ends the stream; how many numbers went there and back, and how long none came, at most.
    ///
    /// # Panics
    /// As [`Self::close`].
    pub fn close_timed(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        let (sent, (received, silence)) = (ended(self.writer), ended(self.reader));
        assert_eq!(sent, received, "numbers were lost");
        (received, silence)
    }
}

impl Knocking {
    /// Begins.
    pub fn start(from: &Namespace, to: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let from = from.try_clone().unwrap_or_else(|error| panic!("{error}"));
        let knocker = thread::spawn(move || {
            let mut count = 0;
            while !stopped.load(Ordering::SeqCst) {
                knock(&from, to)?;
                count += 1;
                thread::sleep(Duration::from_millis(2));
            }
            Ok(count)
        });
        Self { stop, knocker }
    }

    /// Ends it; how many connections were made.
    ///
    /// # Panics
    /// If one failed.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let count = self.knocker.join().unwrap_or_else(|_| panic!("a panic"));
        count.unwrap_or_else(|error| panic!("a new connection failed: {error}"))
    }
}

fn ended<T>(end: JoinHandle<io::Result<T>>) -> T {
    let end = end.join().unwrap_or_else(|_| panic!("a panic"));
    end.unwrap_or_else(|error| panic!("the stream broke: {error}"))
}

fn send_numbers(mut stream: TcpStream, stopped: &AtomicBool) -> io::Result<u64> {
    let mut next: u64 = 0;
    while !stopped.load(Ordering::SeqCst) {
        let block: Vec<u8> = (next..next + 64).flat_map(u64::to_be_bytes).collect();
        stream.write_all(&block)?;
        next += 64;
        thread::sleep(Duration::from_millis(1));
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(next)
}

fn receive_numbers(mut stream: TcpStream) -> io::Result<(u64, Duration)> {
    let (mut last, mut silence) = (Instant::now(), Duration::ZERO);
    let mut next: u64 = 0;
    let mut number = [0; 8];
    loop {
        // All that was sent comes back in whole numbers, or the count is wrong in the end.
        match stream.read_exact(&mut number) {
            Ok(()) if u64::from_be_bytes(number) == next => {
                silence = silence.max(last.elapsed());
                last = Instant::now();
                next += 1;
            }
            Ok(()) => return Err(io::Error::other(format!("{number:x?} came instead of {next}"))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((next, silence)),
            Err(error) => return Err(error),
        }
    }
}
