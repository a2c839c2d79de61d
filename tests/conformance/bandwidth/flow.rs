//! Traffic in one direction, and how much of it arrives.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use selvedge_netns::Namespace;

/// The port that is sent to.
const PORT: u16 = 9;

/// What a datagram carries, and what is around it in a frame of IPv4.
const PAYLOAD: usize = 1400;
const AROUND: usize = 42;

/// How long traffic flows before it is measured, so that no burst counts, and how long it is measured.
const BEFORE: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(2);

/// What carries the traffic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    /// As much as the connection takes.
    Tcp,
    /// So many bits a second, whatever becomes of them.
    Udp(u32),
}

/// Traffic from one namespace to an address in another.
#[derive(Debug)]
pub(crate) struct Flow<'a> {
    pub(crate) from: &'a Namespace,
    pub(crate) to: &'a Namespace,
    pub(crate) address: IpAddr,
    pub(crate) transport: Transport,
}

impl Flow<'_> {
    /// How many bits a second arrive, without their headers.
    pub(crate) fn rate(&self) -> f64 {
        match self.transport {
            Transport::Tcp => self.rate_of_connection(),
            Transport::Udp(offered) => self.rate_of_datagrams(offered),
        }
    }

    fn rate_of_connection(&self) -> f64 {
        let listener = inside(self.to, || TcpListener::bind((anywhere(self.address), PORT)));
        let mut sending = inside(self.from, || TcpStream::connect((self.address, PORT)));
        let (mut receiving, _) = listener.accept().unwrap();
        receiving.set_read_timeout(Some(MEASURED)).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || while sending.write_all(&[0; 65536]).is_ok() {});
            let rate = measure(|buffer| receiving.read(buffer));
            // What is still sent is answered with a reset, which ends the sender.
            drop(receiving);
            rate
        })
    }

    fn rate_of_datagrams(&self, offered: u32) -> f64 {
        let (sending, receiving) = self.sockets();
        let going = Arc::new(());
        let gone = Arc::downgrade(&going);
        thread::scope(|scope| {
            scope.spawn(move || send(&sending, offered, || gone.strong_count() > 0));
            // However measuring ends, the sender ends after it.
            let _going = going;
            measure(|buffer| receiving.recv(buffer))
        })
    }

    /// Sends datagrams of so many bytes in all as fast as can be; how many bytes arrive, frames and all.
    pub(crate) fn blast(&self, bytes: usize) -> usize {
        let (sending, receiving) = self.sockets();
        // The neighbours get to know each other.
        sending.send(&[0]).unwrap();
        uninterrupted(|| receiving.recv(&mut [0])).unwrap();
        thread::sleep(Duration::from_millis(100));
        for _ in 0..bytes / (PAYLOAD + AROUND) {
            sending.send(&[0; PAYLOAD]).ok();
        }
        receiving.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let arrived = std::iter::from_fn(|| uninterrupted(|| receiving.recv(&mut [0; PAYLOAD])).ok());
        arrived.map(|payload| payload + AROUND).sum()
    }

    /// A socket that sends to the other, with room for everything that arrives while nobody reads.
    fn sockets(&self) -> (UdpSocket, UdpSocket) {
        let receiving = inside(self.to, || UdpSocket::bind((anywhere(self.address), PORT)));
        set_socket_recv_buffer_size_force(&receiving, 8 << 20).unwrap();
        receiving.set_read_timeout(Some(MEASURED)).unwrap();
        let sending = inside(self.from, || UdpSocket::bind((anywhere(self.address), 0)));
        inside(self.from, || sending.connect((self.address, PORT)));
        (sending, receiving)
    }
}

/// Sends so many bits a second for as long as it is wanted, as far as the machine is fast enough.
fn send(socket: &UdpSocket, rate: u32, wanted: impl Fn() -> bool) {
    let (begun, mut bytes) = (Instant::now(), 0.0);
    while wanted() {
        if bytes < begun.elapsed().as_secs_f64() * f64::from(rate) / 8.0 {
            // A queue that is full may be told to a sender on the same machine.
            socket.send(&[0; PAYLOAD]).ok();
            bytes += 1400.0;
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn inside<T: Send>(place: &Namespace, act: impl FnOnce() -> io::Result<T> + Send) -> T {
    place.run(act).unwrap_or_else(|error| panic!("{error}")).unwrap_or_else(|error| panic!("{error}"))
}

fn anywhere(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Reads again after a signal, which nobody does where there is a time limit.
fn uninterrupted(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// The bits a second that are read, once it has gone on for a while.
fn measure(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> f64 {
    let mut buffer = vec![0; 1 << 18];
    let mut for_as_long_as = |time: Duration| {
        let (begun, mut bytes) = (Instant::now(), 0.0);
        while begun.elapsed() < time {
            let read = uninterrupted(|| read(&mut buffer))
                .unwrap_or_else(|error| panic!("nothing arrives: {error}"));
            bytes += f64::from(u32::try_from(read).unwrap());
        }
        bytes * 8.0 / begun.elapsed().as_secs_f64()
    };
    for_as_long_as(BEFORE);
    for_as_long_as(MEASURED)
}
