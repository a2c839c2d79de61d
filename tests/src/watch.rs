//! What passes, looked at: how long nothing came, and what could be read on the way.
#![expect(clippy::unwrap_used, reason = "a test that finds its ground missing has failed")]

use std::net::{IpAddr, UdpSocket};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, sockopt};
use selvedge_netns::Namespace;

/// What each of these datagrams says.
pub const DRIP: [u8; 100] = [7; 100];

/// Datagrams that are sent every few milliseconds from one place to another.
#[derive(Debug)]
pub struct Drip {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Vec<Instant>>,
}

impl Drip {
    /// Begins, towards a port that this listens on.
    ///
    /// # Panics
    /// If it can't.
    pub fn start(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr), port: u16) -> Self {
        let receiver = to.0.run(|| UdpSocket::bind((to.1, port))).unwrap().unwrap();
        let sender = from.0.run(|| UdpSocket::bind((from.1, 0))).unwrap().unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let [sending, receiving] = [Arc::clone(&stop), Arc::clone(&stop)];
        let to = to.1;
        let sender = thread::spawn(move || {
            while !sending.load(Ordering::SeqCst) {
                sender.send_to(&DRIP, (to, port)).ok();
                thread::sleep(Duration::from_millis(2));
            }
        });
        let receiver = thread::spawn(move || {
            let mut came = Vec::new();
            while !receiving.load(Ordering::SeqCst) {
                if receiver.recv_from(&mut [0; 200]).is_ok() {
                    came.push(Instant::now());
                }
            }
            came
        });
        Self { stop, sender, receiver }
    }

    /// How long nothing came, at most, while this went on.
    ///
    /// # Panics
    /// If next to nothing came at all.
    pub fn longest_silence(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        self.sender.join().unwrap();
        let came = self.receiver.join().unwrap();
        assert!(came.len() > 10, "{} datagrams came", came.len());
        came.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }
}

/// All that passes a namespace, as the kernel hands it out with the link's headers.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// Begins.
    ///
    /// # Panics
    /// If this user may not.
    pub fn start(place: &Namespace) -> Self {
        // ETH_P_ALL, in the network's order.
        let all = Protocol::from_raw(NonZero::new(u32::from(3u16.to_be())).unwrap());
        let open = || rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, Some(all));
        let socket = place.run(open).unwrap().unwrap();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(100)))
            .unwrap();
        sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reader = thread::spawn(move || {
            let (mut frames, mut buffer) = (Vec::new(), vec![0; 1 << 17]);
            loop {
                match rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((_, length)) => frames.push(buffer[..length].to_vec()),
                    // Only once all is read.
                    Err(_) if stopped.load(Ordering::SeqCst) => return frames,
                    Err(_) => {}
                }
            }
        });
        Self { stop, reader }
    }

    /// Ends it: each frame that passed.
    ///
    /// # Panics
    /// If it has broken off.
    pub fn end(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::SeqCst);
        self.reader.join().unwrap()
    }
}

/// In how many frames these bytes are.
pub fn frames_with(frames: &[Vec<u8>], bytes: &[u8]) -> usize {
    let has = |frame: &&Vec<u8>| {
        let mut rest = &frame[..];
        while let Some(at) = rest.iter().position(|byte| *byte == bytes[0]) {
            if rest[at..].starts_with(bytes) {
                return true;
            }
            rest = &rest[at + 1..];
        }
        false
    };
    frames.iter().filter(has).count()
}
